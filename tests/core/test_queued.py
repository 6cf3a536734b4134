"""An upstream with limits: bursts wait in order, in vain nobody waits, and who leaves frees the place."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.api import CALLER, Caller
from proxy.core.gate import LOOK
from proxy.model.quota import Tally
from proxy.store.sqlite import SQLiteStore
from proxy.testkit import Stage, TurnedClock, answer

from .queueing import (
    DRAW,
    MAIN,
    Sliding,
    asks,
    begin,
    level,
    lines,
    of,
    prompts,
    quiet,
    staged,
    turned,
)

# --- Order


async def test_bursts_of_two_callers_wait_in_order_and_neither_hears_a_429() -> None:
    clock = TurnedClock()
    upstream = Sliding(clock, 60)
    async with staged(settings=of('images = "60 / 1m"'), upstream=upstream, clock=clock) as stage:
        plays = [begin(stage, f"{caller} {i}", caller=caller) for caller in "ab" for i in range(200)]
        took = await turned(stage, lambda: len(upstream.drawn) == 400)
        ended = [await playing for playing in plays]
        assert {played.status for played in ended} == {200} and upstream.refused == 0
        assert 6 * 60 <= took <= 6 * 66, "and no time is lost"
        order = prompts(stage)
        for caller in "ab":
            own = [prompt for prompt in order if prompt[0] == caller]
            assert own == [f"{caller} {i}" for i in range(200)], "first in, first out"
        lead = 0
        for prompt in order:
            lead += 1 if prompt[0] == "a" else -1
            assert abs(lead) <= 1, "each gets its half, of every prefix"
        assert ended[-1].headers.get("x-framegate-queue").startswith("400; waited=3")
        assert float(ended[-1].headers.get("x-framegate-overhead-ms")) < 60_000, "to wait is not our slowness"


async def test_one_with_little_goes_between_those_of_one_with_much() -> None:
    async with staged(settings=of('images = "2 / 1m"')) as stage:
        plays = [begin(stage, f"a {i}", caller="a") for i in range(6)]
        await stage.reached(2)
        plays.append(begin(stage, "b", caller="b"))
        await turned(stage, lambda: len(stage.asked) == 7)
        for playing in plays:
            assert (await playing).status == 200
        assert prompts(stage).index("b") <= 3


async def test_who_asks_for_little_does_not_overtake_who_asks_for_much() -> None:
    async with staged(settings=of('images = "10 / 1m"')) as stage:
        plays = [begin(stage, "first", 6)]
        await stage.reached(1)
        plays += [begin(stage, "much", 8), *[begin(stage, f"little {i}") for i in range(5)]]
        await quiet()
        assert prompts(stage) == ["first"]
        await turned(stage, lambda: len(stage.asked) == 7)
        for playing in plays:
            assert (await playing).status == 200
        assert prompts(stage)[:4] == ["first", "much", "little 0", "little 1"]


async def test_what_takes_nothing_of_the_limits_does_not_wait() -> None:
    async with staged(settings=of('images = "1 / 1m"')) as stage:
        first, second = begin(stage, "a"), begin(stage, "b")
        await stage.reached(1)
        assert (await stage.play("GET /v1/models")).status == 200
        talk = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}
        assert (await stage.play("POST /v1/chat/completions", json=talk)).status == 200
        second.leave()
        assert (await first).status == 200
        await second


async def test_without_a_wait_nothing_is_said_of_the_queue() -> None:
    async with staged(settings=of('images = "5 / 1m", requests = "9 / 1s", concurrent = 3')) as stage:
        await stage.play(DRAW, json=asks("opens the store"))
        stage.clock.turn(2)
        played = await stage.play(DRAW, json=asks("x"))
        assert played.status == 200 and played.headers.get("x-framegate-queue") is None


async def test_an_upstream_without_limits_has_no_queue() -> None:
    async with Stage(settings=MAIN) as stage:
        assert [span.layer for span in (await stage.play(DRAW, json=asks("x"))).exchange.spans] == ["main"]


# --- In vain nobody waits


async def test_a_full_line_refuses_at_once() -> None:
    async with staged(settings=of('images = "1 / 1m"', 'length = 2, wait = "5m"')) as stage:
        begun = [begin(stage, "served")]
        await stage.reached(1)
        begun += [begin(stage, f"waits {i}") for i in range(2)]
        await quiet()
        played = await stage.play(DRAW, json=asks("too many"))
        assert (played.status, played.error["code"]) == (503, "queue_unavailable")
        assert (
            "too many requests are waiting" in played.error["message"] and "Nothing was sent" in played.error["message"]
        )
        assert played.headers.get("x-should-retry") == "true"
        assert 175 <= int(played.headers.get("retry-after")) <= 190
        assert played.headers.get("x-framegate-queue").startswith("3; expected=18")
        assert played.headers.get("x-framegate-attempts") == "main=queue-full"
        begun[1].leave()
        await begun[1]
        await quiet()
        begun.append(begin(stage, "has a place now"))
        await turned(stage, lambda: len(stage.asked) == 3)
        assert [(await playing).status for playing in (begun[0], *begun[2:])] == [200, 200, 200]
        assert prompts(stage) == ["served", "waits 1", "has a place now"]


async def test_a_burst_for_which_there_is_room_upstream_needs_none_in_the_line() -> None:
    async with staged(settings=of('images = "9 / 1m"', "length = 1")) as stage:
        begun = [begin(stage, str(i)) for i in range(12)]
        refused = [await begun[i] for i in (10, 11)]
        assert [played.error["code"] for played in refused] == ["queue_unavailable"] * 2 and len(stage.asked) == 9
        begun[9].leave()
        for playing in begun[:10]:
            await playing


async def test_one_caller_can_not_fill_the_line_for_all() -> None:
    async with staged(settings=of('images = "1 / 1m"', 'length = 4, wait = "9m"')) as stage:
        begun = [begin(stage, "a 0", caller="a")]
        await stage.reached(1)
        begun += [begin(stage, f"a {i}", caller="a") for i in range(1, 5)]
        await quiet()
        assert (await stage.play(DRAW, json=asks("a 5"), facts={CALLER: Caller("a")})).status == 503
        begun.append(begin(stage, "b", caller="b"))
        assert (await begun[4]).error["code"] == "queue_unavailable"
        await turned(stage, lambda: len(stage.asked) == 5)
        assert [(await playing).status for playing in begun] == [200, 200, 200, 200, 503, 200]
        assert prompts(stage).index("b") <= 2


async def test_to_wait_for_a_slot_does_not_keep_the_store_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    tally, asked = SQLiteStore.tally, 0

    async def counting(self: SQLiteStore, told: Tally) -> Any:
        nonlocal asked
        asked += 1
        return await tally(self, told)

    monkeypatch.setattr(SQLiteStore, "tally", counting)
    hold = asyncio.Event()
    async with staged(settings=of("concurrent = 1"), upstream=answer(wait=hold)) as stage:
        begun = [begin(stage, str(i)) for i in range(2)]
        await stage.reached(1)
        await quiet()
        before = asked
        for _ in range(20):
            stage.clock.turn(LOOK / 2)
            await quiet()
        assert 5 <= asked - before <= 20, "ten times a second, and not all the time"
        hold.set()
        assert [(await playing).status for playing in begun] == [200, 200]


async def test_who_would_wait_too_long_is_refused_at_once() -> None:
    async with staged(settings=of('images = "2 / 1m"', 'wait = "90s"')) as stage:
        begun = [begin(stage, str(i)) for i in range(6)]
        refused = [await begun[i] for i in (4, 5)]
        assert [played.error["code"] for played in refused] == ["queue_unavailable"] * 2
        assert all(115 <= int(played.headers.get("retry-after")) <= 125 for played in refused)
        assert len(stage.asked) == 2
        played = await stage.play(DRAW, json=asks("too late"))
        assert (played.status, len(stage.asked)) == (503, 2)
        await turned(stage, lambda: len(stage.asked) == 4)
        assert [(await playing).status for playing in begun[:4]] == [200] * 4


async def test_the_deadline_counts_as_well() -> None:
    route = '[[routes]]\nmatch = "* /v1/*"\ndeadline = "30s"\n'
    async with staged(settings=of('images = "1 / 1m"') + route) as stage:
        first = await stage.play(DRAW, json=asks("a"))
        second = await stage.play(DRAW, json=asks("b"))
        assert (first.status, second.status, second.error["code"]) == (200, 503, "queue_unavailable")
        assert 59 <= int(second.headers.get("retry-after")) <= 62


async def test_a_wait_that_could_not_be_foretold_ends_in_time() -> None:
    hold = asyncio.Event()
    async with staged(settings=of("concurrent = 1", 'wait = "20s"'), upstream=answer(wait=hold)) as stage:
        first, second = begin(stage, "a"), begin(stage, "b")
        await stage.reached(1)
        took = await turned(stage, lambda: second.over)
        assert 18 <= took <= 24
        played = await second
        assert (played.status, played.error["code"]) == (503, "queue_unavailable")
        hold.set()
        assert (await first).status == 200


async def test_what_would_never_fit_is_refused_and_not_to_be_tried_again() -> None:
    async with staged(settings=of('images = "3 / 1m"')) as stage:
        played = await stage.play(DRAW, json=asks("x", 4))
        assert (played.status, played.error["code"], played.error["retryable"]) == (503, "queue_unavailable", False)
        assert (played.headers.get("x-should-retry"), played.headers.get("retry-after")) == ("false", None)
        assert stage.asked == []


@pytest.mark.parametrize("n", [-1, 10**9, "4", True, 0])
async def test_a_hostile_n_is_refused_and_counts_for_nothing(n: Any) -> None:
    async with staged(settings=of('images = "3 / 1m"')) as stage:
        played = await stage.play(DRAW, json={"model": "gpt-image-2", "prompt": "x", "n": n})
        assert (played.status, stage.asked) == (400, [])
        assert await level(stage, "upstream:main|images|60000", 60_600) == 0


# --- Who leaves


async def test_who_leaves_the_line_frees_the_place() -> None:
    async with staged(settings=of('images = "1 / 1m"')) as stage:
        begun = [begin(stage, str(i)) for i in range(4)]
        await stage.reached(1)
        begun[1].leave()  # the first in line, who keeps the time
        begun[2].leave()  # one who only stands there
        await begun[1]
        await begun[2]
        assert 60 <= await turned(stage, lambda: len(stage.asked) == 2) <= 66
        assert [(await begun[i]).status for i in (0, 3)] == [200, 200]
        assert prompts(stage) == ["0", "3"]


async def test_all_may_leave_at_any_moment_and_nothing_is_held() -> None:
    hold = asyncio.Event()
    async with staged(settings=of("concurrent = 3"), upstream=answer(wait=hold)) as stage:
        for ticks in range(25):
            begun = [begin(stage, str(i), caller="ab"[i % 2]) for i in range(8)]
            for _ in range(ticks * 3):
                await asyncio.sleep(0)
            for playing in begun:
                playing.leave()
            for playing in begun:
                try:
                    await playing
                except ValueError:  # it left before the server had read its request
                    continue
            await quiet()
            assert await level(stage, "upstream:main|concurrent") == 0
            assert not any(len(line) or line.head is not None for line in lines(stage))
        hold.set()
