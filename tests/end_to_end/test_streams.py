"""Answers on their way: every event at once, any size unchanged, and what is cut looks cut."""

from __future__ import annotations

import asyncio
import hashlib
import random
from asyncio import IncompleteReadError, Queue

import pytest

from proxy.testkit import Call, RawClient

from .openai_answers import EDGE
from .tee import passage

EVENTS = [b'event: e\ndata: {"n": %d, "words": "%b"}\n\n' % (n, b"w" * (n * n)) for n in range(100)]
ASK = b'POST /v1/chat/completions HTTP/1.1\r\nHost: me\r\nContent-Length: 15\r\n\r\n{"stream":true}'
STREAM = b"HTTP/1.1 200 OK\r\n%bContent-Type: text/event-stream\r\n" % EDGE


def framed(piece: bytes, framing: str) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece


def head(framing: str, length: int = 0) -> bytes:
    lines = {"chunked": b"Transfer-Encoding: chunked\r\n", "counted": b"Content-Length: %d\r\n" % length, "close": b""}
    return STREAM + lines[framing] + b"\r\n"


async def end(call: Call, framing: str) -> None:
    if framing == "chunked":
        await call.send(b"0\r\n\r\n")
    elif framing == "close":
        call.cut()


async def chunk(client: RawClient) -> bytes:
    size = int(await client.reader.readuntil(b"\r\n"), 16)
    return (await client.reader.readexactly(size + 2))[:-2]


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_each_event_arrives_before_the_next_is_sent(framing: str) -> None:
    heard: Queue[int] = Queue()  # the upstream goes on only when the client has the event before

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(framing))
        assert await heard.get() == -1
        for number, event in enumerate(EVENTS):
            await call.send(framed(event, framing))
            assert await heard.get() == number
        await end(call, framing)

    async with passage(script=script) as through, RawClient(through.served.port) as client:
        await client.send(ASK)
        line, _ = await client.head()
        assert line == b"HTTP/1.1 200 OK"
        heard.put_nowait(-1)
        for number, event in enumerate(EVENTS):
            got = b""
            while len(got) < len(event):
                got += await chunk(client)
            assert got == event
            heard.put_nowait(number)
        assert await chunk(client) == b""


@pytest.mark.parametrize("framing", ["chunked", "close", "counted"])
@pytest.mark.parametrize("kind", ["audio", "json"])
async def test_a_large_answer_arrives_byte_for_byte(kind: str, framing: str) -> None:
    whole = random.Random(kind).randbytes(20_000_000)
    if kind == "json":
        whole = b'{"data":[{"b64_json":"%b"}]}' % whole.hex().encode()[:20_000_000]
    pieces = [whole[at : at + 300_007] for at in range(0, len(whole), 300_007)]

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(framing, len(whole)))
        for piece in pieces:
            await call.send(framed(piece, framing))
        await end(call, framing)

    async with passage(script=script) as through, RawClient(through.front.port) as client:
        answer = await client.ask(ASK)
        assert len(answer.body) == len(whole)
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(whole).digest()
        if framing == "counted":
            assert answer.get(b"content-length") == b"%d" % len(whole)


CUTS = [("chunked", "fin"), ("chunked", "rst"), ("counted", "fin"), ("counted", "rst"), ("close", "rst")]


@pytest.mark.parametrize(("framing", "how"), CUTS)
@pytest.mark.parametrize("events", [0, 1, 50])
async def test_a_stream_that_is_cut_looks_cut(framing: str, how: str, events: int) -> None:
    heard = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(framing, sum(map(len, EVENTS))))
        for event in EVENTS[:events]:
            await call.send(framed(event, framing))
        if framing == "chunked":
            await call.send(b"ff\r\ndata: half a")
        await heard.wait()
        call.cut() if how == "fin" else call.reset()

    async with passage(script=script) as through, RawClient(through.front.port) as client:
        await client.send(ASK)
        line, headers = await client.head()
        assert line == b"HTTP/1.1 200 OK"
        heard.set()
        with pytest.raises((IncompleteReadError, ConnectionResetError)):
            if (b"Transfer-Encoding", b"chunked") in headers:
                while await chunk(client):
                    pass
            else:
                await client.reader.readexactly(sum(map(len, EVENTS)))
        (line,) = await through.served.ended(1)
        assert (line["complete"], line["error"]) == (False, "upstream_failed")


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_cut_reaches_a_client_that_reads_until_the_close(how: str) -> None:
    heard = asyncio.Event()

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head("chunked") + framed(EVENTS[1], "chunked"))
        await heard.wait()
        call.cut() if how == "fin" else call.reset()

    async with passage(script=script) as through, RawClient(through.served.port) as client:
        await client.send(ASK.replace(b"HTTP/1.1", b"HTTP/1.0"))
        await client.head()
        assert await client.reader.readexactly(len(EVENTS[1])) == EVENTS[1]
        heard.set()
        with pytest.raises(ConnectionResetError):  # a FIN would be the clean end
            await client.reader.read()
