"""One picture of an answer, gathered as it comes; and the bytes of an answer that wait until pictures are judged."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import blake2b
from typing import IO, cast

from proxy.api import ImageStoreError

from .verdict import Unreadable, View

MEMORY = 2**20  # bytes of a picture, or of what waits for one, before a file without a name takes them
LARGEST = 2**26  # bytes of a picture; a larger one nobody looks at
PIECE = 2**18  # bytes that are read back at a time

Views = Callable[[bytes | IO[bytes]], Awaitable[Sequence[View]]]


class Drawn:
    """A picture of an answer; a Sight once all of it has come. It is as large in memory as `MEMORY` allows."""

    def __init__(self, path: str, views: Views, *, begin: int = 0) -> None:
        self.path = path
        self.begin = begin  # where the event begins that holds it
        self.unseen: str | None = None  # why nobody can look at it
        self.judging: asyncio.Task[None] | None = None  # of a partial one
        self.good = False  # the judge has said so
        self.passed = False
        self.size = 0
        self._make = views
        self._sum = blake2b(digest_size=32)
        self._file: IO[bytes] | None = None
        self._views: Sequence[View] | Unreadable | None = None
        self._making = asyncio.Lock()

    @property
    def digest(self) -> bytes:
        """Of its bytes as they came."""
        return self._sum.digest()

    def add(self, data: bytes) -> None:
        """Its next bytes. Raises ImageStoreError."""
        if self.unseen is not None:
            return
        self.size += len(data)
        if self.size > LARGEST:
            self.give_up(f"a picture of more than {LARGEST} bytes")
            return
        self._sum.update(data)
        if self._file is None:
            self._file = _file()
        _write(self._file, data)

    def give_up(self, why: str) -> None:
        """Nobody can look at it."""
        self.unseen = why
        self.close()

    async def views(self) -> Sequence[View]:
        """What there is to be seen of it, worked out once however many ask. Raises Unreadable."""
        async with self._making:
            if self._views is None:
                try:
                    self._views = await self._make(self._source())
                except Unreadable as why:
                    self._views = why
        if isinstance(self._views, Unreadable):
            raise self._views
        return self._views

    def _source(self) -> bytes | IO[bytes]:
        file = self._file
        if file is None:
            return b""
        file.seek(0)
        return file if self.size > MEMORY else file.read()

    def close(self) -> None:
        """Let go of its bytes."""
        file, self._file = self._file, None
        self._views = None
        if file is not None:
            file.close()


class Waiting:
    """What has come of a stream and may not go on yet, in order."""

    def __init__(self) -> None:
        self._at = 0  # the offset in the answer of the first byte that waits
        self._size = 0  # bytes that wait
        self._read = 0  # where these begin in the file
        self._file = _file()

    def past(self, data: bytes, offset: float) -> Iterator[bytes]:
        """It has come; all that stands before that offset waits no more. Raises ImageStoreError."""
        if not self._size and self._at + len(data) <= offset:
            self._at += len(data)
            if data:
                yield data
            return
        if data:
            self._file.seek(0, os.SEEK_END)
            _write(self._file, data)
            self._size += len(data)
        while self._size and self._at < offset:
            self._file.seek(self._read)
            piece = self._file.read(int(min(PIECE, self._size, offset - self._at)))
            self._at += len(piece)
            self._read += len(piece)
            self._size -= len(piece)
            yield piece
        if not self._size and self._read:
            self._file.seek(0)
            self._file.truncate()
            self._read = 0

    def close(self) -> None:
        """Drop it."""
        self._file.close()


def _file() -> IO[bytes]:
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(MEMORY, prefix="framegate-output-"))


def _write(file: IO[bytes], data: bytes) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise ImageStoreError("There is no room to keep the answer until it is judged.") from error
