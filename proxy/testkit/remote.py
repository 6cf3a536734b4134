"""What upstreams' URLs lead to, as a test tells it: no socket, no name looked up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from ..model.errors import ProxyError
from ..model.fetch import Fetched, FetchFailed
from .script import Piece, fresh

Leads = bytes | ProxyError | Iterable[Piece]


class ScriptedRemote:
    """Stands where the fetcher does; what it was told nothing of is answered with 404."""

    def __init__(self, leads: Mapping[str, Leads]) -> None:
        self._leads = leads
        self.asked: list[str] = []
        self.held: list[str] = []  # whose blocks were not left yet

    @asynccontextmanager
    async def open(self, url: str, *, upstream: str | None, limit: int) -> AsyncIterator[Fetched]:
        """What the test said of that URL."""
        self.asked.append(url)
        led = self._leads.get(url, FetchFailed("it was answered with status 404", answered=404))
        if isinstance(led, ProxyError):
            raise fresh(led)
        if isinstance(led, bytes) and len(led) > limit:
            raise too_large(limit)
        self.held.append(url)
        coming = _Coming((led,) if isinstance(led, bytes) else led, len(led) if isinstance(led, bytes) else None, limit)
        try:
            yield coming
        finally:
            self.held.remove(url)


class _Coming:
    """Its pieces as they were told."""

    def __init__(self, pieces: Iterable[Piece], length: int | None, limit: int) -> None:
        self.media: str | None = None
        self.length = length
        self._pieces = iter(pieces)
        self._limit = self._left = limit

    def __aiter__(self) -> _Coming:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            elif isinstance(piece, ProxyError):
                raise fresh(piece)
            elif piece:
                self._left -= len(piece)
                if self._left < 0:
                    raise too_large(self._limit)
                return piece
        raise StopAsyncIteration


def too_large(limit: int) -> FetchFailed:
    """In the fetcher's words."""
    return FetchFailed(f"it is larger than {limit} bytes")
