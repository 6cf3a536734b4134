"""A slow reader never makes memory grow: large bodies through the real process, at fifty megabytes a second."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from proxy.testkit import Call, RawClient, ScriptedUpstream

from .bodies import framed, framing, pieces
from .process import serving
from .tee import transparent

MB, MIB = 10**6, 2**20
RATE = 50 * MB  # bytes a second that the slow side takes
PIECE = bytes(range(256)) * 1024  # 256 KiB
ALLOWED = 32 * MIB
SHORT = b"GET /v1/models HTTP/1.1\r\nHost: me\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Tokens:
    """The clock of a reader that takes RATE bytes a second and no more."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._taken = 0

    async def take(self, size: int) -> None:
        """Wait until so many bytes more may have been read."""
        self._taken += size
        early = self._began + self._taken / RATE - self._loop.time()
        if early > 0:
            await asyncio.sleep(early)

    @property
    def seconds(self) -> float:
        """Since the first byte."""
        return self._loop.time() - self._began


async def put(to: RawClient | Call, chunked: bool, size: int) -> None:
    """Write that many bytes as fast as they are taken."""
    piece = framed(PIECE, chunked)
    for _ in range(size // len(PIECE)):
        await to.send(piece)
    await to.send(framed(b"", chunked))


async def taken(reader: asyncio.StreamReader, chunked: bool, size: int) -> float:
    """Read a body slowly; the seconds it took. It must be what `put` writes."""
    tokens, digest, length = Tokens(), hashlib.sha256(), 0
    async for piece in pieces(reader, chunked, size):
        digest.update(piece)
        length += len(piece)
        await tokens.take(len(piece))
    whole = hashlib.sha256()
    for _ in range(size // len(PIECE)):
        whole.update(PIECE)
    assert (length, digest.digest()) == (size, whole.digest())
    return tokens.seconds


async def measured(way: str, chunked: bool, size: int, folder: Path) -> tuple[int, float]:
    """How far the process grew at its peak, in bytes, and the seconds that the body took."""
    seconds = 0.0

    async def script(call: Call) -> None:
        nonlocal seconds
        if call.received.target == b"/v1/models":
            await call.send(OK)
        elif way == "up":
            seconds = await taken(call.reader, chunked, size)
            await call.send(OK)
        else:
            await call.send(b"HTTP/1.1 200 OK\r\n" + framing(chunked, size) + b"\r\n")
            await put(call, chunked, size)

    async with (
        ScriptedUpstream(script=script) as upstream,
        serving(transparent(upstream.url), folder) as (process, port),
    ):
        async with RawClient(port) as client:
            assert (await client.ask(SHORT)).status == 200
            before = process.memory("VmRSS")
            if way == "up":
                head = b"POST /v1/files HTTP/1.1\r\nHost: me\r\n" + framing(chunked, size) + b"\r\n"
                await client.send(head)
                await put(client, chunked, size)
                assert (await client.answer()).status == 200
            else:
                await client.send(b"GET /v1/files/one/content HTTP/1.1\r\nHost: me\r\n\r\n")
                await client.head()
                seconds = await taken(client.reader, chunked, size)
            assert (await client.ask(SHORT)).status == 200  # it still serves, on the same connection
            return process.memory("VmHWM") - before, seconds


def report(way: str, chunked: bool, size: int, grown: int, seconds: float) -> None:
    kind = "chunked" if chunked else "counted"
    print(f"{size // MIB} MiB {way}, {kind}: {seconds:.1f} s, peak memory +{grown / MIB:.1f} MiB")


@pytest.mark.parametrize(
    ("way", "chunked"),
    [
        ("up", True),
        ("down", False),
        pytest.param("up", False, marks=pytest.mark.long),
        pytest.param("down", True, marks=pytest.mark.long),
    ],
)
async def test_a_quarter_gigabyte_leaves_memory_flat(way: str, chunked: bool, tmp_path: Path) -> None:
    size = 256 * MIB
    grown, seconds = await measured(way, chunked, size, tmp_path)
    report(way, chunked, size, grown, seconds)
    assert seconds >= size / RATE - 0.1, "the reader was not slow"
    assert grown < ALLOWED


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_gigabyte_leaves_memory_flat(way: str, chunked: bool, tmp_path: Path) -> None:
    size = 1024 * MIB
    grown, seconds = await measured(way, chunked, size, tmp_path)
    report(way, chunked, size, grown, seconds)
    assert grown < ALLOWED
