"""Limits in the memory of one process: for what is to hold while the store can't be asked."""

from __future__ import annotations

from collections.abc import Sequence

from ..model.quota import Claim, Claimed, Settle, Tallied, Tally
from ..model.services import Clock
from .tally import USED, Cell, Counter, claimed, ends

MOST = 2**14  # counters; past that those that are empty are let go of


class Memory:
    """Counts as a store does, for whoever is in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counters: dict[str, Counter] = {}
        self._claims: dict[str, list[tuple[str, Cell, int]]] = {}

    async def tally(self, asked: Tally) -> Tallied:
        """Take of limits and settle."""
        now = int(self._clock.now() * 1000)
        if len(self._counters) > MOST:
            for counter in self._counters.values():
                counter.over(now)
            self._counters = {name: counter for name, counter in self._counters.items() if counter.cells}
        return Tallied(now, [self._one(one, now) for one in asked.asked])

    def _one(self, asked: Claim | Settle, now: int) -> Claimed | None:
        counters = [self._counters.setdefault(line.counter, Counter()) for line in asked.lines]
        for counter in counters:
            counter.over(now)
        if isinstance(asked, Claim):
            answer, took = claimed(counters, asked.lines, asked.amounts, now, asked.id, take=bool(asked.id))
            if answer.taken:
                self._claims[asked.id] = took
            return answer
        self._settle(counters, asked, now)
        return None

    def _settle(self, counters: Sequence[Counter], asked: Settle, now: int) -> None:
        until = {line.counter: ends(line, now) for line in asked.lines}
        for name, cell, amount in self._claims.pop(asked.id, ()):
            until[name] = cell[0]
            self._counters[name].add(cell, -amount)
        for counter, line, used in zip(counters, asked.lines, asked.used, strict=True):
            if used and until[line.counter] > now:
                counter.add((until[line.counter], USED), used)
