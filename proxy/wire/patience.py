"""Waiting that ends by the house's clock: one timer looks at all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

INF = float("inf")
TICK = 0.25  # seconds between two looks, and so how late a wait may end


class Patience:
    """`async with patience.until(due)`: TimeoutError where the block is not left by then."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._waiting: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def until(self, due: float) -> AsyncIterator[None]:
        """Wait until then. The block must be waited for by one task, and hold no `yield` of its own."""
        if due <= self._now():  # also where the block would not have to wait at all
            raise TimeoutError
        async with asyncio.timeout(None) as timeout:
            self._waiting[timeout] = due
            self._begin()
            try:
                yield
            finally:
                self._waiting.pop(timeout, None)

    def within(self, seconds: float, until: float) -> AbstractAsyncContextManager[None]:
        """So many seconds from now, but no longer than until then."""
        return self.until(min(self._now() + seconds, until))

    def sweep(self) -> None:
        """End the waits whose time has come."""
        now, loop = self._now(), asyncio.get_running_loop()
        for timeout, due in tuple(self._waiting.items()):
            if due <= now:
                del self._waiting[timeout]
                timeout.reschedule(loop.time())

    def close(self) -> None:
        """End all waits, and let the timer go."""
        self._waiting = dict.fromkeys(self._waiting, -INF)
        self.sweep()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.sweep()
        if self._waiting:
            self._begin()
