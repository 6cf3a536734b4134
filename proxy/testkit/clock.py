"""A clock that tests turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress


class TurnedClock:
    """Runs like the machine's, ahead by as much as it was turned."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._stepped = 0.0
        self.watchers: list[Callable[[], None]] = []  # called after each turn: whoever must see what it made due

    def now(self) -> float:
        """Seconds on a clock that never steps back."""
        return time.monotonic() + self._ahead

    def wall(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time() + self._ahead + self._stepped

    async def sleep(self, seconds: float, /) -> None:
        """Wait until that many seconds have passed, or were turned past."""
        due = self.now() + seconds
        turned = asyncio.Event()
        self.watchers.append(turned.set)
        try:
            while (left := due - self.now()) > 0:
                turned.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await turned.wait()
        finally:
            self.watchers.remove(turned.set)

    def turn(self, seconds: float) -> None:
        """Let that many seconds have passed."""
        self._ahead += seconds
        for watcher in tuple(self.watchers):
            watcher()

    def step(self, seconds: float) -> None:
        """Set the wall clock, as an operator or a time server does: no time has passed."""
        self._stepped += seconds
