"""Answers of an upstream that lies about where they end, or about whom they are for: nobody gets the poison."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from proxy.testkit import RawClient, serve

from .strict import Heard, StrictUpstream, echo, speak, statuses
from .telling import config

FIRST = b"GET /v1/first HTTP/1.1\r\nHost: me\r\n\r\n"
NEXT = b"GET /v1/next HTTP/1.1\r\nHost: me\r\n\r\n"
NEXT_BODY = b"GET /v1/next "
LAST = b"GET /v1/last HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: 1\r\n\r\nevil"
OK = b"HTTP/1.1 200 OK\r\n"


def headed(*headers: bytes, body: bytes = b"", line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((line, *headers)) + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    return headed(b"Transfer-Encoding: chunked", body=body)


# Nothing of these can be believed: a 502 in our words.
BROKEN = {
    "TE and CL": headed(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"4\r\nevil\r\n0\r\n\r\n"),
    "CL and TE": headed(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"4\r\nevil\r\n0\r\n\r\n"),
    "TE gzip, chunked": headed(b"Transfer-Encoding: gzip, chunked", body=b"4\r\nevil\r\n0\r\n\r\n"),
    "TE identity": headed(b"Transfer-Encoding: identity", body=b"evil"),
    "TE xchunked": headed(b"Transfer-Encoding: xchunked", body=b"4\r\nevil\r\n0\r\n\r\n"),
    "TE twice": headed(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"4\r\nevil\r\n0\r\n\r\n"),
    "CL twice, different": headed(b"Content-Length: 4", b"Content-Length: 5", body=b"evil!"),
    "CL twice, the same": headed(b"Content-Length: 4", b"Content-Length: 4", body=b"evil"),
    "CL list": headed(b"Content-Length: 4, 4", body=b"evil"),
    "CL negative": headed(b"Content-Length: -4", body=b"evil"),
    "CL signed": headed(b"Content-Length: +4", body=b"evil"),
    "CL hex": headed(b"Content-Length: 0x4", body=b"evil"),
    "CL empty": headed(b"Content-Length:", body=b"evil"),
    "CL 2**64 - 1": headed(b"Content-Length: 18446744073709551615", body=EVIL),
    "CL 10**30": headed(b"Content-Length: 1" + b"0" * 30, body=b"evil"),
    "NUL in a value": headed(b"X: a\0evil", b"Content-Length: 0"),
    "CR in a value": headed(b"X: a\rX-Evil: 1", b"Content-Length: 0"),
    "no colon": headed(b"evil", b"Content-Length: 0"),
    "empty name": headed(b": evil", b"Content-Length: 0"),
    "blank in a name": headed(b"X evil: 1", b"Content-Length: 0"),
    "status of four digits": headed(b"Content-Length: 4", line=b"HTTP/1.1 2000 OK", body=b"evil"),
    "status of letters": headed(b"Content-Length: 4", line=b"HTTP/1.1 abc OK", body=b"evil"),
    "status missing": headed(b"Content-Length: 4", line=b"HTTP/1.1", body=b"evil"),
    "HTTP/9.9": headed(b"Content-Length: 4", line=b"HTTP/9.9 200 OK", body=b"evil"),
    "not HTTP": b"SSH-2.0-evil\r\n\r\n",
    "a request": b"GET /evil HTTP/1.1\r\nHost: evil\r\n\r\n",
    "101 unasked": headed(b"Upgrade: websocket", b"Connection: Upgrade", line=b"HTTP/1.1 101 Evil", body=b"evil"),
    "101 to h2c": headed(b"Upgrade: h2c", b"Connection: Upgrade", line=b"HTTP/1.1 101 Evil", body=b"evil"),
    "a value of 1 MB": headed(b"X: " + b"evil" * 250_000, b"Content-Length: 0"),
    "a head of 1 MB": headed(*[b"X-%d: %b" % (number, b"evil" * 100) for number in range(2500)], b"Content-Length: 0"),
    "a reason of 1 MB": headed(b"Content-Length: 0", line=b"HTTP/1.1 200 " + b"evil" * 250_000),
}

# Broken in the middle, when the head is on its way: cut, never ended as if all were well.
CUT = {
    "chunk size of letters": chunked(b"2\r\nhi\r\nxyz\r\nevil\r\n0\r\n\r\n"),
    "chunk size negative": chunked(b"2\r\nhi\r\n-4\r\nevil\r\n0\r\n\r\n"),
    "chunk size overflows": chunked(b"2\r\nhi\r\n10000000000000004\r\nevil\r\n0\r\n\r\n"),
    "chunk longer than it says": chunked(b"2\r\nhi evil\r\n0\r\n\r\n"),
}

# A whole answer, and more than was asked for behind it.
SURPLUS = {
    "bytes behind a counted body": headed(b"Content-Length: 2", body=b"hievil"),
    "an answer behind a counted body": headed(b"Content-Length: 2", body=b"hi" + EVIL),
    "an answer behind chunks": chunked(b"2\r\nhi\r\n0\r\n\r\n" + EVIL),
    "half an answer behind chunks": chunked(b"2\r\nhi\r\n0\r\n\r\n" + EVIL[:30]),
    "a body to HEAD's kind of answer": headed(line=b"HTTP/1.1 204 No Content", body=EVIL),
    "a body behind 304": headed(b"Content-Length: 4", line=b"HTTP/1.1 304 Not Modified", body=b"evil"),
    "trailers": chunked(b"2\r\nhi\r\n0\r\nX-First: 1\r\nX-Evil: evil\r\n\r\n"),
    "trailers that mean something": chunked(b"2\r\nhi\r\n0\r\nContent-Length: 9\r\nSet-Cookie: evil=1\r\n\r\n"),
    "a reason beyond ASCII": headed(b"Content-Length: 2", line=b"HTTP/1.1 200 \xe9\xff", body=b"hi"),
    "chunk extension": chunked(b'2;evil="1"\r\nhi\r\n0\r\n\r\n'),
}


def once(first: bytes) -> StrictUpstream:
    """An upstream that answers /v1/first so, and everything else rightly."""
    return StrictUpstream(lambda heard: first if heard.target == b"/v1/first" else echo(heard))


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_a_broken_answer_is_a_502_and_the_next_is_right(answer: bytes) -> None:
    async with once(answer) as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        heard = await client.ask(FIRST)
        assert heard.status == 502 and b'"code":"upstream_failed"' in heard.body and b"evil" not in heard.body.lower()
        assert not any(b"evil" in (name + value).lower() for name, value in heard.headers)
        for _ in range(2):
            assert (await client.ask(NEXT)).body == NEXT_BODY
        assert b"evil" not in served.raw_log.lower()


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
async def test_an_answer_broken_in_the_middle_is_cut_and_the_next_is_right(answer: bytes) -> None:
    async with once(answer) as upstream, serve(config(upstream)) as served:
        said = await speak(served.port, FIRST + LAST)
        assert b"\r\n0\r\n" not in said and b"X-Evil" not in said
        assert statuses(said) in ([200], [502, 200])
        async with RawClient(served.port) as client:
            assert (await client.ask(NEXT)).body == NEXT_BODY


@pytest.mark.parametrize("answer", SURPLUS.values(), ids=SURPLUS)
async def test_what_stands_behind_an_answer_reaches_nobody(answer: bytes) -> None:
    async with once(answer) as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        heard = await client.ask(FIRST)
        if heard.status != 502:  # what came in one piece with the poison may be lost with it
            assert heard.body == (b"hi" if b"hi" in answer else b"") and heard.status in (200, 204, 304)
        assert not any(b"evil" in (name + value).lower() for name, value in heard.headers)
        for _ in range(3):
            heard = await client.ask(NEXT)
            assert heard.status == 200 and heard.body == NEXT_BODY
            assert [name.lower() for name, _ in heard.headers] == [b"content-length"]
        async with RawClient(served.port) as other:
            assert (await other.ask(NEXT)).body == NEXT_BODY


async def test_the_trailers_of_one_answer_are_never_the_headers_of_anothers() -> None:
    # Seen with aiohttp 3.14.5: a cookie in the trailers of one caller's answer came with the next caller's.
    answer = chunked(b"2\r\nhi\r\n0\r\nSet-Cookie: session=evil\r\n\r\n")
    async with once(answer) as upstream, serve(config(upstream)) as served:
        said = await speak(served.port, FIRST.replace(b"Host: me", b"Host: me\r\nConnection: close"))
        assert said.endswith(b"0\r\n\r\n") and b"evil" not in said
        assert b"evil" not in await speak(served.port, LAST)
        assert len(upstream.requests) == 2


async def test_a_flood_of_interim_answers_is_passed_over() -> None:
    flood = b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + b"HTTP/1.1 103 Early Hints\r\nLink: </evil>\r\n\r\n" * 100
    ending = headed(b"Content-Length: 2", body=b"hi")
    async with once(flood + ending) as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        heard = await client.ask(FIRST)
        assert (heard.status, heard.body) == (200, b"hi") and heard.get(b"link") is None
        assert (await client.ask(NEXT)).body == NEXT_BODY


FOLDED = headed(b"X: a\r\n X-Evil: 1", b"Content-Length: 2", body=b"hi")


async def test_a_folded_header_becomes_no_header_of_its_own() -> None:
    async with once(FOLDED) as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        heard = await client.ask(FIRST)
        assert heard.status == 502 or (heard.body == b"hi" and heard.get(b"x-evil") is None)
        assert all(b"\r" not in value and b"\n" not in value for _, value in heard.headers)
        assert (await client.ask(NEXT)).body == NEXT_BODY


@pytest.mark.parametrize("line", [b"X: a\nX-Evil: 1", b"X: a\n X-Evil: 1"], ids=["header", "folded"])
async def test_a_bare_lf_in_a_head_carries_no_raw_line_end_to_the_client(line: bytes) -> None:
    answer = headed(line, b"Content-Length: 2", body=b"hi")
    async with once(answer) as upstream, serve(config(upstream)) as served:
        said = await speak(served.port, FIRST.replace(b"Host: me", b"Host: me\r\nConnection: close"))
        head = said.partition(b"\r\n\r\n")[0]
        assert b"\n" not in head.replace(b"\r\n", b"") and b"\r" not in head.replace(b"\r\n", b"")
        assert statuses(said) in ([200], [502])


@pytest.mark.parametrize("asking", [b"Upgrade: websocket", b"Upgrade: h2c\r\nConnection: Upgrade"])
async def test_a_101_is_for_nobody_who_has_not_asked_for_a_socket_rightly(asking: bytes) -> None:
    granted = headed(b"Upgrade: websocket", b"Connection: Upgrade", line=b"HTTP/1.1 101 Evil", body=EVIL)
    async with once(granted) as upstream, serve(config(upstream)) as served:
        said = await speak(served.port, FIRST.replace(b"Host: me", b"Host: me\r\n" + asking) + LAST)
        assert statuses(said)[0] == 502 and 101 not in statuses(said) and b"evil" not in said.lower()


# --- Redirects, cookies, codings


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_handed_on_and_never_followed(status: int) -> None:
    async with StrictUpstream() as elsewhere:
        place = elsewhere.url.encode() + b"/evil"
        answer = headed(b"Location: " + place, b"Content-Length: 0", line=b"HTTP/1.1 %d Moved" % status)
        async with once(answer) as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
            heard = await client.ask(FIRST)
            assert heard.status == status and heard.get(b"location") == place
            assert (await client.ask(NEXT)).body == NEXT_BODY
            assert not elsewhere.raw and [one.target for one in upstream.requests] == [b"/v1/first", b"/v1/next"]


async def test_a_cookie_set_for_one_caller_is_never_sent_by_another() -> None:
    answer = headed(b"Set-Cookie: session=one; Path=/", b"Content-Length: 0")
    async with once(answer) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as one, RawClient(served.port) as two:
            assert (await one.ask(FIRST)).get(b"set-cookie") == b"session=one; Path=/"
            for client in (two, one):
                assert (await client.ask(NEXT)).get(b"set-cookie") is None
        assert not any(heard.all(b"cookie") for heard in upstream.requests)
        assert b"session=one" not in upstream.raw


async def test_a_compressed_answer_passes_untouched() -> None:
    body = gzip.compress(b"0" * 100_000)
    answer = headed(b"Content-Encoding: gzip", b"ETag: x", b"Content-Length: %d" % len(body), body=body)
    async with once(answer) as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        heard = await client.ask(FIRST)
        assert heard.body == body and heard.get(b"content-encoding") == b"gzip" and heard.get(b"etag") == b"x"


async def test_a_compressed_bomb_passes_untouched_and_is_never_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    bomb = b"".join(pack.compress(zeros) for _ in range(200)) + pack.flush()
    assert len(bomb) < 300_000

    def inflate(*args: object, **named: object) -> None:
        raise AssertionError("somebody inflates")

    monkeypatch.setattr(zlib, "decompressobj", inflate)
    monkeypatch.setattr("aiohttp.compression_utils.ZLibDecompressor", inflate)
    head = b"POST /v1/next HTTP/1.1\r\nHost: me\r\nContent-Encoding: gzip\r\n%b\r\n\r\n"
    answer = headed(b"Content-Encoding: gzip", b"Content-Length: %d" % len(bomb), body=bomb)
    async with once(answer) as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        counted = head % (b"Content-Length: %d" % len(bomb)) + bomb
        chunks = head % b"Transfer-Encoding: chunked" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(bomb), bomb)
        for data in (counted, chunks):
            async with asyncio.timeout(5):
                assert (await client.ask(data)).status == 200
        assert [heard.body == bomb and heard.all(b"content-encoding") == [b"gzip"] for heard in upstream.requests] == [
            True,
            True,
        ]
        assert (await client.ask(FIRST)).body == bomb


async def test_an_answer_never_reaches_another_connection() -> None:
    def late(heard: Heard) -> bytes:
        return echo(heard) + (EVIL if heard.target.endswith(b"7") else b"")

    async with StrictUpstream(late) as upstream, serve(config(upstream)) as served:

        async def one(number: int) -> None:
            async with RawClient(served.port) as client:
                for turn in range(20):
                    target = b"/v1/%d-%d" % (number, turn)
                    heard = await client.ask(b"GET %b HTTP/1.1\r\nHost: me\r\n\r\n" % target)
                    assert heard.body == b"GET %b " % target and heard.get(b"x-evil") is None

        await asyncio.gather(*(one(number) for number in range(10)))
