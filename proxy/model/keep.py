"""A body that can be read again: teed to memory, then to a temporary file, while the first pass streams."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import IO

from .body import Body
from .errors import BodyConsumed

PIECE = 2**18  # a read from the file: large enough that a task wakes seldom, small enough to be flat in memory


class Kept(Body):
    """Several readers over one source. Whoever is at the front pulls; the pull outlives a reader that is cancelled.

    The source is never read ahead of the fastest reader, so a slow upstream still slows the client down.
    """

    __slots__ = (
        "_closed",
        "_due",
        "_end",
        "_error",
        "_file",
        "_front",
        "_head",
        "_headroom",
        "_lent",
        "_limit",
        "_pull",
        "_size",
        "_source",
        "coding",
        "length",
    )

    def __init__(self, source: Body, *, memory: int, limit: int) -> None:
        self.length = source.length
        self.coding = source.coding
        self._source = source
        self._front: AsyncIterator[bytes] | None = None
        self._headroom = min(memory, limit)
        self._limit = limit
        self._head: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._size = 0  # bytes kept so far; -1: too much came, nothing is kept any more
        self._pull: asyncio.Task[bytes] | None = None
        self._end = False
        self._error: BaseException | None = None
        self._closed = False
        self._lent = 0  # to so many, who read on when it is closed
        self._due = False  # it has been closed, but for them

    @property
    def begun(self) -> bool:
        """Whether anything has come, or an end."""
        return self._end or self._size != 0 or self._error is not None

    def now(self) -> bytes | None:
        """All of it, once it has all come and is still in memory."""
        if self._end and self._file is None and self._size >= 0 and not self._closed:
            return self._head[0] if len(self._head) == 1 else b"".join(self._head)
        return None

    def keep(self, *, memory: int, limit: int) -> Body:
        """Itself: what is kept is not kept once more."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        """A pass of its own from byte 0. Raises BodyConsumed when the body has outgrown what may be kept."""
        return self.rest(0)

    async def rest(self, at: int) -> AsyncIterator[bytes]:
        """A pass from byte `at` on, which in a file is gone to at once."""
        skip = 0
        if self._file is None or at > self._size:
            at, skip = 0, at
        piece = 0  # how many pieces of the head this pass has had
        while True:
            if self._closed:
                raise BodyConsumed("it was closed")
            if self._size < 0 and at < -self._size:
                raise BodyConsumed("it has outgrown what may be kept")
            if self._file is None and piece < len(self._head):
                data = self._head[piece]
                piece += 1
            elif self._file is not None and at < self._size:
                data = os.pread(self._file.fileno(), PIECE, at)
                if not data:
                    raise BodyConsumed("its file came up short")
            elif self._error is not None:
                raise self._error
            elif self._end:
                return
            else:
                pulled = await self._next()
                if self._size >= 0:
                    continue  # it is kept: read it from there, so that every reader sees the same
                if at != -self._size - len(pulled):
                    continue
                data = pulled
            at += len(data)
            if skip:
                data, skip = data[skip:], max(0, skip - len(data))
            if data:
                yield data

    async def _next(self) -> bytes:
        """Pull one piece. The task is shared and only waited for: a reader that is cancelled does not end it."""
        if self._pull is None:
            self._pull = asyncio.get_running_loop().create_task(self._pull_one(), name="body-pull")
            self._pull.add_done_callback(_heard)
        pull = self._pull
        await asyncio.wait((pull,))
        if pull.cancelled():
            raise BodyConsumed("it was closed")  # under this reader, whom nobody has cancelled
        return pull.result()

    async def _pull_one(self) -> bytes:
        try:
            if self._front is None:
                self._front = aiter(self._source)
            data = await anext(self._front, None)
            if data is None:
                self._end = True
                return b""
            self._store(data)
            return data
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._pull = None

    def _store(self, data: bytes) -> None:
        if self._size < 0:
            self._size -= len(data)
            return
        size = self._size + len(data)
        try:
            if size > self._limit:
                raise OSError("over the limit")
            if self._file is None and size > self._headroom:
                self._file = tempfile.TemporaryFile(prefix="framegate-body-")  # noqa: SIM115 - closed by _drop()
                self._file.writelines(self._head)
                self._head = []
            if self._file is None:
                self._head.append(data)
            else:
                self._file.write(data)
                self._file.flush()
            self._size = size
        except OSError:  # too much, or the disk is full: on without a second chance
            self._drop()
            self._size = -size

    def _drop(self) -> None:
        self._head = []
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # close() flushes, and a full disk says so again
                file.close()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Once all of it has come, it is closed when this block has ended too."""
        self._lent += 1
        try:
            yield
        finally:
            self._lent -= 1
            if self._due and not self._lent:
                await self.aclose()

    async def aclose(self) -> None:
        """Stop the pull, drop what is kept, close the source."""
        if self._closed:
            return
        if self._lent and self._end:
            self._due = True
            return
        self._closed = True
        pull = self._pull
        if pull is not None:
            pull.cancel()
            with suppress(BaseException):
                await asyncio.wait([pull])
        if self._front is not None and hasattr(self._front, "aclose"):
            async with aclosing(self._front):  # type: ignore[type-var]
                pass
        self._drop()
        await self._source.aclose()


def _heard(pull: asyncio.Task[bytes]) -> None:
    """Every reader may have left; the error is kept for those that come."""
    if not pull.cancelled():
        pull.exception()
