"""What comes of a fetch: how much at the most, without its coding, and whole or not at all."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from proxy.model.fetch import FetchFailed
from proxy.testkit import Call, ScriptedUpstream

from ..authority import Authority
from ..fetching import (
    PICTURE,
    Internet,
    counted,
    failed,
    fetching,
)
from ..telling import chunk

# --- how much


async def test_no_more_than_the_limit_comes_where_it_is_declared(cdn: ScriptedUpstream) -> None:
    async with fetching(Internet(cdn)) as fetch:
        assert await fetch.read(limit=len(PICTURE)) == PICTURE
        with pytest.raises(FetchFailed, match=f"larger than {len(PICTURE) - 1} bytes"):
            async with fetch.open(limit=len(PICTURE) - 1):
                raise AssertionError("it was opened")


async def test_no_more_than_the_limit_comes_where_it_is_not_declared(cdn: ScriptedUpstream) -> None:
    async def endless(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not call.writer.is_closing():
            await call.send(chunk(bytes(2**16)))
            await asyncio.sleep(0)  # asyncio's TLS takes what is written to a connection that is gone, and never waits

    cdn.script = endless
    read = 0
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open(limit=2**20) as fetched:
            with pytest.raises(FetchFailed, match="larger than"):
                async for piece in fetched:
                    read += len(piece)
            with pytest.raises(FetchFailed, match="larger than"):  # and there is no way round it
                await anext(fetched)
    assert read <= 2**20


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b"GZIP"])
async def test_what_came_compressed_unasked_is_inflated(cdn: ScriptedUpstream, coding: bytes) -> None:
    cdn.answer = counted(gzip.compress(PICTURE), b"Content-Encoding: " + coding)
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            assert fetched.length is None
            assert b"".join([piece async for piece in fetched]) == PICTURE


async def test_identity_is_no_coding(cdn: ScriptedUpstream) -> None:
    cdn.answer = counted(PICTURE, b"Content-Encoding: identity")
    async with fetching(Internet(cdn)) as fetch:
        assert await fetch.read() == PICTURE


async def test_a_bomb_goes_off_under_the_bounds(cdn: ScriptedUpstream) -> None:
    cdn.answer = counted(gzip.compress(bytes(50_000_000)), b"Content-Encoding: gzip")
    async with fetching(Internet(cdn)) as fetch:
        assert "100 times" in (await failed(fetch, limit=2**30)).message
        assert "larger than 100000 bytes" in (await failed(fetch, limit=100_000)).message


@pytest.mark.parametrize(
    "lines",
    [[b"Content-Encoding: br"], [b"Content-Encoding: gzip, gzip"], [b"Content-Encoding: gzip"] * 2],
)
async def test_other_codings_are_not_read(cdn: ScriptedUpstream, lines: list[bytes]) -> None:
    cdn.answer = counted(gzip.compress(PICTURE), *lines)
    async with fetching(Internet(cdn)) as fetch:
        assert "coding" in (await failed(fetch)).message


@pytest.mark.parametrize(
    "body", [gzip.compress(PICTURE)[:-9], PICTURE, gzip.compress(PICTURE) + b"x"], ids=["cut", "plain", "more"]
)
async def test_compression_that_is_broken_is_a_failure(cdn: ScriptedUpstream, body: bytes) -> None:
    cdn.answer = counted(body, b"Content-Encoding: gzip")
    async with fetching(Internet(cdn)) as fetch:
        assert "can't be read" in (await failed(fetch)).message


# --- what goes wrong


@pytest.mark.parametrize("status", [201, 202, 204, 206, 300, 304, 400, 401, 403, 404, 410, 429, 500, 503])
async def test_nothing_but_200_is_a_picture(cdn: ScriptedUpstream, status: int) -> None:
    body = b"" if status in (204, 304) else PICTURE
    cdn.answer = counted(body, status=b"%d X" % status)
    async with fetching(Internet(cdn)) as fetch:
        error = await failed(fetch)
    assert error.answered == status and str(status) in error.message and error.status == 502
    assert len(cdn.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"\x16\x03\x01 what is this\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhii",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(1000)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2**16 + b"\r\n\r\n",
    ],
)
async def test_an_answer_that_is_none_is_not_asked_for_again(cdn: ScriptedUpstream, answer: bytes) -> None:
    async def says(call: Call) -> None:
        await call.send(answer)
        call.cut()

    cdn.script = says
    async with fetching(Internet(cdn)) as fetch:
        await failed(fetch)
    assert cdn.connections == len(cdn.requests) == 1


HEAD = b"HTTP/1.1 200 OK\r\n"
CUT = HEAD + b"Content-Length: 1000\r\n\r\nhalf"


@pytest.mark.parametrize(
    "answer",
    [
        CUT,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nha",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\nhalf\r\n0\r\n\r\n",
        HEAD + b"\r\nhalf",
        HEAD + b"Connection: close\r\n\r\nhalf",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\nhalf",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n4\r\nhalf\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhalf",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhalf",
    ],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_half_a_picture_is_never_taken_for_a_whole(cdn: ScriptedUpstream, answer: bytes, reset: bool) -> None:
    async def cuts(call: Call) -> None:
        await call.send(answer)
        if reset:
            call.reset()
        else:
            call.cut()

    cdn.script = cuts
    async with fetching(Internet(cdn)) as fetch:
        await failed(fetch)


async def test_a_name_that_is_none_is_a_failure() -> None:
    async with fetching(Internet(gone_test=[[]])) as fetch:
        assert "no address" in (await failed(fetch, "https://unknown.test/")).message
        assert "no address" in (await failed(fetch, "https://gone.test/")).message


async def test_a_certificate_that_is_none_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    for context, word in (
        (authority.server("wrong.test"), "certificate"),
        (authority.server("cdn.test", expired=True), "expired"),
        (Authority(tmp_path).server("cdn.test"), "certificate"),
    ):
        async with ScriptedUpstream(counted(), tls=context) as server, fetching(Internet(server)) as fetch:
            assert word in (await failed(fetch)).message
            assert not server.requests


async def test_plain_http_where_tls_is_wanted_is_no_connection() -> None:
    def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(counted())
        writer.close()

    async with await asyncio.start_server(answers, "127.0.0.1", 0) as server:
        async with fetching(Internet(server.sockets[0].getsockname()[1])) as fetch:
            assert "no connection" in (await failed(fetch)).message
