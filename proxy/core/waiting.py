"""What is kept of an upstream's queue from config to config, and what the upstream has taught us."""

from __future__ import annotations

import itertools
import secrets

from .queue import Line

STEP, REST = 0.8, 60.0  # of its limits an upstream is asked for after a refusal; seconds until a step is undone
STEPS = 8  # at the most: a sixth is left
WEIGHT = 0.2  # of the last in the average of how long requests are held


class Eased:
    """How much of its limits an upstream is asked for after it has refused below them."""

    def __init__(self) -> None:
        self._steps = 0
        self._fell = self._since = float("-inf")
        self.low = False  # it has been less than all, and nobody has said yet that it no longer is

    def share(self, now: float) -> float:
        """What is asked for now, of 1."""
        while self._steps and now >= self._since + REST:
            self._steps -= 1
            self._since += REST
        return STEP**self._steps

    @property
    def until(self) -> float:
        """When it will be more."""
        return self._since + REST if self._steps else float("inf")

    def refused(self, now: float, began: float) -> bool:
        """It refused what was sent then; whether that is news, for of one burst each may be refused."""
        if began < self._fell:
            return False
        self.share(now)
        self._steps = min(STEPS, self._steps + 1)
        self._fell = self._since = now
        self.low = True
        return True


class Waiting:
    """What is kept of one upstream's queue from config to config."""

    def __init__(self) -> None:
        self.line = Line()
        self.eased = Eased()
        self.held = 0.0  # seconds for which a request is held, on average
        self.apart = 0.0  # until then the store is not asked, having failed
        self._boot = secrets.token_hex(6)  # not the module's: workers are forked when that is loaded
        self._count = itertools.count(1)

    def id(self) -> str:
        """A name for a claim that no other has, in no process."""
        return f"queue-{self._boot}-{next(self._count)}"

    def took(self, seconds: float) -> None:
        """A request was held that long."""
        self.held += (seconds - self.held) * (WEIGHT if self.held else 1.0)
