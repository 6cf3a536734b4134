"""HTTP/1.1 messages from raw bytes, for the bench's client and upstream; nothing of what is measured is used."""

from __future__ import annotations

import zlib
from collections.abc import Callable

END_OF_HEAD = b"\r\n\r\n"


class Malformed(Exception):
    """The bytes are no message."""


class Reader:
    """One message after another: `on_head` with its lines, `on_end` when the body is complete.

    Of the body only size, checksum and the bytes up to `keep` are kept.
    """

    def __init__(self, on_head: Callable[[list[bytes]], None], on_end: Callable[[], None], *, keep: int = 4096) -> None:
        self._on_head, self._on_end = on_head, on_end
        self._keep = keep
        self._waiting = bytearray()  # bytes of a head or of a chunk's size that is not complete
        self._left = -1  # bytes of the body or chunk still to come; -1: none is open
        self._chunked = self._in_body = self._trailer = False
        self.size = self.checksum = 0
        self.kept = b""

    def feed(self, data: bytes) -> None:
        """Take what has come. Raises Malformed."""
        while data:
            if self._left > 0:
                piece, data = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
                self._left -= len(piece)
                self._body(piece)
                if not self._left and not self._chunked:
                    self._end()
                continue
            self._waiting += data
            data = self._line() if self._in_body else self._head()

    def _head(self) -> bytes:
        end = self._waiting.find(END_OF_HEAD)
        if end < 0:
            return b""
        lines = bytes(self._waiting[:end]).split(b"\r\n")
        rest = self._rest(end + len(END_OF_HEAD))
        self.size, self.checksum, self.kept = 0, 0, b""
        self._chunked, self._left, self._in_body, self._trailer = False, 0, True, False
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            name = name.strip().lower()
            if name == b"content-length":
                self._left = int(value)
            elif name == b"transfer-encoding":
                self._chunked = value.strip().lower() == b"chunked"
        if self._chunked:
            self._left = 0
        self._on_head(lines)
        if not self._chunked and not self._left:
            self._end()
        return rest

    def _line(self) -> bytes:
        """A chunk's size, the line break behind a chunk, or the end of the trailers."""
        end = self._waiting.find(b"\r\n")
        if end < 0:
            return b""
        line = bytes(self._waiting[:end])
        rest = self._rest(end + 2)
        if self._trailer:
            if not line:
                self._end()
        elif line:
            try:
                self._left = int(line.partition(b";")[0], 16)
            except ValueError as exc:
                raise Malformed(f"not the size of a chunk: {line[:40]!r}") from exc
            self._trailer = self._left == 0
        return rest

    def _rest(self, start: int) -> bytes:
        rest = bytes(self._waiting[start:])
        self._waiting.clear()
        return rest

    def _body(self, piece: bytes) -> None:
        self.size += len(piece)
        self.checksum = zlib.crc32(piece, self.checksum)
        if len(self.kept) < self._keep:
            self.kept += piece[: self._keep - len(self.kept)]

    def _end(self) -> None:
        self._in_body, self._left = False, -1
        self._on_end()
