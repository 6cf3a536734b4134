"""Answers that are read on their way from socket to socket: judged, abandoned, cut, and spliced all the same."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable

import orjson
import pytest

from proxy.api import Exchange, Forward, Outcome, Reading, Request, Response, UpstreamError
from proxy.model.body import Body
from proxy.testkit import Call, RawClient, ScriptedUpstream, serve
from proxy.wire.link import INF
from proxy.wire.upstream import AnswerBody

from ..plugins_for_tests import Layer, told
from .telling import POST, chunk, config, get, until, wired

B64 = base64.b64encode(bytes(range(256)) * 6000)
DATA = b'{"created":1,"data":[{"b64_json":"%b"}],"usage":{"total_tokens":7}}' % B64
TYPE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def reading_config(upstream: ScriptedUpstream, layer: Layer, more: str = "") -> str:
    word = told(layer)
    return config(upstream, word, upstreams=more).replace(":Told", ":Reads")


def counted(data: bytes) -> list[bytes]:
    return [TYPE + b"Content-Length: %d\r\n\r\n" % len(data), data]


def chunked(data: bytes) -> list[bytes]:
    cuts = [data[at : at + 99_991] for at in range(0, len(data), 99_991)]
    return [TYPE + b"Transfer-Encoding: chunked\r\n\r\n", b"".join(map(chunk, cuts)) + b"0\r\n\r\n"]


def until_close(data: bytes) -> list[bytes]:
    return [TYPE + b"Connection: close\r\n\r\n", data]


def seen(response: Response) -> Reading:
    assert response.reading is not None
    return response.reading


async def judges(exchange: Exchange, request: Request, forward: Forward) -> Response:
    response = await forward(request)
    assert await seen(response).verdict() == "image"
    return response


async def passes(exchange: Exchange, request: Request, forward: Forward) -> Response:
    return await forward(request)


async def rewrites(exchange: Exchange, request: Request, forward: Forward) -> Response:
    async def same(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece

    response = await forward(request)
    await seen(response).verdict()
    return response.through(same)


@pytest.mark.parametrize("layer", [passes, judges, rewrites])
@pytest.mark.parametrize("framing", [counted, chunked, until_close])
@pytest.mark.parametrize("place", [0, 3, 60, 70_000])
async def test_the_bytes_are_the_same_and_so_is_what_was_seen(
    layer: Layer, framing: Callable, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[Reading] = []

    async def watches(exchange: Exchange, request: Request, forward: Forward) -> Response:
        response = await layer(exchange, request, forward)
        readings.append(seen(response))
        return response

    async def script(call: Call) -> None:
        head, body = framing(DATA)
        await call.body()
        await call.send(head + body[:place])
        await asyncio.sleep(0)
        await call.send(body[place:])
        if framing is until_close:
            call.cut()

    iterated: list[Body] = []
    iterates = AnswerBody.__aiter__

    def watched(self: AnswerBody) -> AsyncIterator[bytes]:
        iterated.append(self)
        return iterates(self)

    monkeypatch.setattr(AnswerBody, "__aiter__", watched)
    async with ScriptedUpstream(script=script) as upstream, serve(reading_config(upstream, watches)) as served:
        for _ in range(2):
            async with RawClient(served.port) as client:
                assert (await client.ask(POST)).body == DATA
        lines = await served.ended(2)
    assert [line["bytes_out"] for line in lines] == [len(DATA)] * 2
    for reading in readings:
        assert reading.usage == {"total_tokens": 7} and reading.complete and reading.size == len(DATA)
    assert len(iterated) == (2 if layer is rewrites else 0)  # what nobody rewrites still goes from socket to socket


async def test_a_small_answer_keeps_its_length_and_wakes_nobody_twice() -> None:
    readings: list[Reading] = []

    async def keeps(exchange: Exchange, request: Request, forward: Forward) -> Response:
        response = await forward(request)
        readings.append(seen(response))
        return response

    answer = b"".join(counted(b'{"usage":{"total_tokens":1}}'))
    async with ScriptedUpstream(answer) as upstream, serve(reading_config(upstream, keeps)) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(POST)
        assert heard.get(b"content-length") == b"28" and readings[0].usage == {"total_tokens": 1}
        assert upstream.requests[0].get(b"accept-encoding") == b"identity"


async def test_a_verdict_that_is_given_up_loses_nothing_and_stops_the_clock() -> None:
    go = asyncio.Event()

    async def hurries(exchange: Exchange, request: Request, forward: Forward) -> Response:
        response = await forward(request)
        reading = seen(response)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await reading.verdict()
        await asyncio.sleep(0.5)  # more than twice the idle time: nothing tells that the clock does not run
        go.set()
        assert await reading.verdict() == "image"
        return response

    async def script(call: Call) -> None:
        head, body = counted(DATA)
        await call.body()
        await call.send(head + body[:20])
        await go.wait()
        await call.send(body[20:])

    async with ScriptedUpstream(script=script) as upstream:
        async with serve(reading_config(upstream, hurries, 'idle_timeout = "0.2s"')) as served:
            async with RawClient(served.port) as client:
                assert (await client.ask(POST)).body == DATA


@pytest.mark.parametrize("framing", [counted, chunked])
async def test_an_answer_that_is_cut_before_the_evidence_is_an_error(framing: Callable) -> None:
    async def script(call: Call) -> None:
        head, body = framing(DATA)
        await call.body()
        await call.send(head + body[:20])
        call.cut()

    async with ScriptedUpstream(script=script) as upstream, serve(reading_config(upstream, judges)) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(POST)
    assert heard.status == 502 and orjson.loads(heard.body)["error"]["code"] == "upstream_failed"


async def test_an_answer_that_stands_still_before_the_evidence_ends_by_the_upstreams_clock() -> None:
    async def script(call: Call) -> None:
        head, body = counted(DATA)
        await call.body()
        await call.send(head + body[:20])
        await call.gone()

    async with ScriptedUpstream(script=script) as upstream:
        async with serve(reading_config(upstream, judges, 'idle_timeout = "0.1s"')) as served:
            async with RawClient(served.port) as client:
                heard = await client.ask(POST)
    assert heard.status == 504 and orjson.loads(heard.body)["error"]["code"] == "upstream_timeout"


async def test_the_slower_of_two_attempts_is_hung_up_on() -> None:
    gone = asyncio.Event()

    async def hedges(exchange: Exchange, request: Request, forward: Forward) -> Response:
        slow, fast = await forward(request), await forward(request)
        judging = [asyncio.create_task(seen(one).verdict()) for one in (slow, fast)]
        await asyncio.wait(judging, return_when=asyncio.FIRST_COMPLETED)
        assert judging[1].done() and not judging[0].done()
        judging[0].cancel()
        await slow.aclose()
        await asyncio.wait(judging)
        return fast

    async def script(call: Call) -> None:
        head, body = counted(DATA)
        await call.body()
        if len(upstream.requests) == 1:
            await call.send(head + body[:20])
            await call.gone()
            gone.set()
        else:
            await call.send(head + body)

    async with ScriptedUpstream(script=script) as upstream, serve(reading_config(upstream, hedges)) as served:
        async with RawClient(served.port) as client:
            assert (await client.ask(POST)).body == DATA
        await gone.wait()
        await until(lambda: upstream.open == 1)


async def test_what_is_read_is_known_to_its_end_although_the_client_has_left() -> None:
    go, reached, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    readings: list[Reading] = []

    async def keeps_going(exchange: Exchange, request: Request, forward: Forward) -> Response:
        async def ended(outcome: Outcome) -> None:
            over.set()

        exchange.keep_going()
        exchange.on_finish(ended)
        response = await forward(request)
        readings.append(seen(response))
        return response

    async def script(call: Call) -> None:
        head, body = counted(DATA)
        await call.body()
        await call.send(head + body[:9])
        reached.set()
        await go.wait()
        await call.send(body[9:])

    async with ScriptedUpstream(script=script) as upstream, serve(reading_config(upstream, keeps_going)) as served:
        async with RawClient(served.port) as client:
            await client.send(POST)
            await reached.wait()
            await client.head()
            client.reset()
        await until(lambda: all(one.transport is None for one in served.house.edge.listener.connections))
        assert readings[0].usage is None
        go.set()
        await over.wait()
    assert readings[0].usage == {"total_tokens": 7} and readings[0].complete


# --- What a verdict asks of an answer's body.


@pytest.mark.parametrize("how", ["iterated", "poured", "more"])
async def test_what_came_for_who_was_cancelled_stays_for_the_next_who_asks(how: str) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        head, body = counted(b"abcdef")
        await call.send(head + body[:3])
        await go.wait()
        await call.send(body[3:])

    async with ScriptedUpstream(script=script) as upstream, wired(upstream) as wire:
        body = (await wire.send(get())).body
        assert isinstance(body, AnswerBody)
        assert await body.more() == b"abc" and body.now() is None
        asks = asyncio.create_task(body.more())
        await asyncio.sleep(0)
        sink = body._question.sink
        assert sink is not None

        def cancels(piece: bytes) -> bool:
            taken = sink(piece)
            asks.cancel()  # before it has run to hear of the piece
            return taken

        body._question.sink = cancels
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await asks
        rest: list[bytes] = []

        def put(piece: bytes) -> bool:
            rest.append(piece)
            return True

        async def drained() -> None:
            raise AssertionError

        if how == "iterated":
            rest = [piece async for piece in body]
        elif how == "poured":
            await body.pour(put, drained)
        else:
            while piece := await body.more():
                rest.append(piece)
        assert b"".join(rest) == b"def"
        await body.aclose()


async def test_a_break_is_told_to_who_asks_for_more() -> None:
    async def script(call: Call) -> None:
        await call.send(counted(b"abcdef")[0] + b"abc")
        call.reset()

    async with ScriptedUpstream(script=script) as upstream, wired(upstream) as wire:
        body = (await wire.send(get())).body
        assert isinstance(body, AnswerBody)
        with pytest.raises(UpstreamError, match="the answer broke off"):
            while await body.more():
                pass
        await body.aclose()


async def test_what_is_skimmed_wakes_nobody_and_may_have_the_rest_wait() -> None:
    steps = [asyncio.Event() for _ in range(4)]

    async def script(call: Call) -> None:
        head, body = counted(b"abcdef")
        await call.send(head + body[:1])
        for at, step in enumerate(steps, 1):
            await step.wait()
            await call.send(body[at : at + 1] if at < 4 else body[4:])

    async with ScriptedUpstream(script=script) as upstream, wired(upstream) as wire:
        body = (await wire.send(get())).body
        assert isinstance(body, AnswerBody)
        offered: list[bytes] = []
        goes: list[Callable[[], None]] = []
        answers = {b"b": True, b"c": False, b"d": True, b"ef": None}

        def skim(piece: bytes, go_on: Callable[[], None]) -> bool | None:
            offered.append(piece)
            goes.append(go_on)
            steps[min(3, len(offered))].set()  # the next is on its way
            return answers[piece]

        body.skimmed(skim)
        pieces = aiter(body)
        assert await anext(pieces) == b"a"  # it was here before anybody waited
        assert not offered
        link, waits = body._link, asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0)
        assert link.deadline < INF  # the upstream's clock runs: somebody waits
        steps[0].set()
        await until(lambda: len(offered) == 2)
        for _ in range(9):
            await asyncio.sleep(0)
        assert offered == [b"b", b"c"] and not waits.done()
        assert link.deadline == INF and not link.transport.is_reading()  # and stands while it is we who hold it up
        goes[-1]()
        assert link.deadline < INF
        assert await waits == b"ef" and offered == [b"b", b"c", b"d", b"ef"]
        assert [piece async for piece in pieces] == []
        goes[-1]()  # too late to mean anything: the link may have another question by now
        assert link.deadline == INF
        await body.aclose()
