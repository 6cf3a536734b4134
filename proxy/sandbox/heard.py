"""A request's body on its way to who reads it, counted and hashed; with `wire.py`, all that knows aiohttp's inside."""

from __future__ import annotations

import asyncio
import hashlib
import warnings
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

from aiohttp import web
from aiohttp.streams import EmptyStreamReader, StreamReader

# How far one looks into a body without reading it. The parser stops for want of room only at twice as much.
WINDOW = 2**18


class Heard:
    """Stands where aiohttp's reader stood: all bytes that are read come through here, whoever reads them."""

    __slots__ = ("_again", "_digest", "_left", "_under", "_waiter", "length")

    def __init__(self, under: StreamReader) -> None:
        self._under = under
        self._digest = hashlib.sha256()
        self._again = 0  # bytes that were counted and will be read once more
        self._left = False
        self._waiter: asyncio.Future[None] | None = None
        self.length = 0

    @classmethod
    def of(cls, request: web.Request) -> Heard:
        """Takes the place of the request's reader."""
        heard = cls(request._payload)
        request._payload = cast(StreamReader, heard)
        return heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._under, name)

    @property
    def sha256(self) -> str:
        """Of what was read so far, as it was sent."""
        return self._digest.hexdigest()

    @property
    def whole(self) -> bool:
        """Nothing of the body is left to read."""
        return self._under.at_eof()

    @property
    def inflated(self) -> bool:
        """Somebody before us undid the content encoding."""
        return getattr(self._under, "total_compressed_bytes", None) is not None

    def _count(self, data: bytes) -> bytes:
        new: bytes | memoryview = data
        if self._again:
            known = min(self._again, len(data))
            self._again -= known
            new = memoryview(data)[known:]
        if new:
            self.length += len(new)
            self._digest.update(new)
        return data

    async def read(self, n: int = -1) -> bytes:
        """As StreamReader's."""
        return self._count(await self._under.read(n))

    async def readany(self) -> bytes:
        """As StreamReader's."""
        return self._count(await self._under.readany())

    async def readexactly(self, n: int) -> bytes:
        """As StreamReader's."""
        return self._count(await self._under.readexactly(n))

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        """As StreamReader's."""
        return self._count(await self._under.readline(max_line_length=max_line_length))

    async def readuntil(self, separator: bytes = b"\n", *, max_size: int | None = None) -> bytes:
        """As StreamReader's."""
        return self._count(await self._under.readuntil(separator, max_size=max_size))

    async def readchunk(self) -> tuple[bytes, bool]:
        """As StreamReader's."""
        data, end = await self._under.readchunk()
        return self._count(data), end

    def read_nowait(self, n: int = -1) -> bytes:
        """As StreamReader's."""
        return self._count(self._under.read_nowait(n))

    def unread_data(self, data: bytes) -> None:
        """As StreamReader's."""
        self._again += len(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp's own multipart reader still needs it
            self._under.unread_data(data)

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """As StreamReader's."""
        while data := await self.read(n):
            yield data

    async def iter_any(self) -> AsyncIterator[bytes]:
        """As StreamReader's."""
        while data := await self.readany():
            yield data

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """As StreamReader's."""
        while (piece := await self.readchunk()) != (b"", False):
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line

    async def peek(self) -> bytes:
        """The body's first bytes, up to the window, without reading them."""
        under = self._under
        if isinstance(under, EmptyStreamReader):
            return b""
        while True:
            enough = under._size >= WINDOW or under.is_eof() or under._protocol._reading_paused
            if enough or under.exception() is not None:
                return b"".join(under._buffer)[:WINDOW]
            await under._wait("peek")

    def change(self, start: int, end: int, new: bytes) -> None:
        """Puts other bytes where a peek saw these; what is hashed stays what was sent."""
        under = self._under
        held = b"".join(under._buffer)
        self._count(held)
        changed = held[:start] + new + held[end:]
        under._buffer.clear()
        under._buffer.append(changed)
        under._size = len(changed)
        self._again += len(changed)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """What aiohttp calls when the client is gone."""
        self._left = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._under.set_exception(exc, *cause)

    async def gone(self, within: float | None) -> bool:
        """Whether the client leaves within so many seconds."""
        if self._left:
            return True
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within):
                await self._waiter
        except TimeoutError:
            return False
        finally:
            self._waiter = None
        return True

    async def finish(self) -> None:
        """Reads what is left."""
        while not self._under.at_eof():
            await self.readany()

    async def drain(self, within: float) -> None:
        """Reads what nobody wanted to read, so that it is known and the connection can go on."""
        with suppress(TimeoutError, OSError, web.RequestPayloadError):
            async with asyncio.timeout(within):
                await self.finish()


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """A body without its content encoding, up to a limit; ValueError when it is something else."""
    if encoding not in ("gzip", "deflate"):
        raise ValueError(f"no such encoding: {encoding}")
    last: zlib.error | None = None
    for bits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # gzip or zlib by its head, then deflate without a head
        try:
            engine = zlib.decompressobj(bits)
            found = engine.decompress(body, limit + 1)
        except zlib.error as exc:
            last = exc
            continue
        if len(found) <= limit and not engine.eof:
            raise ValueError("the compressed body ends too soon")
        return found
    raise ValueError("it isn't compressed so") from last
