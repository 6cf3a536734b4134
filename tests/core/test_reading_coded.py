"""Answers that come compressed although nobody asked for it."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from dataclasses import replace

import pytest

from proxy.api import Reading, Response
from proxy.testkit import Stage, answer

from .readings import (
    ASK,
    CUT,
    JSON,
    MB,
    PNG,
    TWO,
    USED,
    WITHOUT,
    Reads,
    cuts_out,
    seen,
    splits,
    stage,
)


def compressed(how: str, document: bytes) -> bytes:
    if how == "gzip":
        half = len(document) // 2
        return gzip.compress(document[:half]) + b"\0\0" + gzip.compress(document[half:])
    if how == "bare":
        squeeze = zlib.compressobj(wbits=-15)
        return squeeze.compress(document) + squeeze.flush()
    return zlib.compress(document)


@pytest.mark.parametrize("how", ["gzip", "deflate", "bare"])
async def test_the_client_gets_the_compressed_bytes_and_the_reader_what_is_in_them(how: str) -> None:
    squeezed = compressed(how, TWO)
    headers = JSON | {"content-encoding": "gzip" if how == "gzip" else "deflate"}
    ways = list(splits(squeezed, step=5))
    readings: list[Reading] = []

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        readings.append(seen(response))
        assert await seen(response).verdict() == "image"
        return response

    async with stage(layer, lambda asked: answer(pieces=ways.pop(), headers=headers)) as played_on:
        while ways:
            played = await played_on.play(ASK)
            assert played.body == squeezed
            assert played.headers.get("Content-Encoding") == headers["content-encoding"]
            assert readings[-1].usage == USED and readings[-1].complete and readings[-1].size == len(squeezed)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("how", ["gzip", "deflate", "bare"])
async def test_who_rewrites_sees_what_was_compressed(how: str, kept: bool) -> None:
    squeezed = compressed(how, TWO)
    headers = JSON | {"content-encoding": "X-Gzip" if how == "gzip" else "deflate"}
    ways = list(splits(squeezed, step=5))

    async def keeps(exchange, request, forward) -> Response:
        response = await forward(request)
        return replace(response, body=response.body.keep(memory=MB, limit=MB))

    layers = [Reads(cuts_out), *([Reads(keeps)] if kept else [])]
    async with Stage(*layers, upstream=lambda asked: answer(pieces=ways.pop(), headers=headers)) as played_on:
        while ways:
            played = await played_on.play(ASK)
            assert played.body == WITHOUT and "Content-Encoding" not in played.headers
            assert played.outcome.response.facts[CUT].images["data[2].b64_json"] == PNG


BOMB = gzip.compress(b'{"data":[' + b" " * 40 * MB)
UNREADABLE = {
    "bomb": ("gzip", BOMB, "it inflates to more than 100 times its size"),
    "cut": ("gzip", gzip.compress(TWO)[:-9], "its compression is cut off"),
    "broken": ("gzip", b"no gzip at all", "its compression is broken"),
    "followed": ("deflate", zlib.compress(TWO) + b"more", "something follows its compressed data"),
    "brotli": ("br", b"....", "it came in a coding that nobody asked for"),
    "twice": ("gzip, gzip", gzip.compress(gzip.compress(TWO)), "it came in a coding that nobody asked for"),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_cannot_be_inflated_goes_on_untouched_and_is_unknown(what: str) -> None:
    coding, data, why = UNREADABLE[what]
    readings: list[Reading] = []
    verdicts: list[str] = []

    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        readings.append(seen(response))
        verdicts.append(await seen(response).verdict())
        return response

    told = answer(body=data, cuts=(len(data) // 2,), headers=JSON | {"content-encoding": coding})
    async with stage(layer, told) as played_on:
        played = await played_on.play(ASK)
    assert played.body == data and readings[0].broken == why and not readings[0].complete
    assert verdicts == ["image" if what in ("cut", "followed") else "unknown"]


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_cannot_be_inflated_is_refused_to_who_rewrites(what: str) -> None:
    coding, data, _ = UNREADABLE[what]

    async def whole(exchange, request, forward) -> Response:
        response = (await forward(request)).through(lambda pieces: pieces)
        try:
            return response.with_body(await response.body.read(64 * MB))
        finally:
            await response.aclose()

    told = answer(body=data, cuts=(len(data) // 2,), headers=JSON | {"content-encoding": coding})
    async with stage(whole, told) as played_on:
        tracemalloc.start()
        played = await played_on.play(ASK)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (played.status, played.error["code"]) == (502, "upstream_failed")
    assert peak < 16 * MB  # of a body that was gathered: the bomb holds 40 MB
