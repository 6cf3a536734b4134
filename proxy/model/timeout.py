"""A time limit that counts what the others take, and not how long our own loop stood still."""

from __future__ import annotations

import asyncio
from types import TracebackType

TICK = 0.05  # seconds by which any loop may be late


class Within:
    """`async with Within(seconds):` as with asyncio.timeout, but for the time in which the loop itself stood still.

    On a busy machine that may be seconds, and its timers fire before it hears what came meanwhile. So as long as it
    stood, and as the time is, is waited once more.
    """

    __slots__ = ("_bound", "_due", "_loop", "_spare", "_timer")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._bound = asyncio.timeout(None)
        self._spare = seconds
        self._due = self._loop.time() + seconds
        self._timer: asyncio.TimerHandle

    async def __aenter__(self) -> None:
        await self._bound.__aenter__()
        self._timer = self._loop.call_at(self._due, self._over)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._bound.__aexit__(kind, error, trace)

    def _over(self) -> None:
        now = self._loop.time()
        stood = min(now - self._due, self._spare)
        if stood < TICK:
            self._bound.reschedule(now)  # in the next round: what this one still hears is in time
        else:
            self._spare -= stood
            self._due = now + stood
            self._timer = self._loop.call_at(self._due, self._over)
