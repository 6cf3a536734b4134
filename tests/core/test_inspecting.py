"""Answers that somebody looks at where they come in, before any plugin further in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from plugins.failover import Failover
from proxy.api import Bytes, Exchange, Forward, Plugin, Rejected, Request, Response, UpstreamError
from proxy.testkit import Stage, answer

from .readings import B64, PNG, Reads, Taken, event, image_event, seen

ASK = "POST /v1/images/generations"
DRAWN = {"created": 1, "data": [{"b64_json": B64}]}


class Inspects(Plugin):
    """Has answers looked at as a test says."""

    inspectors: tuple[Callable[[Response], Awaitable[Response]], ...]
    wanted: tuple[str, ...] = ("images",)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.wanted

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        for inspector in self.inspectors:
            exchange.inspect(inspector)
        return await forward(request)


def refusal() -> Rejected:
    return Rejected("No.", type="image_generation_user_error", code="content_policy_violation")


async def passes(response: Response) -> Response:
    return response


async def test_an_inspector_is_told_of_pictures_before_who_stands_inside() -> None:
    outer, order = Taken(), []

    class Ordered(Taken):
        async def begun(self, picture) -> None:
            order.append("inner")

        async def piece(self, picture, data) -> None: ...

    async def inspect(response: Response) -> Response:
        seen(response).images(outer)
        body = response.body.keep(memory=2**20, limit=2**20)
        async for _ in body:
            pass
        order.append("inspected")
        return replace(response, body=body)

    async def layer(exchange: Exchange, request: Request, forward: Forward) -> Response:
        response = await forward(request)
        seen(response).images(Ordered())
        return response.through(lambda pieces: pieces)

    async with Stage(Inspects((inspect,)), Reads(layer, ("images",)), upstream=answer(json=DRAWN, cuts=(9,))) as stage:
        played = await stage.play(ASK)
    assert played.json() == DRAWN and order == ["inspected", "inner"]
    assert outer.images == {"data[0].b64_json": PNG}


@pytest.mark.parametrize("cuts", [(), (20,)])
async def test_what_an_inspector_raises_is_the_answer_and_the_other_is_closed(cuts: tuple[int, ...]) -> None:
    """The stage fails where the answer is left open."""

    async def inspect(response: Response) -> Response:
        raise refusal()

    upstream = {"one": answer(json=DRAWN, cuts=cuts), "two": answer(json=DRAWN)}
    async with Stage(Inspects((inspect,)), Failover(), upstream=upstream) as stage:
        played = await stage.play(ASK, json={"prompt": "tea"})
        assert stage.services.upstreams.health.snapshot() == []
    assert (played.status, played.error["code"]) == (400, "content_policy_violation")
    assert [asked.upstream for asked in played.asked] == ["one"]


async def test_what_it_returns_comes_in_instead() -> None:
    async def first(response: Response) -> Response:
        await response.aclose()
        return replace(response, body=Bytes(b'{"data":[]}'))

    async def second(response: Response) -> Response:
        assert response.body.now() == b'{"data":[]}' and response.reading is not None
        return response.with_headers(x_seen="twice")

    async with Stage(Inspects((first, second)), upstream=answer(json=DRAWN, cuts=(9,))) as stage:
        played = await stage.play(ASK)
    assert played.body == b'{"data":[]}' and played.headers.get("x-seen") == "twice"


async def test_each_attempts_good_answer_is_inspected_and_no_error() -> None:
    statuses = []

    async def inspect(response: Response) -> Response:
        statuses.append(response.status)
        if len(statuses) == 1:
            raise UpstreamError("it broke off", sent=True)
        return response

    upstream = {
        "a": answer(500, json={"error": {"type": "server_error"}}),
        "b": answer(json=DRAWN),
        "c": answer(json=DRAWN),
    }
    async with Stage(Inspects((inspect,)), Failover(on_ambiguous="retry"), upstream=upstream) as stage:
        played = await stage.play(ASK, json={"prompt": "tea"})
    assert played.status == 200 and statuses == [200, 200]
    assert [asked.upstream for asked in played.asked] == ["a", "b", "c"]


async def test_without_anybody_who_reads_pictures_nobody_inspects() -> None:
    async def inspect(response: Response) -> Response:
        raise AssertionError("nobody should ask")

    for wanted in ((), ("usage",)):
        async with Stage(Inspects((inspect,), wanted), upstream=answer(json=DRAWN)) as stage:
            assert (await stage.play(ASK)).status == 200


async def test_a_crash_of_an_inspector_lets_nothing_in() -> None:
    async def inspect(response: Response) -> Response:
        raise RuntimeError("bug")

    async with Stage(Inspects((inspect,)), upstream=answer(json=DRAWN, cuts=(9,))) as stage:
        played = await stage.play(ASK)
    assert played.status == 500 and isinstance(played.crash, RuntimeError)


async def test_a_client_that_leaves_ends_it() -> None:
    begun, ended = asyncio.Event(), []

    async def inspect(response: Response) -> Response:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return response

    async with Stage(Inspects((inspect,)), upstream=answer(json=DRAWN, cuts=(9,))) as stage:
        playing = stage.begin(ASK)
        await begun.wait()
        playing.leave()
        assert (await playing).outcome.left and ended == [True]


@pytest.mark.parametrize("step", [1, 2, 5, 10**6])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_a_reading_tells_where_events_begin_and_end(step: int, end: str) -> None:
    parts = [
        ": hold on\n\n",
        event("{}", "a"),
        image_event("partial_image"),
        ":\n\n",
        image_event("completed"),
        "data: ",
    ]
    document = "".join(parts).replace("\n", end).encode()
    starts = [sum(len(part.replace("\n", end)) for part in parts[:at]) for at in range(len(parts) + 1)]
    begins, wholes = [], []

    class Told(Taken):
        async def begun(self, picture) -> None:
            await super().begun(picture)
            begins.append(picture.event)

    async def layer(exchange: Exchange, request: Request, forward: Forward) -> Response:
        response = await forward(request)
        reading = seen(response)
        assert reading.whole == 0
        reading.images(Told())

        async def watched(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for piece in pieces:
                wholes.append(reading.whole)
                yield piece

        return response.through(watched)

    pieces = [document[at : at + step] for at in range(0, len(document), step)]
    upstream = answer(pieces=pieces, headers={"content-type": "text/event-stream"})
    async with Stage(Reads(layer, ("images",)), upstream=upstream) as stage:
        played = await stage.play(ASK)
    assert played.body == document
    # Of an empty line that ends in CRLF, the LF may be left to what comes behind.
    slack = 1 if end == "\r\n" else 0
    assert len(begins) == 2
    for found, start in zip(begins, (starts[2], starts[4]), strict=True):
        assert start - slack <= found <= start
    assert starts[5] - slack <= wholes[-1] <= starts[5]
    assert all(one in range(len(document)) for one in wholes) and wholes == sorted(wholes)


async def test_of_what_is_no_stream_nothing_is_whole() -> None:
    async with Stage(Inspects((passes,)), upstream=answer(json=DRAWN)) as stage:
        played = await stage.play(ASK)
    assert played.outcome.response.reading.whole == 0
