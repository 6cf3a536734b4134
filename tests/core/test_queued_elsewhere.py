"""The queue before an upstream beside failover, other processes, and a store that fails."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from plugins.failover import Failover
from proxy.api import StoreError
from proxy.model.quota import Tally
from proxy.store.sqlite import SQLiteStore
from proxy.telemetry.log import ExchangeLog, make
from proxy.testkit import Played, Stage, TurnedClock, answer

from .queueing import (
    DRAW,
    PICTURE,
    Sliding,
    asks,
    begin,
    level,
    of,
    prompts,
    quiet,
    staged,
    turned,
)

# --- With failover


TWO = {"a": answer(json=PICTURE), "b": answer(json={"data": PICTURE["data"] * 2})}


def names(stage: Stage) -> list[str]:
    return [asked.upstream for asked in stage.asked]


async def test_what_would_wait_too_long_goes_to_the_next_upstream_at_once() -> None:
    settings = of('images = "1 / 1m"', 'wait = "30s"', "a") + of('images = "5 / 1m"', name="b")
    async with staged(Failover(), settings=settings, upstream=TWO, holds=("a", "b")) as stage:
        first = await stage.play(DRAW, json=asks("x"))
        second = await stage.play(DRAW, json=asks("x"))
        third = await stage.play(DRAW, json=asks("x"))
        assert [played.status for played in (first, second, third)] == [200, 200, 200]
        assert names(stage) == ["a", "b", "b"]
        assert third.headers.get("x-framegate-attempts") == "a=queue-late, b=200"
        assert not [line for line in stage.log if line["event"] in ("upstream_benched", "upstream_limits_lowered")]
        stage.clock.turn(63)
        assert (await stage.play(DRAW, json=asks("x"))).headers.get("x-framegate-upstream") == "a", "nothing rests"


async def test_where_all_lines_are_too_long_the_client_hears_the_shortest_wait() -> None:
    settings = of('images = "1 / 5m"', 'wait = "30s"', "a") + of('images = "1 / 1m"', 'wait = "30s"', "b")
    async with staged(Failover(), settings=settings, upstream=TWO, holds=("a", "b")) as stage:
        for _ in range(2):
            assert (await stage.play(DRAW, json=asks("x"))).status == 200
        played = await stage.play(DRAW, json=asks("x"))
        assert (played.status, played.error["code"]) == (503, "queue_unavailable")
        assert 59 <= int(played.headers.get("retry-after")) <= 62
        assert played.headers.get("x-should-retry") == "true"
        assert played.headers.get("x-framegate-attempts") == "a=queue-late, b=queue-late"
        assert names(stage) == ["a", "b"]


async def test_an_attempt_that_failed_holds_no_slot_while_the_next_is_made() -> None:
    hold = asyncio.Event()
    down = answer(
        500,
        pieces=[b'{"error":', b'{"message":"no","type":"server_error"}}'],
        headers={"content-type": "application/json"},
    )
    settings = of("concurrent = 1", name="a") + of("concurrent = 9", name="b")
    upstream: Mapping[str, Any] = {"a": down, "b": answer(json=PICTURE, wait=hold)}
    async with staged(Failover(), settings=settings, upstream=upstream, holds=("a", "b")) as stage:
        playing = begin(stage, "x")
        await stage.reached(2)
        assert [await level(stage, f"upstream:{name}|concurrent") for name in "ab"] == [0, 1]
        hold.set()
        assert (await playing).status == 200


# --- Several processes, and a store that fails


MASTER = {"FRAMEGATE_MASTER_KEY": "the-same-on-every-machine"}  # that shares a store


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A `[store]` that several processes share."""
    if request.param == "sqlite":
        return f'[store]\nurl = "sqlite:{tmp_path}/x.db"\n'
    server, prefix = request.getfixturevalue("shared_server"), request.getfixturevalue("prefix")
    return f'[store]\nurl = "{server.url}"\nprefix = "{prefix}"\n'


async def test_two_processes_on_one_store_share_the_limits(store: str) -> None:
    clock = TurnedClock()
    upstream = Sliding(clock, 10)
    settings = of('images = "10 / 1m"') + store
    async with (
        staged(settings=settings, upstream=upstream, clock=clock, environ=MASTER) as one,
        staged(settings=settings, upstream=upstream, clock=clock, environ=MASTER) as two,
    ):
        begun = [begin(stage, str(i)) for stage in (one, two) for i in range(20)]
        await turned(one, lambda: len(upstream.drawn) == 40)
        assert {(await playing).status for playing in begun} == {200}
        assert upstream.refused == 0
        assert all(prompts(stage) == [str(i) for i in range(20)] for stage in (one, two)), "in order in each"


async def test_a_slot_that_another_process_gives_back_is_seen_soon(store: str) -> None:
    ends = asyncio.Event()
    settings = of("concurrent = 1") + store
    clock = TurnedClock()
    async with (
        staged(settings=settings, upstream=answer(wait=ends), clock=clock, environ=MASTER) as one,
        staged(settings=settings, clock=clock, environ=MASTER) as two,
    ):
        first = begin(one, "a")
        await one.reached(1)
        second = begin(two, "b")
        await quiet()
        assert two.asked == []
        ends.set()
        assert (await first).status == 200
        await turned(two, lambda: len(two.asked) == 1, step=0.05, most=1.0)
        assert (await second).status == 200


async def test_without_the_store_each_process_counts_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = SQLiteStore.tally
    down = False

    async def failing(self: SQLiteStore, asked: Tally) -> Any:
        if down:
            raise StoreError("The store is gone.")
        return await tally(self, asked)

    monkeypatch.setattr(SQLiteStore, "tally", failing)
    clock = TurnedClock()
    async with staged(settings=of('images = "2 / 1m"'), clock=clock) as stage:
        assert (await stage.play(DRAW, json=asks("x"))).status == 200
        down = True
        begun = [begin(stage, str(i)) for i in range(3)]
        await stage.reached(3)
        await quiet()
        assert len(stage.asked) == 3, "two by this process's own count, and the third waits"
        down = False
        await turned(stage, lambda: len(stage.asked) == 4)
        assert [(await playing).status for playing in begun] == [200] * 3
        assert [line["event"] for line in stage.log if line["event"].startswith("store")] == [
            "store_failing",
            "store_back",
        ]


async def test_the_log_tells_of_the_wait() -> None:
    ended: list[Played] = []
    async with staged(settings=of('images = "1 / 1m"')) as stage:
        begun = [begin(stage, str(i)) for i in range(2)]
        await turned(stage, lambda: len(stage.asked) == 2)
        ended = [await playing for playing in begun]
    raw = io.BytesIO()
    report = ExchangeLog(make("json", raw))
    report(ended[1].exchange, ended[1].outcome)
    await asyncio.sleep(0)
    assert orjson.loads(raw.getvalue())["queued"]["main"].startswith("2; waited=6")
