"""How long who waits in line will wait, by what the first in line has heard of its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..model.quota import PIECES, Bound, Bounds, Claimed, Resource

DAY = 86_400.0  # seconds: the shortest period of the calendar
Amounts = Mapping[Resource, int]


class Way(NamedTuple):
    """One limit as the first in line has heard of it; times are seconds of the house's clock."""

    resource: Resource
    ceiling: int
    need: int  # so much must come back for the first; 0 or less: nothing, and so much more fits
    first: float  # when that has come back
    last: float  # when all has come back that counts now
    turn: float  # seconds in which as much comes back as fits at once

    def at(self, before: int) -> float:
        """When there is room for so much behind the first."""
        need = self.need + before
        if not before or need <= 0:
            return self.first
        turns, rest = divmod(need - 1, self.ceiling)
        return self.first + (self.last - self.first) * rest / self.ceiling + turns * self.turn


class Outlook:
    """What the first in line has heard, and so when the turn of those behind it may come."""

    def __init__(self, bounds: Bounds, amounts: Sequence[int], heard: Claimed, *, now: float, wall: float, held: float):
        blocked = []
        self.first = now  # when it may be served, as things go
        self.known = now  # not before that
        self.untold = False  # it waits for what others hold
        ways = []
        for bound, amount, level, wait, reset in zip(bounds.all, amounts, *heard[1:], strict=True):
            way = _way(bound, amount - bound.line.ceiling + level, wait, reset, now, wall, held)
            ways.append(way)
            if wait:
                blocked.append(bound.line.counter)
                self.first = max(self.first, way.first)
                if bound.resource == "concurrent":
                    self.untold = True
                else:
                    self.known = max(self.known, way.first)
        self._ways = tuple(ways)
        self.blocked = frozenset(blocked)  # the counters in its way

    def at(self, before: Amounts) -> float:
        """When there may be room for so much behind the first."""
        return max(self.first, *[way.at(before.get(way.resource, 0)) for way in self._ways])


def _way(bound: Bound, need: int, wait: int, reset: int, now: float, wall: float, held: float) -> Way:
    line = bound.line
    if line.window:
        first, last = now + max(0, wait) / 1000, now + max(wait, reset) / 1000
        return Way(bound.resource, line.ceiling, need, first, last, (line.window + line.window // PIECES) / 1000)
    if line.until:
        end = now + max(0.0, bound.until - wall)
        return Way(bound.resource, line.ceiling, need, end if wait else now, end, DAY)
    # What is held comes back evenly, after as long as others were held: of so many, the first a little sooner.
    first = now + held / (line.ceiling + 1) if wait else now
    return Way(bound.resource, line.ceiling, need, first, now + held, held)
