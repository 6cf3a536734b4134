"""Content codings taken off step by step, so that no answer, however small, can fill the memory or the time."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator

from .body import Body
from .errors import UpstreamError

STEP = 2**16  # bytes inflated at a time
RATIO = 100  # times its size that an answer may become; JSON gets some 10, base64 1.3, a bomb 1000
FREE = 2**20  # bytes that are inflated whatever the ratio: a stream's keep-alives compress well
INFLATED = frozenset(("gzip", "x-gzip", "deflate"))


class Undecodable(Exception):
    """What came can't be decoded; its text says why."""


class Inflater:
    """One body's gzip or deflate, taken off."""

    __slots__ = ("_came", "_gzip", "_made", "_stream")

    def __init__(self, coding: str) -> None:
        self._gzip = coding != "deflate"
        self._stream: zlib._Decompress | None = None
        self._came = self._made = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What this piece becomes, in steps of at most STEP bytes; raises Undecodable."""
        self._came += len(data)
        while data:
            stream = self._stream
            if stream is not None and stream.eof and self._gzip:
                data = data.lstrip(b"\0")  # its members may be padded
                if not data:
                    return
            if stream is None or stream.eof:
                stream = self._stream = self._begin(data[0])
            full = True
            while full:  # zlib may hold back what had no room, even when it has taken all there was
                try:
                    out = stream.decompress(data, STEP)
                except zlib.error as exc:
                    raise Undecodable("its compression is broken") from exc
                self._made += len(out)
                if self._made > FREE and self._made > RATIO * self._came:
                    raise Undecodable(f"it inflates to more than {RATIO} times its size")
                if out:
                    yield out
                data = stream.unconsumed_tail
                full = len(out) == STEP and not stream.eof
            data = stream.unused_data

    def close(self) -> None:
        """The body has ended; raises Undecodable where its compression has not."""
        if self._stream is not None and not self._stream.eof:
            raise Undecodable("its compression is cut off")

    def _begin(self, first: int) -> zlib._Decompress:
        """A stream for what begins with this byte: a member of gzip, or deflate's one and only."""
        if self._gzip:
            return zlib.decompressobj(zlib.MAX_WBITS | 16)
        if self._stream is not None:
            raise Undecodable("something follows its compressed data")
        # RFC 9110 means zlib's; some send it bare, and then the first byte hardly ever looks so.
        wrapped = first & 0x0F == 8 and first >> 4 <= 7
        return zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


class Plain(Body):
    """A body without its coding, for who rewrites it; raises UpstreamError for a coding that we don't take off."""

    __slots__ = ("_source", "length")

    def __init__(self, source: Body) -> None:
        self._source = source
        self.length = None

    def now(self) -> None:
        """Never here: it has to be inflated."""
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes as they were before they were coded."""
        coding = self._source.coding or ""
        if coding not in INFLATED:
            raise UpstreamError("the answer came in a coding that nobody asked for", sent=True)
        inflater = Inflater(coding)
        pieces = aiter(self._source)
        try:
            async for piece in pieces:
                for plain in inflater.feed(piece):
                    yield plain
            inflater.close()
        except Undecodable as exc:
            raise UpstreamError(f"the answer can't be read: {exc}", sent=True) from exc
        finally:
            if (close := getattr(pieces, "aclose", None)) is not None:
                await close()

    async def aclose(self) -> None:
        """Let go of what is behind it."""
        await self._source.aclose()
        await super().aclose()
