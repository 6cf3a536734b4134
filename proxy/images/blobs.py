"""Where whole pictures lie: what is asked of such a place, and the folder as one of them (`s3.py` is the other).

Pictures on their way in are local files in both. Whoever puts one has written a reference before; whoever takes one
away looks for references at a moment at which nobody can be putting the same. How a place sees to that is its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from ..model.body import Body
from ..model.file import FileBody
from ..model.images import ImageType
from .files import Blob, Files
from .spool import Spooling

AGAIN = 0.005  # seconds before another try where somebody is putting a picture in its place
Needed = Callable[[str], Awaitable[bool]]


class Blobs(Protocol):
    """Pictures' bytes by SHA-256. Where they can't be reached everything raises ImageStoreError."""

    patience: float  # seconds that `put` may take by its own rules

    async def prepare(self) -> None:
        """See whether it can be used."""

    async def put(self, spool: Spooling, sha256: str, type: ImageType) -> None:
        """Put a picture that is whole in its place, also where the same is there already.

        What is there may be about to be taken away, or be damaged; one that has just been written is neither.
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

    async def prepare(self) -> None:
        """Nothing beyond what the spools need."""

    async def put(self, spool: Spooling, sha256: str, type: ImageType) -> None:
        """Rename it there."""
        assert spool.temp is not None
        await spool.run(self._files.place, spool.temp, sha256)
        spool.moved()

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
        async with self._alone():
            if await needed(sha256):
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
    async def _alone(self) -> AsyncIterator[None]:
        while True:
            with self._files.alone() as alone:
                if alone:
                    yield
                    return
            await asyncio.sleep(AGAIN)
