"""A time limit that counts what the others take, and not how long our own loop stood still."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

TICK = 0.05  # seconds by which any loop may be late


class Within:
    """`async with Within(seconds):` as with asyncio.timeout, but for the time in which the loop itself stood still.

    On a busy machine that may be seconds, and its timers fire before it hears what came meanwhile. So where it
    stood it is given as long again, up to the time itself.
    """

    __slots__ = ("_before", "_due", "_loop", "_over", "_spare", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._spare = seconds
        self._due = self._loop.time() + seconds
        self._over = False
        self._before: int  # cancellations by others, which are none of ours
        self._task: asyncio.Task[Any]
        self._timer: asyncio.Handle

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self._timer = self._loop.call_at(self._due, self._look)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._over and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _look(self) -> None:
        now = self._loop.time()
        stood = min(now - self._due, self._spare)
        if stood < TICK:
            self._timer = self._loop.call_soon(self._end)  # what this round still hears is in time
        else:
            self._spare -= stood
            self._due = now + stood
            self._timer = self._loop.call_at(self._due, self._look)

    def _end(self) -> None:
        self._over = True
        self._task.cancel()
