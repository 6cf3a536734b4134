"""A backend that fails again and again is left alone for a while: nobody waits for what will not come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proxy.api import Clock, Log

from .verdict import Unavailable

FAILURES = 5  # in a row
PAUSE = 10.0  # seconds
JITTER = 0.25  # of the pause, at most, on top of it: processes that failed together do not come back together


class Blameless(Unavailable):
    """There is no verdict, and nothing is wrong with the backend: of the next question it may be judged well."""


class Crowded(Blameless):
    """Our own line before the backend is full, or before what looks at pictures: nothing was asked."""


class Breaker:
    """Stands round what one backend is asked. `slow`: who is cut off after so many seconds has failed."""

    __slots__ = ("_clock", "_jitter", "_log", "_name", "_probing", "_row", "_slow", "_until", "_why")

    def __init__(
        self, name: str, clock: Clock, log: Log, *, slow: float, jitter: Callable[[], float] = random.random
    ) -> None:
        self._name = name
        self._clock = clock
        self._log = log
        self._slow = slow
        self._jitter = jitter  # from 0 to 1
        self._row = 0  # failures since the last success
        self._why = ""  # of the last one
        self._until: float | None = None  # left alone until then, and from then on probed; None: all is well
        self._probing = False

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Round one question. Raises Unavailable at once while the backend is left alone.

        Unavailable is a failure; so is a cancellation that comes late, for then it was the deadline and not a client
        who left. Other errors say nothing of the backend.
        """
        probe = self._enter()
        began = self._clock.now()
        try:
            yield
        except Blameless:
            raise
        except Unavailable as error:
            self._failed(error.why, probe=probe)
            raise
        except asyncio.CancelledError:
            if self._clock.now() - began >= self._slow:
                self._failed("timed out", probe=probe)
            raise
        else:
            self._answered()
        finally:
            if probe:
                self._probing = False

    def _enter(self) -> bool:
        """Whether this is the one that tries whether the backend is back."""
        if self._until is None:
            return False
        if self._probing or self._clock.now() < self._until:
            raise Unavailable(f"left alone after {self._row} failures in a row, the last: {self._why}")
        self._probing = True
        return True

    def _failed(self, why: str, *, probe: bool) -> None:
        self._row += 1
        self._why = why
        if not probe and (self._until is not None or self._row < FAILURES):
            return  # was under way when the others failed
        seconds = PAUSE * (1 + JITTER * self._jitter())
        self._until = self._clock.now() + seconds
        self._log.warning(
            "moderation_left_alone", backend=self._name, failures=self._row, why=why, seconds=round(seconds, 1)
        )

    def _answered(self) -> None:
        self._row = 0
        if self._until is not None:
            self._until = None
            self._log.info("moderation_back", backend=self._name)
