"""Soft limits: a line in the log when what counts crosses a share of a limit."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.api import Bounds, Claimed, Clock, Log

AGAIN = 300.0  # seconds for which a limit is not spoken of again: what counts may cross the line to and fro
REMEMBERED = 4096  # limits that were spoken of


class Warnings:
    """What one instance has warned of."""

    def __init__(self, log: Log, clock: Clock, share: float) -> None:
        self._log = log
        self._clock = clock
        self._share = share
        self._last: dict[str, float] = {}

    def heed(self, bounds: Bounds, amounts: Sequence[int], claimed: Claimed) -> None:
        """Speak of the limits of which this claim has crossed the share."""
        share = self._share
        if not share:
            return
        for bound, amount, level in zip(bounds.all, amounts, claimed.levels, strict=True):
            if level < (line := share * bound.line.ceiling):  # nearly always
                continue
            if level - amount < line and bound.resource != "concurrent":  # that one comes and goes
                now = self._clock.now()
                if now < self._last.get(bound.line.counter, 0.0):
                    continue
                if len(self._last) >= REMEMBERED:
                    self._last.clear()
                self._last[bound.line.counter] = now + AGAIN
                counter = bound.line.counter.partition("|")[0]
                self._log.warning(
                    "quota_warning",
                    limit=f"{counter} {bound.resource} {bound.limit}",
                    used=round(level / bound.line.ceiling, 3),
                )
