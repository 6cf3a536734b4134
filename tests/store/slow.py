"""A small TCP proxy in front of a server: it delays what comes back, holds it, cuts it, or says something else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress


class SlowProxy:
    """Between a client and a server on this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.port = 0
        self.opened = 0  # connections so far
        self.delay: Callable[[], float] = lambda: 0.0  # seconds before each piece that comes back
        self.instead: list[bytes] = []  # what is said in place of the next pieces
        self.seen: list[bytes] = []  # what came back
        self.going = asyncio.Event()  # unset: nothing comes back
        self.going.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> SlowProxy:
        """Listen on a free port; with `tls`, speak it with the client."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def cut(self) -> None:
        """Break every connection."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        """Break all and listen no more."""
        assert self._server is not None
        self._server.close()
        self.going.set()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self._writers.add(writer)
        pumps: list[asyncio.Task[None]] = []
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self._port)
            self._writers.add(there)
            pumps = [asyncio.ensure_future(self._pump(reader, there, slow=False))]
            pumps.append(asyncio.ensure_future(self._pump(back, writer, slow=True)))
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for one in (writer, *([there] if pumps else [])):
                self._writers.discard(one)
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                if slow:
                    self.seen.append(piece)
                    await asyncio.sleep(self.delay())
                    await self.going.wait()
                    if self.instead:
                        piece = self.instead.pop(0)
                writer.write(piece)
                await writer.drain()
