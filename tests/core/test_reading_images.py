"""Pictures taken from an answer as it flows, and cut out of it; memory stays flat."""

from __future__ import annotations

import asyncio
import base64
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest

from proxy.api import Body, BodyConsumed, Headers, Response, UpstreamError
from proxy.core.reading import read
from proxy.testkit import answer, broken

from .readings import (
    ASK,
    B64,
    CUT,
    JSON,
    MB,
    PNG,
    SHAPES,
    SSE,
    TWO,
    USED,
    WITHOUT,
    Taken,
    cuts_out,
    image_event,
    seen,
    splits,
    stage,
)


@pytest.mark.parametrize("target", ["images", "images?verdict"])
async def test_a_taker_can_cut_pictures_out_at_every_split(target: str) -> None:
    ways = iter(list(splits(TWO)))
    async with stage(cuts_out, lambda asked: answer(pieces=next(ways), headers=JSON)) as played_on:
        for _ in range(len(TWO) + 1):
            played = await played_on.play(f"POST /v1/{target}")
            assert played.body == WITHOUT
            cut = played.outcome.response.facts[CUT]
            assert cut.images == {"data[0].b64_json": PNG, "data[1].url": b"", "data[2].b64_json": PNG}
            assert set(cut.kinds.values()) == {"final"} and set(cut.bad.values()) == {None}
            order = [path for what, path in cut.told if what == "settled"]
            assert order == list(cut.images) and len(cut.told) == 9


@pytest.mark.parametrize("cuts", [(), (70,)])
async def test_a_taker_hears_of_partial_pictures_in_a_stream(cuts: tuple[int, ...]) -> None:
    document = (image_event("partial_image", partial_image_index=0) + image_event("completed")).encode()
    async with stage(cuts_out, answer(body=document, headers=SSE, cuts=cuts)) as played_on:
        played = await played_on.play(ASK)
    cut = played.outcome.response.facts[CUT]
    assert played.body == document.replace(B64.encode(), b"gone")
    assert [what for what, _ in cut.told] == ["begun", "ended", "settled"] * 2 and cut.kinds == {"b64_json": "final"}


async def test_the_answer_waits_for_a_slow_taker() -> None:
    go, reached = asyncio.Event(), asyncio.Event()
    pulled: list[bytes] = []

    class Slow(Taken):
        async def piece(self, picture, data) -> None:
            reached.set()
            await go.wait()

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        seen(response).images(Slow())

        async def counted(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for piece in pieces:
                pulled.append(piece)
                yield piece

        return response.through(counted)

    document = SHAPES["generated"][1]
    async with stage(layer, answer(body=document, headers=JSON, cuts=(10, 90, 100))) as played_on:
        playing = played_on.begin(ASK)
        await reached.wait()
        for _ in range(9):
            await asyncio.sleep(0)
        assert pulled == [document[:10]]  # the second is held until the taker has it
        go.set()
        assert (await playing).body == document


async def test_there_is_one_taker_and_it_comes_first() -> None:
    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        reading = seen(response)
        reading.images(Taken())
        with pytest.raises(BodyConsumed, match="another layer"):
            reading.images(Taken())
        await response.body.read(MB)
        await response.aclose()
        response = await forward(request)
        await response.body.read(MB)
        with pytest.raises(BodyConsumed, match="before the first byte"):
            seen(response).images(Taken())
        await response.aclose()
        return Response(200)

    async with stage(layer, answer(body=b"{} ", headers=JSON, cuts=(1,))) as played_on:
        assert (await played_on.play(ASK)).status == 200


@pytest.mark.parametrize("how", ["breaks", "is dropped", "is closed"])
async def test_a_picture_that_is_cut_off_is_ended_and_settled(how: str) -> None:
    taken = Taken()

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        seen(response).images(taken)
        pieces = aiter(response.body)
        await anext(pieces)
        if how == "breaks":
            with pytest.raises(UpstreamError):
                await anext(pieces)
        elif how == "is dropped":
            await pieces.aclose()
        await response.aclose()
        await pieces.aclose()
        return Response(200)

    last = broken() if how == "breaks" else asyncio.Event()
    document = SHAPES["generated"][1]
    async with stage(layer, answer(pieces=[document[:90], last], headers=JSON)) as played_on:
        assert (await played_on.play(ASK)).status == 200
    path = "data[0].b64_json"
    assert taken.told == [("begun", path), ("ended", path), ("settled", path)]
    assert taken.bad == {path: "it was cut off"} and PNG.startswith(taken.images[path]) and taken.images[path]


async def test_a_taker_that_raises_breaks_the_answer_and_hears_no_more() -> None:
    class Full(Taken):
        async def piece(self, picture, data) -> None:
            raise OSError("no space left")

    taken = Full()

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        seen(response).images(taken)
        with pytest.raises(OSError, match="no space left"):
            await response.body.read(MB)
        await response.aclose()
        return Response(200)

    document = SHAPES["generated"][1]
    async with stage(layer, answer(pieces=[document[:90], asyncio.Event()], headers=JSON)) as played_on:
        assert (await played_on.play(ASK)).status == 200
    assert taken.told == [("begun", "data[0].b64_json")]


async def test_who_looked_before_the_taker_came_does_not_take_from_it() -> None:
    taken = Taken()

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        assert response.body.now() is not None and seen(response).usage == USED
        seen(response).images(taken)
        assert response.body.now() is None
        return response

    async with stage(layer, answer(body=TWO, headers=JSON)) as played_on:
        played = await played_on.play(ASK)
    assert played.body == TWO and played.headers.get("Content-Length") == str(len(TWO))
    assert taken.images["data[2].b64_json"] == PNG


@pytest.mark.parametrize("how", ["verdict", "images", "compressed"])
async def test_memory_is_flat_whatever_the_size(how: str) -> None:
    piece = base64.b64encode(bytes(range(256)) * 192)
    count = 50 * MB // len(piece)

    class Long(Body):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            squeeze = zlib.compressobj(0)
            for data in (b'{"data":[{"b64_json":"', *([piece] * count), b'"}],"usage":{"n":1}}'):
                yield squeeze.compress(data) if how == "compressed" else data
            if how == "compressed":
                yield squeeze.flush()

        def now(self) -> None:
            return None

    class Sized(Taken):
        size = 0

        async def piece(self, picture, data) -> None:
            self.size += len(data)

    headers = Headers.of(
        content_type="application/json", **({"content_encoding": "deflate"} if how == "compressed" else {})
    )
    taken = Sized()
    tracemalloc.start()
    response = read(Response(200, headers, Long()))
    reading = seen(response)
    assert await reading.verdict() == "image"
    if how != "verdict":
        reading.images(taken)
    async for _ in response.body:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reading.usage == {"n": 1} and reading.complete
    assert taken.size == (0 if how == "verdict" else count * 256 * 192)
    assert peak < MB
