"""An upstream that records what it receives and answers byte for byte what a test tells it, with pauses and cuts."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from .wire import Pairs, read_chunks, read_head, value

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
Script = Callable[["Call"], Awaitable[None]]


@dataclass(slots=True)
class Received:
    """One request as it arrived."""

    line: bytes
    headers: Pairs
    body: bytes | None = None  # None: nobody read it to its end
    connection: int = 0

    def get(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        return value(self.headers, name)

    @property
    def target(self) -> bytes:
        """What was asked for."""
        return self.line.split(b" ")[1]


@dataclass(slots=True)
class Call:
    """One request being served, in a script's hands."""

    received: Received
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    closed: bool = field(default=False)

    async def body(self) -> bytes:
        """The request's body, to its end."""
        if self.received.body is None:
            if (self.received.get(b"transfer-encoding") or b"").lower() == b"chunked":
                self.received.body = await read_chunks(self.reader)
            else:
                self.received.body = await self.reader.readexactly(int(self.received.get(b"content-length") or 0))
        return self.received.body

    async def send(self, data: bytes) -> None:
        """These bytes, and wait until they have left."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the other side has hung up."""
        with suppress(ConnectionError):
            while await self.reader.read(2**16):
                pass

    def cut(self) -> None:
        """Hang up with FIN."""
        self.closed = True
        self.writer.close()

    def reset(self) -> None:
        """Hang up with RST."""
        self.closed = True
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class ScriptedUpstream:
    """`async with ScriptedUpstream() as upstream`: answers `answer` to everything, or does what `script` does."""

    def __init__(self, answer: bytes = OK, *, script: Script | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.script: Script = script or self._answer
        self.requests: list[Received] = []
        self.connections = 0
        self.open = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Its base URL, with /v1."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    async def _answer(self, call: Call) -> None:
        await call.body()
        await call.send(self.answer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            while True:
                line, headers = await read_head(reader)
                received = Received(line, headers, connection=number)
                self.requests.append(received)
                call = Call(received, reader, writer)
                await self.script(call)
                if call.closed:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:  # by __aexit__: the end, and asyncio's streams complain of a cancelled task
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=2**20, backlog=4096)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
