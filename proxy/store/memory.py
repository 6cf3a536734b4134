"""Limits in the memory of one process: for what is to hold while the store can't be asked."""

from __future__ import annotations

from collections.abc import Sequence

from ..model.quota import Claim, Claimed, Settle, Tallied, Tally
from ..model.services import Clock
from .tally import Cell, Counter, claimed, settled

MOST = 2**14  # counters; past that those of which nothing counts are let go of
HELD = "held"
Took = tuple[Sequence[Cell] | None, Sequence[int]]
UNKNOWN: Took = (None, ())


class Memory:
    """Counts as a store does, for whoever is in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counters: dict[str, Counter] = {}
        self._claims: dict[str, Took] = {}

    async def tally(self, asked: Tally) -> Tallied:
        """Take of limits and settle."""
        now = int(self._clock.now() * 1000)
        if len(self._counters) > MOST:
            self._counters = {name: counter for name, counter in self._counters.items() if counter.counts(now)}
        return Tallied(now, [self._one(one, now) for one in asked.asked])

    def _one(self, asked: Claim | Settle, now: int) -> Claimed | None:
        counters = [self._counters.setdefault(line.counter, Counter()) for line in asked.lines]
        for counter, line in zip(counters, asked.lines, strict=True):
            counter.look(line, now)
        if isinstance(asked, Claim):
            answer, where = claimed(counters, asked.lines, asked.amounts, now, HELD, take=bool(asked.id))
            if answer.taken:
                self._claims[asked.id] = where, asked.amounts
            return answer
        cells, took = self._claims.pop(asked.id, UNKNOWN)
        settled(counters, cells, took, asked.used, now)
        return None
