"""Where whole pictures lie: what is asked of such a place, and the folder as one of them (`s3.py` is the other).

Pictures on their way in are local files in both. Whoever takes a picture away looks for references at a moment at which
nobody is between putting the same there and writing its reference. How a place sees to that is its own: a folder by a
lock that is held from the one to the other, S3 by having the reference written first.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from ..model.body import Body
from ..model.file import FileBody
from .files import Blob, Files
from .spool import Finished, Placing, Spooling

AGAIN = 0.005  # seconds before another try where somebody is putting a picture in its place
TRIES = 400  # then it is left for the next round: whoever has put it there may be stuck
Needed = Callable[[str], Awaitable[bool]]
Write = Callable[[], Awaitable[None]]


class Blobs(Protocol):
    """Pictures' bytes by SHA-256. Where they can't be reached everything raises ImageStoreError."""

    patience: float  # seconds that `put` may take by its own rules
    placing: Placing | None  # has the thread that ends a spool put it in its place; None: `put` does all

    async def prepare(self) -> None:
        """See whether it can be used."""

    async def put(self, spool: Spooling, finished: Finished, refer: Write, name: Write) -> None:
        """Have a picture that is whole in its place, and its reference and its name written, in an order that is safe.

        It is put there also where the same is there already: that may be about to be taken away, or be damaged; one
        that has just been written is neither.
        """

    async def open(self, sha256: str, size: int, first: int, length: int) -> Body | None:
        """Bytes of it from `first` on; None when it is not there, or has not `size` bytes. `length` 0: just look."""

    async def size(self, sha256: str) -> int | None:
        """How many bytes there are; None when it is not there."""

    async def drop(self, sha256: str, needed: Needed) -> bool:
        """Take it away unless a name needs it; whether it is gone."""

    async def shard(self, begins: str) -> list[Blob]:
        """The pictures whose sum begins with this digit."""

    def place(self, sha256: str) -> str:
        """Where it lies, for people."""


class Folder:
    """A folder of this machine; several processes may share it."""

    patience = 0.0

    def __init__(self, files: Files) -> None:
        self._files = files
        self.placing: Placing | None = files.place

    async def prepare(self) -> None:
        """Nothing beyond what the spools need."""

    async def put(self, spool: Spooling, finished: Finished, refer: Write, name: Write) -> None:
        """Write both in one moment. It is there: the thread that ended the spool has renamed it, and holds the lock."""
        await asyncio.gather(refer(), name())

    async def open(self, sha256: str, size: int, first: int, length: int) -> FileBody | None:
        """A part of the file, which the kernel can send."""
        # Here and not in a thread, as with nginx: it is a disk on which the server itself reads (see docs/images.md).
        file = self._files.open(sha256)
        if file is None:
            return None
        if os.fstat(file.fileno()).st_size != size:
            file.close()
            return None
        return FileBody(file, first, length)

    async def size(self, sha256: str) -> int | None:
        """The file's size."""
        file = await asyncio.to_thread(self._files.open, sha256)
        if file is None:
            return None
        with file:
            return os.fstat(file.fileno()).st_size

    async def drop(self, sha256: str, needed: Needed) -> bool:
        """Remove the file, under the lock: nobody else can put the same in its place meanwhile."""
        async with self._alone(sha256) as alone:
            if not alone or await needed(sha256):
                return False
            await asyncio.to_thread(self._files.remove, sha256)
            return True

    async def shard(self, begins: str) -> list[Blob]:
        """The files there."""
        return await asyncio.to_thread(self._files.shard, begins)

    def place(self, sha256: str) -> str:
        """The file's path."""
        return str(self._files.path(sha256))

    @asynccontextmanager
    async def _alone(self, sha256: str) -> AsyncIterator[bool]:
        for _ in range(TRIES):
            with self._files.alone(sha256) as alone:
                if alone:
                    yield True
                    return
            await asyncio.sleep(AGAIN)
        yield False
