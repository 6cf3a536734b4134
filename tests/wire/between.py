"""An HTTP proxy that knows CONNECT alone, for the wire to go through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from proxy.testkit.wire import Pairs, read_head, value

GRANTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
DENIED = b'HTTP/1.1 407 Who Are You\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 2\r\n\r\nno'
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Between:
    """`async with Between(port) as proxy`: connects whoever asks to 127.0.0.1:port, whatever name they asked for.

    With `wants`, only those with that Proxy-Authorization; with a `script`, it does what that does instead.
    `step` is how many bytes of its grant it sends at once.
    """

    def __init__(
        self, to: int = 0, *, wants: bytes | None = None, script: Script | None = None, step: int = 2**10
    ) -> None:
        self.to = to
        self.step = step
        self.wants = wants
        self.script = script
        self.asked: list[tuple[bytes, Pairs]] = []
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def url(self, userinfo: str = "") -> str:
        """What a config or the environment would call it."""
        return f"http://{f'{userinfo}@' if userinfo else ''}127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            line, headers = await read_head(reader)
            self.asked.append((line, headers))
            if self.script is not None:
                await self.script(reader, writer)
            elif self.wants is not None and value(headers, b"proxy-authorization") != self.wants:
                writer.write(DENIED)
            else:
                await self._carry(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.to)
        for i in range(0, len(GRANTED), self.step):
            writer.write(GRANTED[i : i + self.step])
            await writer.drain()
            await asyncio.sleep(0)
        ways = [asyncio.ensure_future(_pump(reader, back)), asyncio.ensure_future(_pump(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
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


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(2**16):
            writer.write(piece)
            await writer.drain()
