"""One of several processes that serve together: what it does when its supervisor says so, or has gone."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..app import House, Prepared, loop_factory, settle
from ..model.errors import ProxyError
from ..wire.listening import Shares
from .channel import frame, frames, unpack

if TYPE_CHECKING:
    from ..core.config import Config

READ = 2**16  # bytes of what the supervisor says, taken at once


class Worker:
    """Serves from sockets that it shares with its like. The supervisor says when to begin, to change and to end."""

    def __init__(
        self,
        place: int,
        config: Config,
        mark: str,
        sockets: Sequence[socket.socket],
        shares: Shares,
        control: socket.socket,
        log: Any,
    ) -> None:
        self._place = place
        self._config = config
        self._mark = mark
        self._sockets = sockets
        self._shares = shares
        self._control = control
        self.log = log

    def run(self) -> int:
        """Serve until told to end; the exit status."""
        with asyncio.Runner(loop_factory=loop_factory(self._config)) as runner:
            return runner.run(self._run())

    async def _run(self) -> int:
        self._told = asyncio.Event()
        self._preparing: asyncio.Task[None] | None = None
        self._prepared: Prepared | None = None
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._told.set)  # this one alone: the supervisor puts another here
        self.house = House(self._config, log=self.log, mark=self._mark)
        reader, self._writer = await asyncio.open_unix_connection(sock=self._control)
        listening = loop.create_task(self._listen(reader), name="supervisor")
        try:
            if not await self._started():
                return 1
            await self._told.wait()
            await self._stop()
            return 0
        finally:
            listening.cancel()
            self._writer.close()

    async def _started(self) -> bool:
        """Build what serves, and say so; whether that went well."""
        starting = asyncio.ensure_future(self.house.furnish())
        told = asyncio.ensure_future(self._told.wait())
        await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not starting.done():
            starting.cancel()
        (error,) = await asyncio.gather(starting, return_exceptions=True)
        if error is None:
            settle()
            self._say("ready")
            return True
        await self.house.stop(0)
        if self._told.is_set():
            return False
        if isinstance(error, OSError | ProxyError):
            self._say("failed", str(error).encode())
        else:
            self.log.error("start_crashed", exc_info=error)
            self._say("failed", _crashed(error))
        with suppress(ConnectionError):
            await self._writer.drain()
        return False

    async def _stop(self) -> None:
        house = self.house
        self.log.info("draining", exchanges=len(house.engine.live), seconds=house.config.server.drain_timeout)
        house.shut()
        await self._discard()
        await house.stop()
        self.log.info("stopped")

    # --- the supervisor

    def _say(self, word: str, payload: bytes = b"") -> None:
        self._writer.write(frame(word, payload))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        heard = bytearray()
        try:
            while piece := await reader.read(READ):
                heard += piece
                for word, payload in frames(heard):
                    await self._obey(word, payload)
        except ConnectionError:
            pass
        if not self._told.is_set():
            self.log.error("supervisor_gone", why="its end of our channel is closed; this worker drains and ends")
        self._told.set()

    async def _obey(self, word: str, payload: bytes) -> None:
        match word:
            case "serve":
                self.house.accept(self._sockets, self._shares, self._place)
            case "prepare" if self._told.is_set():  # who is about to end takes part in nothing, and hinders nothing
                self._say("prepared", payload.partition(b"\n")[0])
            case "prepare":
                # A task, for a plugin that takes long to start must not keep us from hearing that we are to stop.
                self._preparing = asyncio.get_running_loop().create_task(self._prepare(payload), name="prepare")
            case "commit":
                if self._prepared is not None:
                    prepared, self._prepared = self._prepared, None
                    self.house.commit(prepared)
                self._say("committed", payload)
            case "discard":
                await self._discard()
            case "drain":
                self._told.set()
            case "hurry":
                self._told.set()
                self.house.hurry()

    async def _prepare(self, payload: bytes) -> None:
        number, _, packed = payload.partition(b"\n")
        try:
            config = await asyncio.to_thread(unpack, packed)
            self._prepared = await self.house.prepare(config)
        except (OSError, ProxyError) as error:
            self._say("refused", b"%b\n%b" % (number, str(error).encode()))
        except Exception as error:
            self.log.error("prepare_crashed", exc_info=error)
            self._say("refused", b"%b\n%b" % (number, _crashed(error)))
        else:
            self._say("prepared", number)

    async def _discard(self) -> None:
        """Let go of what was prepared and is not wanted."""
        preparing, self._preparing = self._preparing, None
        if preparing is not None:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            await prepared.generation.retire()


def _crashed(error: BaseException) -> bytes:
    return f"{type(error).__name__}; where it was raised stands in a line of the worker's".encode()
