"""A client that sends the bytes it is told to and takes answers apart by hand."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from .wire import Pairs, read_chunks, read_head, value


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came."""

    line: bytes
    headers: Pairs
    body: bytes

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.line.split(b" ")[1])

    def get(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        return value(self.headers, name)


class RawClient:
    """`async with RawClient(port) as client`: one connection to 127.0.0.1:port, or to a Unix socket's path.

    With a `window`, the kernel takes no more than about that many bytes for a client that doesn't read.
    """

    def __init__(self, where: int | str, *, window: int | None = None) -> None:
        self._where = where
        self._window = window
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        where = self._where if isinstance(self._where, str) else ("127.0.0.1", self._where)
        sock = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        sock.setblocking(False)
        if not isinstance(where, str):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does so only for its own sockets
        if self._window is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window)
        try:
            await asyncio.get_running_loop().sock_connect(sock, where)
        except BaseException:
            sock.close()
            raise
        limit = 2**20 if self._window is None else self._window
        self.reader, self.writer = await asyncio.open_connection(sock=sock, limit=limit)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """These bytes, and wait until they have left."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[bytes, Pairs]:
        """The next answer's status line and headers."""
        return await read_head(self.reader)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """The next answer, whole; `bodiless` for the answer to HEAD. Raises IncompleteReadError when it is cut."""
        line, headers = await self.head()
        if bodiless or line.split(b" ")[1] in (b"204", b"304"):
            return Answer(line, headers, b"")
        if (value(headers, b"transfer-encoding") or b"").lower() == b"chunked":
            return Answer(line, headers, await read_chunks(self.reader))
        length = value(headers, b"content-length")
        if length is None:
            return Answer(line, headers, await self.reader.read())
        return Answer(line, headers, await self.reader.readexactly(int(length)))

    async def ask(self, data: bytes, *, bodiless: bool = False) -> Answer:
        """Send a request, hear its answer."""
        await self.send(data)
        return await self.answer(bodiless=bodiless)

    def reset(self) -> None:
        """Hang up with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def ended(self) -> bytes:
        """All that still comes until the other side hangs up; b"" when it hung up without a further word."""
        rest = b""
        with suppress(ConnectionError):
            while piece := await self.reader.read(2**16):
                rest += piece
        return rest
