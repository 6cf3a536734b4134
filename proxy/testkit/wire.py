"""Reading HTTP/1.1 off a stream the plain way, for both ends of a test: slow, short, and none of the proxy's code."""

from __future__ import annotations

import asyncio

Pairs = list[tuple[bytes, bytes]]


async def read_head(reader: asyncio.StreamReader) -> tuple[bytes, Pairs]:
    """A start line and its headers, values as sent but for the white space around them."""
    raw = await reader.readuntil(b"\r\n\r\n")
    start, *lines = raw[:-4].split(b"\r\n")
    return start, [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]


def value(headers: Pairs, name: bytes) -> bytes | None:
    """The first value of that name."""
    return next((found for key, found in headers if key.lower() == name), None)


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """A chunked body to its end; raises IncompleteReadError when it is cut."""
    pieces = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append(await reader.readexactly(size))
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("a chunk is longer than it says")
    if await reader.readuntil(b"\r\n") != b"\r\n":
        raise ValueError("trailers")
    return b"".join(pieces)
