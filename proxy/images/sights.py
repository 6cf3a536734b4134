"""Pictures as judges get them: each is decoded in a process apart and written anew, so that pixels are judged."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import IO

from ..model.errors import ProxyError
from ..model.services import Log, Services
from ..model.sights import Looked, Unreadable, View
from ..openai.given import LARGEST, NO_SORT, TOO_LONG
from ..openai.pictures import SNIFFED, Sniffed, sniff
from . import scaler
from .scaler import Scaler, TooMany, Unmade

DECODERS = 2  # at once, so that one that is slow, or was made to be, does not keep all others waiting
WAITING = 256  # pictures that may wait for one; each takes some 0.1 s
GATHERED = 2**20  # of one that is still to be read, in memory before they go to its file
IDLE = 60.0  # seconds after which processes with nothing to do are ended
DOING = "pictures are being looked at"
ABSENT = "Pillow is needed to look at pictures: pip install 'framegate[images]'"


class Sights:
    """Looks at pictures, a few at a time, in processes of its own: the line of those for thumbnails may be long."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(DECODERS, "framegate-sights")
        self._places = asyncio.Semaphore(DECODERS)
        self._waiting = 0
        self._idle: list[Scaler] = []
        self._busy: dict[asyncio.Future[list[bytes]], Scaler] = {}
        self._rest: asyncio.TimerHandle | None = None
        self._there: bool | None = None
        self._closed = False
        self._log: Log | None = None

    @property
    def there(self) -> bool:
        """Whether Pillow is installed."""
        if self._there is None:
            self._there = scaler.there()
        return self._there

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """End the processes at the end."""
        self._log = services.log
        try:
            yield
        finally:
            await self.aclose()

    async def views(self, picture: Looked) -> Sequence[View]:
        """What there is to be seen of it. Raises Unreadable, and TooMany."""
        if not self.there:
            raise Unreadable(ABSENT)
        if self._waiting >= WAITING or self._closed:
            raise TooMany(DOING)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            if self._closed:
                raise TooMany(DOING)
            work = await self._begun(picture)
        except BaseException:
            self._places.release()
            raise
        try:
            made = await asyncio.shield(work)
        except asyncio.CancelledError:
            if work in self._busy:  # nobody wants to know any more; others wait for the place
                self._busy[work].kill()
            raise
        except Unmade as error:
            if error.crashed and self._log is not None:
                self._log.warning("picture_unreadable", why=error.why)
            raise Unreadable(error.why) from None
        except OSError as error:
            raise _refused(error) from error
        return [View("jpeg", one) for one in made]

    async def aclose(self) -> None:
        """End all processes; who waits for one hears that it crashed."""
        self._closed = True
        if self._rest is not None:
            self._rest.cancel()
        while self._busy:
            for one in self._busy.values():
                one.kill()
            await asyncio.wait(self._busy, timeout=0.1)  # one that was about to be started is killed with the next turn
        await asyncio.get_running_loop().run_in_executor(self._pool, self._stop)
        self._pool.shutdown(wait=False)

    async def _begun(self, picture: Looked) -> asyncio.Future[list[bytes]]:
        """A thread's work on it, with a file of its own, which ends with it whoever leaves."""
        try:
            descriptor = await _opened(picture)
        except OSError as error:
            raise _refused(error) from error
        try:
            sort = sniff(os.pread(descriptor, SNIFFED, 0))
            if sort is None or sort == "svg":
                raise Unreadable(NO_SORT)
            if os.fstat(descriptor).st_size > LARGEST:
                raise Unreadable(TOO_LONG)
            if self._closed:
                raise TooMany(DOING)
            if self._rest is not None:
                self._rest.cancel()
            return self._turn(descriptor, sort)
        except BaseException:
            os.close(descriptor)
            raise

    def _turn(self, descriptor: int, sort: Sniffed) -> asyncio.Future[list[bytes]]:
        one = self._idle.pop() if self._idle else Scaler()

        def ended(work: asyncio.Future[list[bytes]]) -> None:
            del self._busy[work]
            os.close(descriptor)
            self._idle.append(one)
            self._places.release()
            with suppress(asyncio.CancelledError):
                work.exception()  # heard, also where nobody waits any more
            if not self._busy and not self._closed:
                loop = asyncio.get_running_loop()
                self._rest = loop.call_later(IDLE, lambda: self._pool.submit(self._stop))

        work = asyncio.get_running_loop().run_in_executor(self._pool, one.views, descriptor, sort)
        self._busy[work] = one
        work.add_done_callback(ended)
        return work

    def _stop(self) -> None:
        while self._idle:
            self._idle.pop().stop()


async def _opened(picture: Looked) -> int:
    """A descriptor, ours to close, of a file that holds the picture. Raises Unreadable, OSError, and its reader's."""
    if isinstance(picture, io.BytesIO):
        picture = picture.getvalue()
    if not isinstance(picture, bytes | AsyncIterable):
        await asyncio.to_thread(picture.flush)
        return os.dup(picture.fileno())
    with tempfile.TemporaryFile(prefix="framegate-sight-") as file:
        if isinstance(picture, bytes):
            if len(picture) > LARGEST:
                raise Unreadable(TOO_LONG)
            await asyncio.to_thread(_write, file, [picture])
            return os.dup(file.fileno())
        pieces: list[bytes] = []
        size = held = 0
        front = aiter(picture)
        try:
            async for piece in front:
                pieces.append(piece)
                held += len(piece)
                size += len(piece)
                if size > LARGEST:
                    raise Unreadable(TOO_LONG)
                if held >= GATHERED:
                    await asyncio.to_thread(_write, file, pieces)
                    pieces, held = [], 0
        finally:
            if (close := getattr(front, "aclose", None)) is not None:
                await close()
        await asyncio.to_thread(_write, file, pieces)
        return os.dup(file.fileno())


def _write(file: IO[bytes], pieces: Sequence[bytes]) -> None:
    file.writelines(pieces)
    file.flush()


def _refused(error: OSError) -> ProxyError:
    return ProxyError(f"Pictures can't be looked at here: {os.strerror(error.errno or errno.EIO)}.")
