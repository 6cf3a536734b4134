"""Who waits before an upstream, and in what order they are served."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from math import ceil

from ..model.quota import Resource
from .outlook import Amounts, Outlook


class Ticket:
    """One place in the line."""

    __slots__ = ("amounts", "blocked", "caller", "crowded", "due", "late", "waited", "woken")

    def __init__(self, caller: str, amounts: Amounts, due: float) -> None:
        self.caller = caller
        self.amounts = amounts
        self.due = due  # seconds on the house's clock after which it is of no use
        self.late: float | None = None  # it is to go: its turn would come then, which is too late,
        self.crowded = False  # or there is no room for it
        self.blocked: frozenset[str] | None = None  # the counters that were in its way; None: it asks just now
        self.waited = False  # for others or for the limits
        self.woken = asyncio.Event()  # it has come to the front, or something has come back, or it is late


class Line:
    """Round robin by caller, first in first out within one.

    Nothing is handed to who waits. The first in line is woken when something may have come free and takes it itself;
    when it leaves, served or not, the next is woken. So nothing can be lost with one who goes.
    """

    def __init__(self) -> None:
        self._lanes: OrderedDict[str, deque[Ticket]] = OrderedDict()  # by caller, the one whose turn it is in front
        self._count = 0  # of those who have not been told to go
        self._totals: dict[Resource, int] = {}  # that they want
        self.outlook: Outlook | None = None  # what the first has heard; None while it asks
        self.last = 0.0  # when the last may be served, as it looked when somebody looked

    def __len__(self) -> int:
        return self._count

    @property
    def head(self) -> Ticket | None:
        """Who is next."""
        return next(iter(self._lanes.values()))[0] if self._lanes else None

    def __iter__(self) -> Iterator[Ticket]:
        """All, in the order in which they will be served if nobody comes or goes."""
        lanes = [iter(lane) for lane in self._lanes.values()]
        while lanes:
            going = []
            for lane in lanes:
                if (ticket := next(lane, None)) is not None:
                    yield ticket
                    going.append(lane)
            lanes = going

    def join(self, ticket: Ticket) -> int:
        """Stand in line; its place in it, 1 being the next."""
        lane = self._lanes.setdefault(ticket.caller, deque())
        own = len(lane)
        lane.append(ticket)
        self._add(ticket, 1)
        place, before = own + 1, True
        for caller, other in self._lanes.items():
            if caller == ticket.caller:
                before = False
            else:
                place += min(len(other), own + before)
        return place

    def leave(self, ticket: Ticket, *, served: bool = False) -> None:
        """Go, having been served or not; who was served lets the other callers go first."""
        lane = self._lanes[ticket.caller]
        first = self.head is ticket
        lane.remove(ticket)
        if ticket.late is None:
            self._add(ticket, -1)
        if not lane:
            del self._lanes[ticket.caller]
        elif served:
            self._lanes.move_to_end(ticket.caller)
        if first:
            self.outlook = None
            if (head := self.head) is not None:
                head.woken.set()

    def nudge(self, counters: Iterable[str]) -> None:
        """Something has come back to these counters; if that is what the first waits for, it asks again."""
        head = self.head
        if head is not None and (head.blocked is None or not head.blocked.isdisjoint(counters)):
            head.woken.set()

    def expected(self, ticket: Ticket, place: int) -> float | None:
        """When one who has just come may be served, where that can be told; all others count for the average."""
        if self.outlook is None:
            return None
        share = (place - 2) / max(1, self._count - 1)  # of the others: the first is counted already
        before = {
            resource: amount + ceil((self._totals[resource] - amount) * share)
            for resource, amount in ticket.amounts.items()
        }
        return self.outlook.at(before)

    def dismiss(self, length: int) -> float:
        """Drop those who would be served too late, and those for whom there is no room in a line of that length.

        The soonest time when one of the others would be late.
        """
        outlook, head = self.outlook, self.head
        soonest = float("inf")
        if outlook is None:
            return soonest
        before: dict[Resource, int] = {}
        room = length
        for ticket in self:
            if ticket.late is not None:
                continue
            with_it = before
            if ticket is not head:
                with_it = {name: before.get(name, 0) + amount for name, amount in ticket.amounts.items()}
            at = outlook.at(with_it)
            if at >= ticket.due:
                self.drop(ticket, at)
            elif not room:
                self.drop(ticket, at, crowded=True)
            else:
                room -= 1
                soonest = min(soonest, ticket.due)
                before = with_it
                self.last = at
        return soonest

    def drop(self, ticket: Ticket, at: float, *, crowded: bool = False) -> None:
        """Tell one to go, whose turn would come then; it goes when it hears of that."""
        ticket.late, ticket.crowded = at, crowded
        ticket.woken.set()
        self._add(ticket, -1)

    def squeeze(self, caller: str) -> bool:
        """Drop the last of whoever has the most in line, for one more of a caller who has less; whether that is so."""
        lanes = {name: sum(one.late is None for one in lane) for name, lane in self._lanes.items()}
        most = max(lanes, key=lanes.__getitem__)
        if lanes[most] <= lanes.get(caller, 0) + 1:
            return False
        self.drop(next(one for one in reversed(self._lanes[most]) if one.late is None), self.last, crowded=True)
        return True

    def _add(self, ticket: Ticket, sign: int) -> None:
        self._count += sign
        for resource, amount in ticket.amounts.items():
            self._totals[resource] = self._totals.get(resource, 0) + sign * amount
