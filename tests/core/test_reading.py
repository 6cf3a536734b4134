"""The one reader of answers: the same bytes go on, and what is seen in them is the same however they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from proxy.api import BodyConsumed, Bytes, Headers, Reading, Response, Socket, UpstreamError
from proxy.core.reading import AHEAD, Read, read
from proxy.model.body import Through
from proxy.testkit import Asked, Reply, answer, broken

from .readings import (
    ASK,
    B64,
    JSON,
    MB,
    SHAPES,
    SSE,
    USED,
    event,
    image_event,
    seen,
    splits,
    stage,
)

# --- The verdict, and the bytes behind it.


async def test_where_only_the_verdict_is_wanted_what_flows_is_not_looked_at() -> None:
    document = b'{"data":[{"b64_json":"' + B64.encode() + b'"}],"usage":{"total_tokens":1}}'
    for verdict_only in (True, False):
        source = Through(Bytes(document), _by_eight)
        body = Read(source, 200, Headers.of(content_type="application/json"), verdict_only=verdict_only)
        assert await body.verdict() == "image"
        assert b"".join([piece async for piece in body]) == document
        assert (body.usage is None) is verdict_only


async def _by_eight(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in source:
        for at in range(0, len(piece), 8):
            yield piece[at : at + 8]


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_verdict_and_the_bytes_are_the_same_at_every_split(shape: str) -> None:
    headers, document, expected = SHAPES[shape]
    verdicts: set[str] = set()
    ways = iter(list(splits(document)))

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        verdicts.add(await seen(response).verdict())
        return response

    def told(asked: Asked) -> Reply:
        return answer(pieces=next(ways), headers=headers)

    async with stage(layer, told) as played_on:
        for _ in range(len(document) + 1):
            played = await played_on.play(ASK)
            assert played.body == document and played.whole
    # A partial picture ends the wait: what comes behind it is not known yet, unless it came in the same piece.
    assert verdicts - ({"unknown"} if shape.startswith("partial") else set()) <= {expected}
    assert next(ways, None) is None


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_answer_that_is_here_whole_is_looked_at_at_once(shape: str) -> None:
    headers, document, expected = SHAPES[shape]

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        verdict = seen(response).verdict()
        with pytest.raises(StopIteration) as stop:
            verdict.send(None)  # it has nothing to wait for
        assert stop.value.value == expected
        assert response.body.now() == document and await response.body.read(MB) == document
        return response

    async with stage(layer, answer(body=document, headers=headers)) as played_on:
        played = await played_on.play(ASK)
    assert played.body == document and played.headers.get("Content-Length") == str(len(document))


async def test_what_comes_before_the_evidence_is_held_back_and_nothing_after_it_is_asked_for() -> None:
    verdict, more = asyncio.Event(), asyncio.Event()
    pulled: list[bytes] = []

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        assert await seen(response).verdict() == "image"
        pulled.append(b"")
        return response

    pieces = [b": a\n\n", more, b": b\n\n", image_event("completed").encode(), verdict, event("[DONE]").encode()]
    async with stage(layer, answer(pieces=pieces, headers=SSE)) as played_on:
        playing = played_on.begin(ASK)
        await played_on.reached()
        await asyncio.sleep(0)
        assert not pulled and playing.exchange is not None and not playing.exchange.answered
        more.set()
        await playing.heard(10)  # which is held up no more, although the rest is still to come
        verdict.set()
        played = await playing
    assert played.body == b"".join([piece for piece in pieces if isinstance(piece, bytes)])


async def test_past_the_bound_it_is_unknown_until_it_has_been_seen() -> None:
    document = [b": %d\n\n" % at + b" " * 1000 + b"\n\n" for at in range(200)]
    document.append(image_event("completed").encode())
    sizes: list[int] = []
    later: list[str] = []

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        reading = seen(response)
        assert await reading.verdict() == "unknown"
        assert await reading.verdict() == "unknown"
        sizes.append(reading.size)

        async def finish(outcome) -> None:
            later.append(await reading.verdict())

        exchange.on_finish(finish)
        return response

    async with stage(layer, answer(pieces=document, headers=SSE)) as played_on:
        played = await played_on.play(ASK)
    assert played.body == b"".join(document) and AHEAD <= sizes[0] < AHEAD + len(document[0]) * 2
    assert later == ["image"]


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (404, JSON, b'{"error":{"code":"model_not_found"}}', "error"),
        (502, {"content-type": "text/html"}, b"<html>", "error"),
        (302, {"location": "/"}, b"{}", "unknown"),
        (204, {}, b"", "unknown"),
        (304, {}, b"", "unknown"),
        (200, {"content-type": "audio/mpeg"}, b'{"data":[{"url":"https://a/b"}]}', "unknown"),
        (200, {"content-type": "application/octet-stream"}, b"data: x\n\n", "unknown"),
        (200, JSON, b"", "unknown"),
    ],
)
@pytest.mark.parametrize("cuts", [(), (1,)])
async def test_other_answers_are_judged_by_their_head(status, headers, body, expected, cuts) -> None:
    readings: list[Reading] = []

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        readings.append(seen(response))
        assert await seen(response).verdict() == expected
        return response

    told = answer(status, body=body, headers=headers, cuts=cuts if body else ())
    async with stage(layer, told) as played_on:
        played = await played_on.play(ASK)
    assert (played.status, played.body) == (status, body)
    assert readings[0].error == ({"code": "model_not_found"} if status == 404 else None)


async def test_a_head_alone_has_a_reading_too() -> None:
    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        assert await seen(response).verdict() == "unknown" and seen(response).usage is None
        return response

    async with stage(layer, answer(json={"a": 1})) as played_on:
        played = await played_on.play("HEAD /v1/models")
    assert played.status == 200 and played.headers.get("Content-Length") == "7"


async def test_a_socket_has_none() -> None:
    class Line:
        async def close(self) -> None:
            pass

    line: Socket = Line()  # type: ignore[assignment]
    assert read(Response(101, socket=line)).reading is None


# --- What it says of the answer.


async def test_usage_stands_when_the_body_has_ended_and_not_before() -> None:
    document = orjson.dumps(
        {"model": "gpt-image-2", "usage": USED, "tool_usage": {"n": 1}, "data": [{"b64_json": B64}]}
    )
    said: list[object] = []

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        reading = seen(response)
        assert reading.usage is None and not reading.complete

        async def watched(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for piece in pieces:
                assert reading.usage is None
                yield piece
            said.append((reading.usage, reading.tool_usage, reading.svg_usage, dict(reading.said), reading.complete))

        return response.through(watched)

    async with stage(layer, answer(body=document, cuts=(60, 100))) as played_on:
        assert (await played_on.play(ASK)).body == document
    assert said == [(USED, {"n": 1}, None, {"model": "gpt-image-2"}, True)]


async def test_says_what_went_wrong_and_why_a_chat_ended() -> None:
    document = b'{"choices":[{"finish_reason":"content_filter"}],"error":{"code":"c","message":"m"}}'
    readings: list[Reading] = []

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        readings.append(seen(response))
        return response

    async with stage(layer, [answer(body=document, headers=JSON), answer(body=b'{"a', headers=JSON)]) as played_on:
        await played_on.play(ASK)
        await played_on.play(ASK)
    assert readings[0].error == {"code": "c", "message": "m"} and list(readings[0].finish) == ["content_filter"]
    assert readings[0].size == len(document) and readings[0].broken is None and readings[0].complete
    assert readings[1].broken == "it was cut off" and not readings[1].complete


# --- Bodies as before.


async def test_several_may_read_what_is_kept_above_it() -> None:
    document = orjson.dumps({"data": [{"b64_json": B64}], "usage": USED})

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        assert await seen(response).verdict() == "image"
        kept = response.body.keep(memory=MB, limit=MB)
        first, second = await asyncio.gather(kept.read(MB), kept.read(MB))
        assert first == second == document and seen(response).usage == USED
        return replace(response, body=kept)

    async with stage(layer, answer(body=document, headers=JSON, cuts=(10, 20, 90))) as played_on:
        assert (await played_on.play(ASK)).body == document


async def test_a_second_pass_is_refused_as_ever() -> None:
    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        await response.body.read(MB)
        with pytest.raises(BodyConsumed):
            await response.body.read(MB)
        await response.aclose()
        return Response(200)

    async with stage(layer, answer(body=b"{} ", headers=JSON, cuts=(1,))) as played_on:
        assert (await played_on.play(ASK)).status == 200


@pytest.mark.parametrize("asks", [False, True])
async def test_an_answer_that_is_dropped_is_closed(asks: bool) -> None:
    never = asyncio.Event()

    async def layer(exchange, request, forward) -> Response:
        first = await forward(request)
        if asks:
            waiting = asyncio.create_task(seen(first).verdict())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        await first.aclose()
        await first.aclose()
        with pytest.raises(BodyConsumed):
            await first.body.read(MB)
        assert await seen(first).verdict() == "unknown" and not seen(first).complete
        return await forward(request)

    slow = answer(pieces=[b'{"data"', never, b":[]}"], headers=JSON)
    async with stage(layer, [slow, answer(json={"data": []})]) as played_on:
        assert (await played_on.play(ASK)).json() == {"data": []}


async def test_a_verdict_that_is_cancelled_loses_nothing() -> None:
    go = asyncio.Event()
    document = SHAPES["generated"][1]

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        reading = seen(response)
        for _ in range(2):
            waiting = asyncio.create_task(reading.verdict())
            while not reading.size:
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
        both = asyncio.gather(reading.verdict(), reading.verdict())
        asyncio.get_running_loop().call_soon(go.set)
        assert await both == ["image", "image"]
        return response

    async with stage(
        layer, answer(pieces=[document[:9], go, document[9:60], document[60:]], headers=JSON)
    ) as played_on:
        assert (await played_on.play(ASK)).body == document


async def test_who_reads_while_a_verdict_is_awaited_comes_after_it() -> None:
    go = asyncio.Event()
    document = SHAPES["generated"][1]

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        waiting = asyncio.create_task(seen(response).verdict())
        reading = asyncio.create_task(response.body.read(MB))
        asyncio.get_running_loop().call_later(0, go.set)
        assert await reading == document and await waiting in ("image", "unknown")
        return Response(200)

    async with stage(
        layer, answer(pieces=[document[:9], go, document[9:60], document[60:]], headers=JSON)
    ) as played_on:
        assert (await played_on.play(ASK)).status == 200


async def test_an_answer_that_breaks_before_the_evidence_is_an_error_for_who_asks() -> None:
    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        for _ in range(2):
            with pytest.raises(UpstreamError) as raised:
                await seen(response).verdict()
            assert raised.value.sent
        with pytest.raises(UpstreamError):
            await response.body.read(MB)
        await response.aclose()
        return await forward(request)

    cut = answer(pieces=[b'{"created":1,', broken()], headers=JSON)
    async with stage(layer, [cut, answer(json={"data": []})]) as played_on:
        assert (await played_on.play(ASK)).json() == {"data": []}


async def test_an_answer_that_breaks_later_looks_cut_to_the_client() -> None:
    readings: list[Reading] = []

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        readings.append(seen(response))
        assert await seen(response).verdict() == "image"
        return response

    document = SHAPES["generated"][1]
    async with stage(layer, answer(pieces=[document[:90], broken()], headers=JSON)) as played_on:
        played = await played_on.play(ASK)
    assert played.body == document[:90] and not played.whole
    assert readings[0].broken == "it was cut off" and not readings[0].complete and readings[0].usage is None
    assert await readings[0].verdict() == "image"
