"""What a request takes of an upstream's limits, for how long, and what is given back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.api import Exchange, Forward, Plugin, QueueFull, Request, Response, UpstreamError
from proxy.core.config import QueueTable, load
from proxy.model.quota import Tally
from proxy.store.sqlite import SQLiteStore
from proxy.testkit import Asked, answer, broken

from .queueing import (
    DRAW,
    LIMITED,
    MAIN,
    PICTURE,
    SPENT,
    asks,
    begin,
    level,
    of,
    quiet,
    staged,
    turned,
)

# --- Slots


async def test_a_slot_is_held_to_the_end_of_the_body() -> None:
    ends = [asyncio.Event() for _ in range(2)]
    pieces = [answer(pieces=[b"a", end, b"b"]) for end in ends]
    async with staged(settings=of("concurrent = 1"), upstream=[*pieces, answer()]) as stage:
        begun = [begin(stage, str(i)) for i in range(3)]
        for i in range(2):
            await begun[i].heard(1)
            await quiet()
            assert len(stage.asked) == i + 1, "its head is out, and its body is not"
            ends[i].set()
            assert (await begun[i]).body == b"ab"
        assert (await begun[2]).status == 200
        assert (await begun[2]).headers.get("x-framegate-queue").startswith("3; waited=")


async def test_a_slot_comes_back_when_the_answer_breaks_or_the_client_leaves() -> None:
    never = asyncio.Event()
    script = [
        answer(pieces=[b"a", broken()]),
        answer(pieces=[b"a", never]),
        UpstreamError("reset", sent=True),
        answer(),
    ]
    async with staged(settings=of("concurrent = 1"), upstream=script) as stage:
        begun = [begin(stage, str(i)) for i in range(4)]
        assert not (await begun[0]).whole
        await begun[1].heard(1)
        begun[1].leave()
        await begun[1]
        assert (await begun[2]).status == 502
        assert (await begun[3]).status == 200


async def test_never_more_at_once_than_allowed() -> None:
    now = most = 0

    async def script(asked: Asked) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)  # long enough for four to meet
        now -= 1
        return answer()

    async with staged(settings=of("concurrent = 4"), upstream=script) as stage:
        begun = [begin(stage, str(i), caller="abc"[i % 3]) for i in range(40)]
        assert {(await playing).status for playing in begun} == {200}
        assert most == 4


class Asking(Plugin):
    """Asks beside the request, and reads the answer in its own time."""

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        side = await self.upstreams.call("side", Request("POST", "/v1/moderations", request.headers))
        self.open.set()
        await self.go.wait()
        self.heard = await side.body.read(99)
        return await forward(request)

    @asynccontextmanager
    async def running(self, services: Any) -> AsyncIterator[None]:
        self.upstreams, self.open, self.go = services.upstreams, asyncio.Event(), asyncio.Event()
        yield


async def test_a_call_of_a_plugins_own_holds_its_slot_to_the_end_of_its_answer() -> None:
    plugin = Asking()
    script = {"main": answer(), "side": answer(pieces=[b"a", b"b"])}
    settings = MAIN + of("concurrent = 1", name="side")
    async with staged(plugin, settings=settings, upstream=script, holds=("side",)) as stage:
        playing = stage.begin(DRAW, json=asks("x"))
        await plugin.open.wait()
        assert await level(stage, "upstream:side|concurrent") == 1
        plugin.go.set()
        assert (await playing).status == 200 and plugin.heard == b"ab"


class Hurried(Plugin):
    """Asks beside the request, with little time."""

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        asked = Request("POST", "/v1/moderations", request.headers)
        await (await self.services.upstreams.call("side", asked)).body.read(99)
        with pytest.raises(QueueFull) as refused:
            await self.services.upstreams.call("side", asked, deadline=self.services.clock.now() + 1)
        self.wait = refused.value.wait
        return await forward(request)

    @asynccontextmanager
    async def running(self, services: Any) -> AsyncIterator[None]:
        self.services = services
        yield


async def test_a_call_of_a_plugins_own_does_not_wait_beyond_its_deadline() -> None:
    settings = MAIN + of("requests = '1 / 1m'", name="side")
    script = {"main": answer(), "side": answer(pieces=[b"a", b"b"])}
    plugin = Hurried()
    async with staged(plugin, settings=settings, upstream=script) as stage:
        assert (await stage.play(DRAW, json=asks("x"))).status == 200
        assert plugin.wait is not None and plugin.wait > 1


# --- What is given back, and what is learnt


async def test_what_was_never_sent_and_what_was_refused_is_given_back() -> None:
    script = [UpstreamError("refused", sent=False), SPENT, UpstreamError("reset", sent=True), answer()]
    async with staged(settings=of('images = "6 / 1m", requests = "9 / 1m"'), upstream=script) as stage:
        counted = []
        for i in range(4):
            await stage.play(DRAW, json=asks(str(i), 2))
            counted.append(await level(stage, "upstream:main|images|60000", 60_600))
        assert counted == [0, 0, 2, 4]
        assert not [line for line in stage.log if line["event"] == "upstream_limits_lowered"], (
            "an empty purse is no 429"
        )


async def test_what_comes_back_while_the_first_is_asking_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    tally, hold, go, asking = SQLiteStore.tally, asyncio.Event(), asyncio.Event(), asyncio.Event()
    go.set()

    async def slow(self: SQLiteStore, told: Tally) -> Any:
        answered = await tally(self, told)
        asking.set()
        await go.wait()
        return answered

    monkeypatch.setattr(SQLiteStore, "tally", slow)
    refused = answer(429, json={}, wait=hold)
    async with staged(settings=of('images = "1 / 1m"'), upstream=[refused, answer(json=PICTURE)]) as stage:
        first = begin(stage, "a")
        await stage.reached(1)
        await quiet()
        go.clear()
        asking.clear()
        second = begin(stage, "b")
        await asking.wait()  # there is no room, and it does not know that yet
        hold.set()
        assert (await first).status == 429
        go.set()
        assert (await second).status == 200, "without a minute's wait"


async def test_a_refusal_below_the_limits_lowers_them_for_a_while() -> None:
    script = [LIMITED, *[answer(json=PICTURE)] * 40]
    async with staged(settings=of('images = "10 / 5m", requests = "900 / day"'), upstream=script) as stage:
        assert (await stage.play(DRAW, json=asks("x"))).status == 429
        lowered = [line for line in stage.log if line["event"] == "upstream_limits_lowered"]
        assert [(line["upstream"], line["share"]) for line in lowered] == [("main", 0.8)]
        begun = [begin(stage, str(i)) for i in range(16)]
        await stage.reached(9)
        await quiet()
        assert len(stage.asked) == 9, "eight of ten"
        await turned(stage, lambda: len(stage.asked) > 9, step=1.0)
        await quiet()
        assert len(stage.asked) == 11, "a minute later it is ten again: two more, before the eight come back"
        await turned(stage, lambda: len(stage.asked) == 17)
        for playing in begun:
            assert (await playing).status == 200
        assert [line["event"] for line in stage.log if line["event"].startswith("upstream_limits")] == [
            "upstream_limits_lowered",
            "upstream_limits_back",
        ]


# --- What a request takes


EDIT = (
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    b"\x89PNG\r\n"
    b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\ntea\r\n'
    b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\n3\r\n--x--\r\n'
)
TOOL = {"model": "gpt-5", "input": "draw", "tools": [{"type": "image_generation"}]}
TALK = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 500}


@pytest.mark.parametrize(
    ("request_line", "more", "images", "tokens"),
    [
        (DRAW, {"json": asks("x", 4)}, 4, range(1000, 100_000)),
        (
            "POST /v1/images/edits",
            {"body": EDIT, "headers": {"content-type": "multipart/form-data; boundary=x"}},
            3,
            None,
        ),
        ("POST /v1/responses", {"json": TOOL}, 1, None),
        ("POST /v1/chat/completions", {"json": TALK}, 0, range(500, 600)),
        ("GET /v1/models", {}, 0, range(1)),
        ("POST /v1/files", {"body": b"any", "headers": {"content-type": "x/y"}}, 0, range(1)),
    ],
)
async def test_what_a_request_takes_of_the_limits(
    request_line: str, more: dict[str, Any], images: int, tokens: range | None
) -> None:
    settings = of('images = "100 / 1m", tokens = "1M / 1m", requests = "9 / 1m"')
    async with staged(settings=settings, upstream=answer(json=PICTURE)) as stage:
        played = await stage.play(request_line, **more)
        assert played.status == 200
        assert await level(stage, "upstream:main|requests|60000", 60_600) == 1
        assert await level(stage, "upstream:main|images|60000", 60_600) == images
        counted = await level(stage, "upstream:main|tokens|60000", 60_600)
        assert counted > 0 if tokens is None else counted in tokens, counted


async def test_more_tokens_than_the_limit_are_sent_alone() -> None:
    async with staged(settings=of('tokens = "10 / 1m"')) as stage:
        begun = [stage.begin("POST /v1/chat/completions", json=TALK) for _ in range(2)]
        await stage.reached(1)
        assert await turned(stage, lambda: len(stage.asked) == 2) >= 57
        assert [(await playing).status for playing in begun] == [200, 200]


async def test_what_can_be_read_in_two_ways_is_refused_where_it_must_be_counted() -> None:
    async with staged(settings=of('images = "9 / 1m"')) as stage:
        twice = b'{"model":"gpt-image-2","prompt":"x","n":1,"n":9}'
        played = await stage.play(DRAW, body=twice, headers={"content-type": "application/json"})
        assert (played.status, stage.asked) == (400, [])
        assert played.headers.get("x-framegate-attempts") == "main=invalid_request"


def test_the_pages_example_holds_the_defaults(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "queue.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "framegate.toml"
    path.write_text(block)
    table = load(path, {"AZURE_KEY": "sk-azure-0123456789"}).upstreams["azure"]
    assert table.queue == QueueTable() and table.layers[0] == "queue"
