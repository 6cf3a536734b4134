"""How often may be asked again: a share of what is asked, so that a bad hour is not made worse."""

from __future__ import annotations

from proxy.api import Clock

SHARE = 0.2  # of the requests of the last ...
SPAN = 10  # ... seconds
LEAST = 3  # always


class Budget:
    """Counts requests and retries by the second. A route or a plugin has one of its own."""

    __slots__ = ("_asked", "_clock", "_retried", "_second")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = 0
        self._asked = [0] * SPAN
        self._retried = [0] * SPAN

    def ask(self) -> None:
        """A request has come."""
        self._asked[self._turn()] += 1

    def allow(self) -> bool:
        """Whether one more retry fits; then it counts."""
        at = self._turn()
        if sum(self._retried) >= max(LEAST, SHARE * sum(self._asked)):
            return False
        self._retried[at] += 1
        return True

    def _turn(self) -> int:
        now = int(self._clock.now())
        if now != self._second:
            for second in range(max(self._second + 1, now - SPAN + 1), now + 1):
                self._asked[second % SPAN] = self._retried[second % SPAN] = 0
            self._second = now
        return now % SPAN
