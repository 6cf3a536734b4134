"""A clock that tests turn."""

from __future__ import annotations

import time
from collections.abc import Callable


class TurnedClock:
    """Runs like the machine's, ahead by as much as it was turned."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self.watchers: list[Callable[[], None]] = []  # called after each turn: whoever must see what it made due

    def now(self) -> float:
        """Seconds on a clock that never steps back."""
        return time.monotonic() + self._ahead

    def wall(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time() + self._ahead

    def turn(self, seconds: float) -> None:
        """Let that many seconds have passed."""
        self._ahead += seconds
        for watcher in tuple(self.watchers):
            watcher()
