"""Bodies: lazy, read once unless kept, and never held whole unless somebody asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from .errors import BodyConsumed, BodyTooLarge

if TYPE_CHECKING:
    from .keep import Kept

# How a body that comes from a socket goes to another without waking a task for it: to a sink that may have enough for
# now (False), with a call that waits until it takes bytes again. Bodies that can do so have it as `pour`.
Pour = Callable[[Callable[[bytes], bool], Callable[[], Awaitable[None]]], Awaitable[None]]

# Who may take a piece of a body out of its way, the moment it comes. None: it has not, and the piece flows; False:
# nothing more may come until it makes the call that it is given. Bodies that offer their pieces have it as `skimmed`.
Skim = Callable[[bytes, Callable[[], None]], bool | None]


class Body:
    """A body of `length` bytes (None: nobody knows yet). This one is empty; others say how they are read."""

    __slots__ = ("_keeper", "_seen")
    _seen: Any
    length: int | None = 0
    coding: str | None = None  # the content coding that it has, where somebody has looked; who rewrites it takes it off

    @property
    def kept(self) -> Kept | None:
        """The kept body that was made of this one, if any."""
        return getattr(self, "_keeper", None)

    @property
    def seen(self) -> Any:
        """What somebody who read this body left for the next who asks; None if nobody did."""
        return getattr(self.kept or self, "_seen", None)

    @seen.setter
    def seen(self, what: Any) -> None:
        holder = self.kept or self
        holder._seen = what

    def now(self) -> bytes | None:
        """All of it, when it is here already and untouched; else None."""
        return b""

    def allow(self, limit: int) -> None:
        """Let it be at most `limit` bytes; raises BodyTooLarge now when it is known to be more, else as it is read."""
        if self.length is not None and self.length > limit:
            raise BodyTooLarge(limit)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes in the pieces in which they come. A second pass over an unkept body raises BodyConsumed."""
        data = self.now()
        if data:
            yield data

    async def rest(self, at: int) -> AsyncIterator[bytes]:
        """The bytes from `at` on."""
        async for piece in self:
            if at < len(piece):
                yield piece[at:]
            at = max(0, at - len(piece))

    async def read(self, limit: int) -> bytes:
        """All of it, at most `limit` bytes; raises BodyTooLarge over that, having closed the body."""
        data = self.now()
        if data is None:
            if self.length is not None and self.length > limit:
                await self.aclose()
                raise BodyTooLarge(limit)
            pieces: list[bytes] = []
            size = 0
            async for piece in self:
                size += len(piece)
                if size > limit:
                    await self.aclose()
                    raise BodyTooLarge(limit)
                pieces.append(piece)
            return b"".join(pieces)
        if len(data) > limit:
            raise BodyTooLarge(limit)
        return data

    def keep(self, *, memory: int, limit: int) -> Body:
        """A body that can be read again, by several at once, each pass from byte 0.

        It holds `memory` bytes in memory and the rest, up to `limit` bytes, in a temporary file. A body over the limit
        goes on to who reads it at the front, without a second chance. Asked twice, it is the same kept body.
        """
        if self.now() is not None:
            return self
        from .keep import Kept

        try:
            return self._keeper
        except AttributeError:
            self._keeper: Kept = Kept(self, memory=memory, limit=limit)
            return self._keeper

    def lent(self) -> AbstractAsyncContextManager[None]:
        """Whoever reads within this block reads on what was kept of it, though it is closed meanwhile."""
        return nullcontext() if self.kept is None else self.kept.lent()

    async def aclose(self) -> None:
        """Let go of what is behind it; again and again if you like."""
        keeper = self.kept
        if keeper is not None:
            del self._keeper
            await keeper.aclose()

    def __repr__(self) -> str:
        size = "unknown length" if self.length is None else f"{self.length} bytes"
        return f"{type(self).__name__}({size})"


EMPTY = Body()


class Bytes(Body):
    """A body that is here: bytes in memory, read as often as you like."""

    __slots__ = ("data", "length")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.length = len(data)

    @property
    def kept(self) -> None:
        """None: what is here is kept as it is."""
        return None

    def now(self) -> bytes:
        """All of it."""
        return self.data


class Through(Body):
    """A body whose bytes pass a transform as they flow."""

    __slots__ = ("_running", "_source", "_transform", "length")

    def __init__(self, source: Body, transform: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]) -> None:
        self._source = source
        self._transform = transform
        self._running: AsyncIterator[bytes] | None = None
        self.length = None

    def now(self) -> None:
        """Never here: the transform has not run."""
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """What the transform makes of the source."""
        if self._running is not None:
            raise BodyConsumed
        self._running = self._transform(aiter(self._source))
        try:
            async for piece in self._running:
                if piece:
                    yield piece
        finally:
            await self._stop()  # and not who keeps it: that one reads here

    async def aclose(self) -> None:
        """End the transform, so that its `finally` runs, then close the source."""
        try:
            await self._stop()
        finally:
            await super().aclose()

    async def _stop(self) -> None:
        running, self._running = self._running, aiter(EMPTY)
        close = getattr(running, "aclose", None)
        try:
            if close is not None:
                await close()
        except RuntimeError:  # it is being iterated at this moment, by whom we are closed: it ends with them
            pass
        finally:
            await self._source.aclose()


class Ahead(Body):
    """A body of which the first pieces are pulled before anybody asks: what they decide can be told in the head."""

    __slots__ = ("_front", "_pieces", "_source", "length")

    def __init__(self, source: Body) -> None:
        self._source = source
        self._front: AsyncIterator[bytes] | None = None
        self._pieces: list[bytes] = []
        self.length = source.length

    def now(self) -> None:
        """Never here: it has begun to flow."""
        return None

    @property
    def held(self) -> bytes:
        """What was pulled so far."""
        return b"".join(self._pieces)

    async def pull(self) -> int:
        """Hold one more piece; how many bytes it has, 0 at the end. Raises what the body raises."""
        if self._front is None:
            self._front = aiter(self._source)
        piece = await anext(self._front, b"")
        if piece:
            self._pieces.append(piece)
        return len(piece)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """What was pulled, then the rest."""
        front, pieces = self._front or aiter(self._source), self._pieces
        self._front = aiter(EMPTY)
        try:
            while pieces:
                yield pieces.pop(0)
            async for piece in front:
                yield piece
        finally:
            pieces.clear()
            await self._source.aclose()  # and not who keeps it: that one reads here

    async def aclose(self) -> None:
        """Stop it."""
        self._pieces.clear()
        await self._source.aclose()
        await super().aclose()
