"""Pictures as they travel: base64 read piece by piece, never silently wrong, and the type that its first bytes show."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Literal

import pybase64

Sniffed = Literal["png", "jpeg", "webp", "gif", "svg"]
Piece = bytes | memoryview

NOT_BASE64 = "it is not base64"
SNIFFED = 32  # bytes that are enough to tell a type by
# An SVG may begin with a prologue; what more stands between that and <svg, 32 bytes don't show.
_SVG = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:svg[\s>/]|\?xml\s|!doctype\s+svg\b)", re.IGNORECASE)
_SPACE = b" \t\r\n"
_STANDARD = bytes.maketrans(b"-_", b"+/")


class Base64:
    """Text to bytes, in pieces of any size. What can be read in one way only is read, but is not `canonical`.

    So are the URL-safe alphabet, white space, padding that is missing or too long, bits set that nobody reads.
    Anything else is `bad`, which says what is wrong; no byte comes from there on. How many came before depends on the
    pieces.
    """

    __slots__ = ("_padding", "_rest", "bad", "canonical", "length")

    def __init__(self) -> None:
        self.canonical = True
        self.bad: str | None = None
        self.length = 0  # decoded bytes given out
        self._rest = b""  # fewer than four characters: not a whole group yet
        self._padding = 0

    def feed(self, text: Piece) -> bytes:
        """The bytes of all whole groups so far."""
        if self.bad is not None:
            return b""
        found = self.plainly(memoryview(text))
        return self._slowly(self._rest + text) if found is None else b"".join(found)

    def plainly(self, text: memoryview) -> list[bytes] | None:
        """The same where all of it is base64 to the letter, in one piece or two; else None, and nothing is read."""
        if self._padding or self.bad is not None:
            return None
        rest = self._rest
        first = -len(rest) % 4
        last = first + (len(text) - first) // 4 * 4
        if last < first:
            return None
        try:
            found = [pybase64.b64decode(text[first:last], validate=True)]
            if rest:
                found.insert(0, pybase64.b64decode(rest + text[:first], validate=True))
        except ValueError:
            return None
        size = sum(map(len, found))
        if size != (len(rest) + last) // 4 * 3:  # padding makes it shorter, and needs a closer look
            return None
        self._rest = bytes(text[last:])
        self.length += size
        return found

    @property
    def rest(self) -> bytes:
        """What has come of a group that is not whole."""
        return self._rest

    def close(self) -> bytes:
        """The last, unfinished group."""
        if self.bad is not None:
            return b""
        text = self._bare(self._rest)
        missing = -len(text) % 4
        if missing == 3:
            self.bad = "it ends with a lone character"
        if self.bad is not None:
            return b""
        full = text + b"=" * missing
        try:
            found = pybase64.b64decode(full, validate=True)
        except ValueError:
            self.bad = NOT_BASE64
            return b""
        if missing != self._padding or pybase64.b64encode(found) != full:
            self.canonical = False
        self.length += len(found)
        return found

    def _slowly(self, text: bytes) -> bytes:
        text = self._bare(text)
        if self.bad is not None:
            return b""
        last = len(text) // 4 * 4
        try:
            found = pybase64.b64decode(text[:last], validate=True)
        except ValueError:
            self.bad = NOT_BASE64
            return b""
        self._rest = text[last:]
        self.length += len(found)
        return found

    def _bare(self, text: bytes) -> bytes:
        """The text in the standard alphabet, without white space and padding."""
        bare = text.translate(_STANDARD, _SPACE)
        if bare != text:
            self.canonical = False
        kept = bare.find(b"=")
        if kept >= 0:
            padding = len(bare) - kept
            bare, behind = bare[:kept], bare[kept:]
        else:
            padding, behind = 0, b""
        # What came before the padding may still wait to be decoded; what comes behind it may only be more of it.
        if behind.strip(b"=") or (self._padding and len(bare) > len(self._rest)):
            self.bad = NOT_BASE64
        self._padding += padding
        return bare


def sniff(head: bytes) -> Sniffed | None:
    """The type that the first bytes of a picture show, whatever it was declared to be."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return "svg" if _SVG.match(head[:SNIFFED]) else None


async def in_base64(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """The bytes as text, in pieces about as large as they come."""
    rest = b""
    async for piece in pieces:
        whole = rest + piece if rest else piece
        end = len(whole) // 3 * 3
        rest = whole[end:]
        yield pybase64.b64encode(memoryview(whole)[:end])
    if rest:
        yield pybase64.b64encode(rest)
