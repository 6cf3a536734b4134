"""Time as the sandbox knows it, which tests may turn."""

from __future__ import annotations

import time
from typing import Protocol

from .heard import Heard

# How often a clock that somebody else turns is looked at.
_LOOK = 0.005


class Clock(Protocol):
    """Where the time is read."""

    def now(self) -> float:
        """Seconds on a clock that never steps back."""

    def wall(self) -> float:
        """Seconds since 1970, UTC."""


class Time:
    """The machine's time, or that of the clock one was given."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._turned = clock is not None
        self.now = time.monotonic if clock is None else clock.now
        self.wall = time.time if clock is None else clock.wall

    async def pause(self, seconds: float, heard: Heard) -> None:
        """Lets time pass; when the client leaves meanwhile, that is a ConnectionResetError."""
        due = self.now() + seconds
        while (rest := due - self.now()) > 0:
            if await heard.gone(min(rest, _LOOK) if self._turned else rest):
                raise ConnectionResetError("the client left")
