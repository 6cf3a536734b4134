"""Large bodies on a stream: how they are announced, and how they are read piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


def framing(chunked: bool, size: int) -> bytes:
    """The header that says how the body ends."""
    return b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % size


def framed(piece: bytes, chunked: bool) -> bytes:
    """A piece of a body as it stands on the wire; the empty one is its end."""
    if not chunked:
        return piece
    return b"%x\r\n%b\r\n" % (len(piece), piece)


async def pieces(reader: asyncio.StreamReader, chunked: bool, size: int) -> AsyncIterator[bytes]:
    """A body as it comes, out of its chunks."""
    if not chunked:
        while size:
            piece = await reader.read(min(size, 2**18))
            assert piece
            size -= len(piece)
            yield piece
        return
    while left := int(await reader.readuntil(b"\r\n"), 16):
        while left:
            piece = await reader.read(min(left, 2**18))
            assert piece
            left -= len(piece)
            yield piece
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
