"""A picture on its way in: gathered in memory, written and summed by a thread in large pieces."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, Self, TypeVar

from ..model.images import ImageStoreError, Lifetime, Piece, Stored
from .files import Files, Temp, translated
from .picture import Sight, look
from .threads import Came, Threads, Workshop

T = TypeVar("T")
PIECE = 2**18  # bytes that are worth a thread's turn; a spool holds about twice as many
FEW = 8  # pieces; more are joined, as each call gives the interpreter away and has to wait for it again


class Finished(NamedTuple):
    """A picture that lies whole on the disk, and not in its place yet."""

    picture: Sight
    size: int
    sha256: str


Done = tuple[OSError | None, Finished | None]  # what a thread has to say: what refused it, and what it has finished
Keep = Callable[["Spooling", Lifetime | None], Awaitable[Stored]]
# Puts a file in its place by its sum; the descriptor returned holds a lock under which it stays there.
Placing = Callable[[Temp, str], int]


class Spooling:
    """The spool of a store in files."""

    def __init__(self, files: Files, threads: Workshop, keep: Keep, *, owner: str | None, request: str | None) -> None:
        self.owner = owner
        self.request = request
        self.size = 0
        self.temp: Temp | None = None
        self._files = files
        self._threads = threads
        self._keep = keep
        self._pieces: list[bytes] = []  # not with the thread yet, or given back by it
        self._held = 0  # bytes of these
        self._written = 0  # bytes in the file
        self._sum = hashlib.sha256()
        self._busy = False  # a thread has the file
        self._waiters: list[asyncio.Future[None]] = []  # until it has not
        self._then: Callable[[], None] | None = None  # likewise
        self._sealed: Came[Done] | None = None  # what came of ending it
        self._refused: OSError | None = None  # what the disk said
        self._ended = False
        self._moved = False  # the file has become the picture, and can still be read
        self._lock: int | None = None  # holds it in its place
        self._alone = threading.Lock()  # one thread at the file at a time, the one that closes it too

    def write(self, data: Piece) -> None:
        """Take some bytes."""
        if self._ended:
            raise ValueError("this spool has been committed or left; nothing more can be written to it")
        self._pieces.append(data if isinstance(data, bytes) else bytes(data))
        self._held += len(data)
        self.size += len(data)
        if self._held >= PIECE:
            self._start()

    @property
    def free(self) -> bool:
        """Whether no more than a piece is in memory beside the one that is being written, and the disk takes it."""
        return self._held < PIECE and self._refused is None

    def room(self, then: Callable[[], None]) -> bool:
        """The same, and where there is more it is told when a thread has taken it, or has been refused."""
        if self._held < PIECE or not self._busy:
            return True
        self._then = then
        return False

    async def drained(self) -> None:
        """Wait until no more than a piece is in memory beside the one that is being written."""
        while self._held >= PIECE and self._busy:
            await self._turn()
        self._check()

    async def __aenter__(self) -> Self:
        """Nothing is made before it is needed."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Leave nothing behind but what was kept."""
        await self.aclose()

    async def commit(self, *, ttl: Lifetime | None = None) -> Stored:
        """Write the rest, then keep it."""
        if self._ended:
            raise ValueError("this spool has been committed or left; a picture is committed once")
        return await self._keep(self, ttl)

    async def finish(self, placing: Placing | None) -> Finished:
        """Have one thread do all that is left, to the rename where there is one."""
        await self._idle()
        self._check()
        self._hand(self._threads.ending, partial(self._seal, placing))
        while (sealed := self._sealed) is None:
            await self._turn()
        self._check()
        if sealed.error is not None:
            raise sealed.error
        assert sealed.gave is not None and sealed.gave[1] is not None
        self._ended = True
        return sealed.gave[1]

    async def read(self) -> AsyncIterator[bytes]:
        """What is in the file, then what is not."""
        await self._idle()
        at = 0
        while at < self._written:
            piece = await self.run(self._read, at)
            if not piece:
                raise ImageStoreError("The store of pictures has lost what was written to it.")
            at += len(piece)
            yield piece
        for piece in tuple(self._pieces):
            yield piece

    def pread(self, at: int, count: int) -> bytes:
        """Bytes of the file, for a thread that sends it elsewhere; none when the spool has been left."""
        with self._alone:
            return os.pread(self.temp.descriptor, count, at) if self.temp else b""

    def release(self) -> None:
        """Its place is its own by now: there is a name that needs it, or there will be none."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    async def aclose(self) -> None:
        """Leave nothing behind but what was kept."""
        self._ended = True
        if self._moved and not self._busy and self.temp is not None:
            self.release()
            if os.fstat(self.temp.descriptor).st_nlink:
                os.close(self.temp.descriptor)  # which waits for nothing, as its bytes are on the disk
                self.temp = None
            else:  # the same has been put in its place since, so closing it frees its blocks
                self._threads.ending.do(self._drop)
        elif self._busy or self.temp is not None:
            await self._threads.writing.run(self._drop)  # which is done, also when who waits here is cancelled

    async def run(self, work: Callable[..., T], *given: object) -> T:
        """Have a thread do something with the file, alone. Raises ImageStoreError."""

        def alone() -> T:
            with self._alone:
                return work(*given)

        try:
            return await self._threads.writing.run(alone)
        except OSError as error:
            raise translated(error) from error

    # --- the thread's work

    def _put(self, data: Sequence[bytes]) -> Done:
        """Write and sum it; what stood in the way, if anything did: `_written` says how far it came."""
        with self._alone:
            try:
                if self.temp is None:
                    self.temp = self._files.create()
                if len(data) > FEW:  # else each is summed as it is, which spares a copy of all of it
                    data = (b"".join(data),)
                self._written += (count := os.writev(self.temp.descriptor, data))
                if count < sum(map(len, data)):
                    rest = memoryview(b"".join(data))[count:]
                    while rest:
                        self._written += (count := os.write(self.temp.descriptor, rest))
                        rest = rest[count:]
            except OSError as error:
                return error, None
            for piece in data:
                self._sum.update(piece)
            return None, None

    def _seal(self, placing: Placing | None, data: Sequence[bytes]) -> Done:
        """Write the last of it, see what it is, have it lie on the disk for good, put it in its place."""
        if data and (error := self._put(data)[0]) is not None:
            return error, None
        with self._alone:
            picture = look(lambda at, count: os.pread(self.temp.descriptor, count, at) if self.temp else b"")
            finished = Finished(picture, self._written, self._sum.hexdigest())
            try:
                assert self.temp is not None
                # Before it gets its name: after a power cut a name leads to all of a picture or, where the cut took
                # the folder's entry or the index's, to nothing. Neither of these is waited for.
                if self._files.lasting:
                    os.fdatasync(self.temp.descriptor)
                if placing is not None:
                    self._lock = placing(self.temp, finished.sha256)
                    self._moved = True
            except OSError as error:
                return error, None
            return None, finished

    def _read(self, at: int) -> bytes:
        return os.pread(self.temp.descriptor, min(PIECE, self._written - at), at) if self.temp else b""

    def _drop(self) -> None:
        with self._alone:
            temp, self.temp = self.temp, None
            if temp is not None:
                self._files.discard(temp)
            self.release()

    # --- handing over

    def _start(self) -> None:
        """Hand the thread what there is, if that is enough and it is free."""
        if not self._busy and self._held >= PIECE and self._refused is None:
            self._hand(self._threads.writing, self._put)

    def _hand(self, threads: Threads, work: Callable[[Sequence[bytes]], Done]) -> None:
        data, before = self._take(), self._written

        def told(came: Came[Done]) -> None:
            self._busy = False
            if threads is self._threads.ending:
                self._sealed = came
            if came.gave is not None:
                self._heard(came.gave[0], data, before)
            elif threads is self._threads.writing:  # no word of the disk's: memory that was not to be had, for one
                self._heard(OSError(errno.EIO, str(came.error)), data, before)
            if not self._ended:
                self._start()
            then, self._then = self._then, None
            if then is not None:
                then()
            waiters, self._waiters = self._waiters, []
            for one in waiters:
                if not one.done():
                    one.set_result(None)

        self._busy, self._sealed = True, None
        threads.do(partial(work, data), told)

    def _take(self) -> Sequence[bytes]:
        data, self._pieces = self._pieces, []
        self._held = 0
        return data

    def _heard(self, refused: OSError | None, data: Sequence[bytes], before: int) -> None:
        if refused is not None:
            rest = b"".join(data)[self._written - before :]
            self._pieces.insert(0, rest)
            self._held += len(rest)
            self._refused = refused

    async def _idle(self) -> None:
        while self._busy:
            await self._turn()

    async def _turn(self) -> None:
        """Wait until the thread that has the file is done."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _check(self) -> None:
        if self._refused is not None:
            raise translated(self._refused) from self._refused
