"""A body that lies in a file: the wire has the kernel send it, everybody else reads it piece by piece."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import IO

from .body import Body
from .errors import ProxyError

PIECE = 2**18  # bytes of a read: few enough to be flat in memory, enough to be worth a thread's turn


class FileBody(Body):
    """`length` bytes of an open file from `offset` on. It is read as often as you like, until it is closed."""

    __slots__ = ("file", "length", "offset")
    length: int

    def __init__(self, file: IO[bytes], offset: int, length: int) -> None:
        self.file = file
        self.offset = offset
        self.length = length

    def now(self) -> bytes | None:
        """Never here, unless there is nothing of it: a disk may keep its reader waiting."""
        return None if self.length else b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes, read by a thread."""
        return self.rest(0)

    async def rest(self, at: int) -> AsyncIterator[bytes]:
        """The bytes from `at` on."""
        while at < self.length:
            # Who is cancelled here and closes the file leaves the thread with a number; what it reads nobody gets.
            piece = await asyncio.to_thread(
                os.pread, self.file.fileno(), min(PIECE, self.length - at), self.offset + at
            )
            if not piece:
                raise ProxyError("A file is shorter than it was.")
            at += len(piece)
            yield piece

    async def aclose(self) -> None:
        """Close the file."""
        self.file.close()
        await super().aclose()
