"""Fetching what an upstream's URL leads to, as a protocol: judged, bounded, and with nobody's credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from .errors import ProxyError


class FetchRefused(ProxyError):
    """We don't go where that URL leads: our rules forbid it. `why` in a few words, without the URL."""

    status = 502
    type = "upstream_error"
    code = "fetch_refused"
    retryable = False

    def __init__(self, why: str, *, host: str = "") -> None:
        where = f" (at {host})" if host else ""
        super().__init__(f"The URL that the upstream gave{where} is not fetched: {why}.")
        self.why = why
        self.host = host


class FetchFailed(ProxyError):
    """It could not be fetched, or not all of it. `answered` is the status that came, if it was not 200."""

    status = 502
    type = "upstream_error"
    code = "fetch_failed"

    def __init__(self, why: str, *, host: str = "", answered: int | None = None, timeout: bool = False) -> None:
        where = f" (at {host})" if host else ""
        super().__init__(f"The URL that the upstream gave{where} could not be fetched: {why}.")
        self.why = why
        self.host = host
        self.answered = answered
        self.timeout = timeout


class Fetched(Protocol):
    """What comes, piece by piece. Ending without FetchFailed, it was whole."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    @property
    def media(self) -> str | None:
        """What the other side calls it ("image/png"), if it says: believe the bytes."""

    @property
    def length(self) -> int | None:
        """How many bytes it will be, where that is known."""


class Remote(Protocol):
    """The way to what upstreams' URLs lead to."""

    def open(self, url: str, *, upstream: str | None, limit: int) -> AbstractAsyncContextManager[Fetched]:
        """Fetch it, `limit` bytes at the most, and hang up when the block is left.

        `upstream` is the one that gave the URL: its own origin may be anywhere, everything else must be public.
        Raises FetchRefused or FetchFailed; while it is read, FetchFailed.
        """
