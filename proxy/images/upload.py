"""What goes up to S3, as its client wants to have it."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Callable


class Upload(io.RawIOBase):
    """A spool's file as the client wants it: read by threads, a piece at a time, and again where it tries again."""

    def __init__(self, pread: Callable[[int, int], bytes], size: int) -> None:
        self._pread = pread
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where it is read from next."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Read from there on."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._pread(self._at, self._size - self._at if size < 0 else size)
        self._at += len(data)
        return data


def md5(pread: Callable[[int, int], bytes]) -> str:
    """The sum of all that can be read, as a header has it."""
    found = hashlib.md5(usedforsecurity=False)
    at = 0
    while piece := pread(at, 2**18):
        found.update(piece)
        at += len(piece)
    return base64.b64encode(found.digest()).decode()
