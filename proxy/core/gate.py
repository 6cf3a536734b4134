"""The way to an upstream whose limits are known: who waits before it claims for itself when its turn has come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from math import ceil

from ..model.errors import QueueFull
from ..model.exchange import Outcome
from ..model.limit import Limits
from ..model.quota import Bound, Bounds, Claimed, Line, Quotas, Resource, Scope
from ..model.services import Clock, Log
from ..model.store import StoreError
from .outlook import Outlook
from .queue import Ticket
from .waiting import Waiting

LOOK = 0.1  # seconds after which is looked again for what other processes hold
APART = 5.0  # seconds for which a store that failed is left alone, and this process counts for itself
SHORTEST = 0.001  # seconds: no clock is finer than the store's
LONGEST = 3_600_000  # milliseconds of a window that a refusal may have been about; to lower a day's would shut it
# The upstream counts a request when it arrives, some time after us. So ours counts for longer: by a hundredth of the
# window, in milliseconds, up to
LATEST = 1000


class Hold:
    """What one request holds of the limits, until it is over."""

    __slots__ = ("_ended", "_gate", "amounts", "began", "bounds", "id", "local")

    def __init__(
        self, gate: Gate, id: str, bounds: Bounds, amounts: Sequence[int], *, began: float, local: bool
    ) -> None:
        self._gate = gate
        self._ended = False
        self.id = id
        self.bounds = bounds
        self.amounts = amounts
        self.began = began
        self.local = local

    def end(self, *, back: bool = False) -> None:
        """It is over. `back`: the upstream has not counted it, so neither do we."""
        if not self._ended:
            self._ended = True
            self._gate.settle(self, back=back)

    def finished(self, outcome: Outcome) -> None:
        """Whatever became of the answer, the exchange has ended."""
        self.end()


class Gate:
    """Lets through what the limits allow, in the order of the line."""

    def __init__(
        self, upstream: str, limits: Limits, waiting: Waiting, quotas: Quotas, clock: Clock, log: Log, length: int
    ) -> None:
        self._upstream = upstream
        self._own: tuple[Scope, str, Limits] = ("upstream", upstream, limits)
        self._waiting = waiting
        self._quotas = quotas
        self._clock = clock
        self._log = log
        self._length = length
        self._known: tuple[Bounds, Bounds] | None = None

    def bounds(self) -> Bounds:
        """The limits as they are counted here."""
        found = self._quotas.bounds(None, "", (), own=self._own, shared=False)
        if self._known is None or self._known[0] is not found:
            self._known = found, Bounds([one._replace(line=_longer(one.line)) for one in found.all])
        return self._known[1]

    async def enter(self, ticket: Ticket) -> Hold:
        """Wait to be the first in line, then for room. The first keeps the time for all behind it.

        Raises QueueFull as soon as it is known that this would take too long.
        """
        waiting, line = self._waiting, self._waiting.line
        id = waiting.id()
        while True:
            while line.head is not ticket and ticket.late is None:
                ticket.waited = True
                await ticket.woken.wait()
                ticket.woken.clear()
            now = self._clock.now()
            if ticket.late is None and ticket.due <= now:
                line.drop(ticket, now)
            if ticket.late is not None:
                wait = max(1.0, ticket.late - now)
                late = f"it would be this request's turn in {ceil(wait)} s, which is too late"
                raise QueueFull("too many requests are waiting for it already" if ticket.crowded else late, wait=wait)
            line.outlook = ticket.blocked = None
            ticket.woken.clear()
            bounds = self._lowered(now, ticket.amounts)
            amounts = bounds.amounts(ticket.amounts)
            heard, local = await self._claim(id, bounds, amounts)
            now = self._clock.now()
            if heard.taken:
                return Hold(self, id, bounds, amounts, began=now, local=local)
            outlook = Outlook(bounds, amounts, heard, now=now, wall=self._clock.wall(), held=waiting.held)
            line.outlook, ticket.blocked = outlook, outlook.blocked
            soonest = line.dismiss(self._length)
            ticket.waited = True
            if ticket.late is None:
                again = max(outlook.known, now + random.uniform(0.8, 1.2) * LOOK) if outlook.untold else outlook.known
                await self._sleep(ticket, max(SHORTEST, min(again, soonest, waiting.eased.until) - now))

    async def _sleep(self, ticket: Ticket, seconds: float) -> None:
        """Until that is over, or something has come back."""

        def wake(_: object) -> None:
            ticket.woken.set()

        pause = asyncio.ensure_future(self._clock.sleep(seconds))
        pause.add_done_callback(wake)
        try:
            await ticket.woken.wait()
        finally:
            pause.remove_done_callback(wake)
            pause.cancel()
            await asyncio.gather(pause, return_exceptions=True)

    async def _claim(self, id: str, bounds: Bounds, amounts: Sequence[int]) -> tuple[Claimed, bool]:
        """Ask the store; while that fails this process counts for itself, for the upstream can still say no."""
        if self._clock.now() >= self._waiting.apart:
            try:
                return await self._quotas.claim(id, bounds, amounts, soon=True), False
            except StoreError:
                self._waiting.apart = self._clock.now() + APART
        return await self._quotas.claim(id, bounds, amounts, local=True, soon=True), True

    def settle(self, hold: Hold, *, back: bool) -> None:
        """What a request has used, which is what it took, or nothing of it."""
        lines, resources = hold.bounds.lines, hold.bounds.resources
        used = [
            0 if back or name == "concurrent" else amount for name, amount in zip(resources, hold.amounts, strict=True)
        ]
        self._quotas.settle(hold.id, hold.bounds, used, local=hold.local)
        if not back:
            self._waiting.took(self._clock.now() - hold.began)
        self._waiting.line.nudge(
            [line.counter for line, took, kept in zip(lines, hold.amounts, used, strict=True) if took > kept]
        )

    def refused(self, hold: Hold) -> None:
        """The upstream says that this was too much, although the limits say that it was not."""
        now, eased = self._clock.now(), self._waiting.eased
        if eased.refused(now, hold.began):
            self._log.warning("upstream_limits_lowered", upstream=self._upstream, share=round(eased.share(now), 2))

    def _lowered(self, now: float, amounts: Mapping[Resource, int]) -> Bounds:
        """The limits as far as the upstream is asked for them now; never so low that this request does not fit."""
        bounds, eased = self.bounds(), self._waiting.eased
        share = eased.share(now)
        if share < 1:
            return Bounds([_lower(bound, share, amounts[bound.resource]) for bound in bounds.all])
        if eased.low:
            eased.low = False
            self._log.info("upstream_limits_back", upstream=self._upstream)
        return bounds


def _longer(line: Line) -> Line:
    return line._replace(window=line.window + min(LATEST, line.window // 100)) if line.window else line


def _lower(bound: Bound, share: float, amount: int) -> Bound:
    line = bound.line
    if line.until or line.window > LONGEST:
        return bound
    return bound._replace(line=line._replace(ceiling=max(1, int(line.ceiling * share), amount)))
