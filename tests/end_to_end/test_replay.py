"""A body that is sent twice is the same both times; a body that nobody wants gives way to the refusal."""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
from pathlib import Path

import pytest

from proxy.api import Exchange, Forward, Request, Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, serve

from ..plugins_for_tests import told
from .bodies import framed, framing, pieces
from .process import opened
from .tee import passage

MB = 10**6
SIZE = 40 * MB
BODY = random.Random(3).randbytes(SIZE)
PIECES = [BODY[at : at + MB] for at in range(0, SIZE, MB)]
MEMORY, LIMIT = 64 * 2**10, 2**30
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def post(chunked: bool) -> bytes:
    return b"POST /v1/images/edits HTTP/1.1\r\nHost: me\r\n" + framing(chunked, SIZE) + b"\r\n"


class Twice:
    """A layer that asks twice, the first time in vain, and the upstream that hears both."""

    def __init__(self, chunked: bool, folder: Path) -> None:
        self._chunked = chunked
        self._folder = folder
        self.halfway = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.moved = asyncio.Condition()
        self.taken = 0  # bytes that the second attempt has brought
        self.digest = hashlib.sha256()
        self.first = b""
        self.spooled: list[str] = []

    async def layer(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        request = request.with_body(request.body.keep(memory=MEMORY, limit=LIMIT))
        first = asyncio.ensure_future(forward(request))
        await self.halfway.wait()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        self.spooled = opened(self._folder)
        self.cancelled.set()
        return await forward(request)

    async def script(self, call: Call) -> None:
        if not self.halfway.is_set():
            async for piece in pieces(call.reader, self._chunked, SIZE):
                self.first += piece
                if len(self.first) >= 10 * MB:
                    break
            self.halfway.set()
            await call.gone()
            return
        async for piece in pieces(call.reader, self._chunked, SIZE):
            self.digest.update(piece)
            self.taken += len(piece)
            async with self.moved:
                self.moved.notify_all()
        await call.send(OK)

    async def behind(self, size: int) -> None:
        """Wait until the second attempt has brought that many bytes."""
        async with self.moved:
            await self.moved.wait_for(lambda: self.taken >= size)

    def config(self, upstream: ScriptedUpstream) -> str:
        return f"""
[upstreams.only]
base_url = "{upstream.url}"
[plugins.twice]
use = "tests.plugins_for_tests:Told"
word = "{told(self.layer)}"
[[routes]]
match = "* /v1/*"
chain = ["twice"]
"""


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("slow", [False, True], ids=["fast client", "slow client"])
async def test_the_second_attempt_sends_the_body_from_its_first_byte(
    slow: bool, chunked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = Twice(chunked, tmp_path)
    async with ScriptedUpstream(script=twice.script) as upstream, serve(twice.config(upstream)) as served:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        async with RawClient(served.port) as client:
            await client.send(post(chunked))
            for number, piece in enumerate(PIECES):
                if slow and number == 12:  # the first attempt is cancelled while the client has more to send
                    await twice.cancelled.wait()
                if slow and number > 12:  # and the second one waits for it at each piece
                    await twice.behind(number * MB)
                await client.send(framed(piece, chunked))
            await client.send(framed(b"", chunked))
            answer = await client.answer()
            assert answer.status == 200
            (line,) = await served.ended(1)
            assert line["attempts"] == ["only=cancelled", "only=200"]
    assert len(upstream.requests) == 2
    assert 10 * MB <= len(twice.first) < SIZE
    assert twice.first == BODY[: len(twice.first)]
    assert (twice.taken, twice.digest.digest()) == (SIZE, hashlib.sha256(BODY).digest())
    assert len(twice.spooled) == 1, "the body was held in memory"
    for name, framings in ((b"content-length", not chunked), (b"transfer-encoding", chunked)):
        assert [request.get(name) is not None for request in upstream.requests] == [framings, framings]


REFUSAL = b'{"error":{"message":"too large","type":"invalid_request_error","param":null,"code":null}}'
TOO_LARGE = b"HTTP/1.1 413 Payload Too Large\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(REFUSAL)


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("end", ["stays", "closes", "fin", "rst"])
async def test_an_upload_that_is_refused_early_is_answered_with_the_refusal(end: str, chunked: bool) -> None:
    async def script(call: Call) -> None:
        async for _ in pieces(call.reader, chunked, SIZE):
            break  # one piece, and no more
        await call.send(TOO_LARGE + (b"Connection: close\r\n" if end == "closes" else b"") + b"\r\n" + REFUSAL)
        if end == "stays":
            await call.gone()
        elif end == "rst":
            call.reset()
        else:
            call.cut()  # with the client's bytes unread: what the kernel makes of it is a RST as well

    async with passage(script=script) as through, RawClient(through.served.port) as client:
        await client.send(post(chunked))

        async def upload() -> None:
            for piece in PIECES:
                await client.send(framed(piece, chunked))
            await client.send(framed(b"", chunked))

        sending = asyncio.ensure_future(upload())
        answer = await client.answer()
        await asyncio.wait([sending])
        assert sending.exception() is None or isinstance(sending.exception(), ConnectionError)
        assert answer.line == b"HTTP/1.1 413 Payload Too Large"
        assert answer.body == REFUSAL
        (line,) = await through.served.ended(1)
        assert line["attempts"] == ["only=413"]
