"""Thumbnails: made once for each picture and width, one after another. What can't be made is not soon tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from ..model.body import Body, Bytes
from ..model.errors import Rejected
from ..model.file import FileBody
from ..model.images import Stored
from ..model.services import Clock, Log
from . import scaler
from .cache import Cache
from .files import Files, translated
from .scaler import TOO_LARGE, Scaler, TooMany, Unmade
from .scaling import PIXELS

WAITING = 64  # thumbnails that may wait to be made: a page of them; each takes some 0.1 s
REFUSED = 600.0  # seconds that a picture of which none could be made is believed to be so
REMEMBERED = 4096  # such pictures
IDLE = 60.0  # seconds after which a process with nothing to do is ended
DOING = "thumbnails are being made"


class NoThumbnail(Rejected):
    """There is none of this picture, and why."""

    status = 422
    code = "thumbnail_unavailable"

    def __init__(self, why: str) -> None:
        super().__init__(f"There is no thumbnail of this picture: {why}. Without 'w' it is served as it is.")


class Thumb(NamedTuple):
    """A thumbnail, and its place in the folder if it has one."""

    body: Body
    size: int
    place: str | None


class Thumbs:
    """Gives out thumbnails, and has those made that are not there yet."""

    def __init__(
        self, files: Files, cache: Cache, clock: Clock, opened: Callable[[Stored], Awaitable[Body | None]]
    ) -> None:
        self._files = files
        self._cache = cache
        self._clock = clock
        self._opened = opened
        self._scaler = Scaler()
        self._pool = ThreadPoolExecutor(1, "framegate-thumbs")
        self._making: dict[tuple[str, int], asyncio.Task[bytes | str | None]] = {}
        self._refused: dict[str, tuple[str, float]] = {}
        self._rest: asyncio.TimerHandle | None = None
        self._there: bool | None = None
        self._closed = False

    def possible(self, log: Log) -> bool:
        """Whether thumbnails can be made here at all."""
        if self._there is None:
            self._there = scaler.there()
            if not self._there:
                log.warning("thumbnails_not_made", why="Pillow is not installed: pip install 'framegate[images]'")
        return self._there

    async def get(self, stored: Stored, width: int, log: Log) -> Thumb | None:
        """The thumbnail, so wide; None where its picture is gone. Raises NoThumbnail, and TooMany."""
        if (there := self._kept(stored, width)) is not None:
            return there
        if (stored.width or 0) * (stored.height or 0) > PIXELS:
            raise NoThumbnail(TOO_LARGE)
        why, until = self._refused.get(stored.sha256, ("", 0.0))
        if why and self._clock.now() < until:
            raise NoThumbnail(why)
        key = stored.sha256, width
        making = self._making.get(key)
        if making is None:
            if len(self._making) >= WAITING or self._closed:
                raise TooMany(DOING)
            # Whoever leaves, the others wait on, and the next one finds it made.
            making = self._making[key] = asyncio.get_running_loop().create_task(self._make(stored, width, log))
            making.add_done_callback(lambda task: self._made(key, task))
        try:
            made = await asyncio.shield(making)
        except asyncio.CancelledError:
            if making.cancelled() and self._closed:
                raise TooMany(DOING) from None
            raise
        if made is None:
            return None
        if isinstance(made, str):
            raise NoThumbnail(made)
        return self._kept(stored, width) or Thumb(Bytes(made), len(made), None)

    async def aclose(self) -> None:
        """Let what is being made be made, then end the process."""
        self._closed = True
        if self._making:
            _, late = await asyncio.wait(self._making.values(), timeout=scaler.PATIENCE)
            for task in late:
                task.cancel()
        if self._rest is not None:
            self._rest.cancel()
        self._scaler.kill()  # what is late hears that it crashed
        await asyncio.get_running_loop().run_in_executor(self._pool, self._scaler.stop)
        self._pool.shutdown(wait=False)

    def _kept(self, stored: Stored, width: int) -> Thumb | None:
        file = self._cache.open(stored.sha256, width)
        if file is None:
            return None
        size = file.seek(0, 2)
        return Thumb(FileBody(file, 0, size), size, self._cache.place_of(stored.sha256, width))

    async def _make(self, stored: Stored, width: int, log: Log) -> bytes | str | None:
        """The thumbnail; why there is none; None where there is no picture. Raises ImageStoreError."""
        if self._rest is not None:
            self._rest.cancel()
        body = await self._opened(stored)
        if body is None:
            return None
        try:
            if isinstance(body, FileBody):
                return await self._turn(body.file.fileno(), stored, width)
            return await self._fetched(body, stored, width)
        except Unmade as error:
            if error.crashed:
                log.warning("thumbnail_failed", sha256=stored.sha256[:8], type=stored.type, why=error.why)
            if len(self._refused) >= REMEMBERED:
                del self._refused[next(iter(self._refused))]
            self._refused[stored.sha256] = error.why, self._clock.now() + REFUSED
            return error.why
        except OSError as error:
            raise translated(error) from error
        finally:
            await body.aclose()

    async def _fetched(self, body: Body, stored: Stored, width: int) -> bytes:
        """From a picture that is kept elsewhere: its decoder reads files alone."""
        temp = await asyncio.to_thread(self._files.create)
        try:
            async for piece in body:
                await asyncio.to_thread(_append, temp.descriptor, piece)
            return await self._turn(temp.descriptor, stored, width)
        finally:
            await asyncio.to_thread(self._files.discard, temp)

    async def _turn(self, descriptor: int, stored: Stored, width: int) -> bytes:
        """One after another: a thread that waits for the process, and writes what comes of it."""

        def work() -> bytes:
            made = self._scaler.scaled(descriptor, stored.type, width)
            self._cache.put(stored.sha256, width, made)
            return made

        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _made(self, key: tuple[str, int], task: asyncio.Task[bytes | str | None]) -> None:
        self._making.pop(key, None)
        with suppress(asyncio.CancelledError):
            task.exception()  # heard, also where everybody has left who waited for it
        if not self._making and not self._closed:
            loop = asyncio.get_running_loop()
            self._rest = loop.call_later(IDLE, lambda: self._pool.submit(self._scaler.stop))


def _append(descriptor: int, piece: bytes) -> None:
    with open(descriptor, "ab", closefd=False) as file:
        file.write(piece)
