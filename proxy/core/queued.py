"""The queue of an upstream whose limits are known: a burst waits in order instead of being refused over there."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from math import ceil

from ..model.errors import ProxyError, QueueFull
from ..model.exchange import Attempt, Exchange, Outcome, Queued
from ..model.limit import Limits
from ..model.message import Request, Response
from ..model.plugin import Forward
from ..model.quota import Bound, Bounds, Claimed, Line, Quotas, Resource, Scope
from ..model.services import Clock, Failures, Log
from ..model.slots import CALLER
from ..model.store import StoreError
from ..openai.operation import DRAWING, Operation, operation
from ..openai.operation_path import Kind, asked
from .ended import told
from .outlook import Outlook
from .queue import Ticket
from .waiting import Waiting

LOOK = 0.1  # seconds after which is looked again for what other processes hold
APART = 5.0  # seconds for which a store that failed is left alone, and this process counts for itself
WORTH_TELLING = 0.005  # seconds of waiting
# The upstream counts a request when it arrives, some time after us. So its window ends later than ours would.
LATER, LATEST = 100, 1000  # of a window's parts by which ours is longer, and the most, in milliseconds
LONGEST = 3_600_000  # milliseconds of a window that a refusal may have been about; to lower a day's would shut it
SHORTEST = 0.001  # seconds: no clock is finer than the store's
SPEAKING: frozenset[Kind] = frozenset(("chat", "completion", "response", "embedding", "moderation"))
DRAWERS: frozenset[Kind] = frozenset(("chat", "response"))  # if they are told to
NOTHING: frozenset[Kind] = frozenset()
Demand = Callable[[Operation], tuple[int, int]]
"""Tells how many pictures and tokens an operation may take."""
_boot = secrets.token_hex(6)
_ids = itertools.count(1)


class Hold:
    """What one request holds of the limits, until it is known what it used."""

    __slots__ = ("_ended", "_queue", "amounts", "began", "bounds", "id", "local")

    def __init__(self, queue: Queue, id: str, bounds: Bounds, amounts: Sequence[int], began: float, local: bool):
        self._queue = queue
        self._ended = False
        self.id, self.bounds, self.amounts, self.began, self.local = id, bounds, amounts, began, local

    def end(self, *, back: bool = False) -> None:
        """It is over. `back`: the upstream has not counted it, so neither do we."""
        if not self._ended:
            self._ended = True
            self._queue.settle(self, back=back)

    async def finished(self, outcome: Outcome) -> None:
        """Whatever became of the answer, the exchange has ended."""
        self.end()


class Queue:
    """Lets through what the upstream's limits allow; the rest waits its turn, or is refused at once if in vain."""

    def __init__(
        self,
        upstream: str,
        limits: Limits,
        waiting: Waiting,
        quotas: Quotas,
        failures: Failures,
        clock: Clock,
        log: Log,
        *,
        length: int,
        wait: float,
        demand: Demand,
    ) -> None:
        self._upstream = upstream
        self._own: tuple[Scope, str, Limits] = ("upstream", upstream, limits)
        self._waiting = waiting
        self._quotas = quotas
        self._failures = failures
        self._clock = clock
        self._log = log
        self._length = length
        self._wait = wait
        self._demand = demand
        self._counts = DRAWING | SPEAKING if limits.tokens else DRAWING | DRAWERS if limits.images else NOTHING
        self._known: tuple[Bounds, Bounds] | None = None

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        """Wait until the limits have room, ask, and hold a slot until the answer has ended."""
        attempt = request.attempt
        assert attempt is not None
        bounds = self._bounds()
        amounts = await self._amounts(exchange, request, attempt, bounds)
        if not any(amounts.values()):
            return await forward(request)
        hold = await self._enter(exchange, attempt, amounts)
        try:
            response = await forward(request)
        except BaseException:
            hold.end(back=not attempt.sent)
            raise
        if response.status == 429:
            self._refused(response, hold)
            hold.end(back=True)
        elif "concurrent" not in amounts:
            hold.end()
        elif response.socket is not None or response.body.now() is None:
            exchange.on_finish(hold.finished)
            return told(response, hold.end)
        hold.end()
        return response

    # --- what it takes

    async def _amounts(
        self, exchange: Exchange, request: Request, attempt: Attempt, bounds: Bounds
    ) -> dict[Resource, int]:
        """What this request takes of each limit."""
        amounts: dict[Resource, int] = dict.fromkeys(bounds.resources, 1)
        if self._counts:
            whole = request.with_target(exchange.prefix + request.target)
            images = tokens = 0
            try:
                if asked(whole, exchange.prefix).kind in self._counts:
                    images, tokens = self._demand(await operation(whole, prefix=exchange.prefix))
            except ProxyError as error:
                attempt.error = error.code
                raise
            amounts |= {name: count for name, count in (("images", images), ("tokens", tokens)) if name in amounts}
        for bound in bounds.all:
            if (amount := amounts[bound.resource]) > bound.line.ceiling:
                if bound.resource == "images":
                    attempt.error = "queue-never"
                    raise QueueFull(f"{amount} pictures are more than it may be asked for at once", wait=None)
                amounts[bound.resource] = bound.line.ceiling  # an estimate; what is too much the upstream says itself
        return amounts

    def _bounds(self) -> Bounds:
        """The limits as they are counted here."""
        found = self._quotas.bounds(None, "", (), own=self._own, shared=False)
        if self._known is None or self._known[0] is not found:
            self._known = found, Bounds([one._replace(line=_longer(one.line)) for one in found.all])
        return self._known[1]

    # --- the line

    async def _enter(self, exchange: Exchange, attempt: Attempt, amounts: dict[Resource, int]) -> Hold:
        """Stand in line and come to the front, and take what is asked for."""
        line, began = self._waiting.line, self._clock.now()
        caller = exchange.get(CALLER)
        if len(line) >= self._length:
            wait = max(0.0, line.last - began)
            attempt.error, attempt.queued = "queue-full", Queued(len(line) + 1, wait, refused=True)
            raise QueueFull(f"{self._length} requests are waiting for it already", wait=wait)
        ticket = Ticket(caller.id if caller is not None else "", amounts, min(began + self._wait, exchange.deadline))
        place = line.join(ticket)
        hold: Hold | None = None
        try:
            at = line.expected(ticket, place)
            if at is not None and at >= ticket.due:
                ticket.late = at
            hold = await self._turn(ticket)
        except QueueFull as error:
            attempt.error, attempt.queued = "queue-late", Queued(place, error.wait or 0.0, refused=True)
            raise
        finally:
            line.leave(ticket, served=hold is not None)
        waited = hold.began - began
        if waited >= WORTH_TELLING:
            attempt.queued = Queued(place, waited)
        return hold

    async def _turn(self, ticket: Ticket) -> Hold:
        """Wait to be the first, then for room. The first keeps the time for all behind it."""
        waiting, line = self._waiting, self._waiting.line
        id = f"queue-{_boot}-{next(_ids)}"
        while True:
            while line.head is not ticket and ticket.late is None:
                await ticket.woken.wait()
                ticket.woken.clear()
            now = self._clock.now()
            if ticket.late is None and ticket.due <= now:
                ticket.late = now
            if ticket.late is not None:
                raise _too_late(ticket.late - now)
            line.outlook = ticket.blocked = None
            ticket.woken.clear()
            bounds = self._lowered(now, ticket.amounts)
            amounts = bounds.amounts(ticket.amounts)
            heard, local = await self._claim(id, bounds, amounts)
            now = self._clock.now()
            if heard.taken:
                return Hold(self, id, bounds, amounts, now, local)
            outlook = Outlook(bounds, amounts, heard, now=now, wall=self._clock.wall(), held=waiting.held)
            line.outlook, ticket.blocked = outlook, outlook.blocked
            until = min(line.dismiss(), outlook.first, waiting.eased.until)
            if ticket.late is not None:
                continue
            if outlook.untold:
                until = min(until, now + random.uniform(0.8, 1.2) * LOOK)
            await self._sleep(ticket, max(SHORTEST, until - now))

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
                return await self._quotas.claim(id, bounds, amounts), False
            except StoreError:
                self._waiting.apart = self._clock.now() + APART
        return await self._quotas.claim(id, bounds, amounts, local=True), True

    def settle(self, hold: Hold, *, back: bool) -> None:
        """What a request has used, which is what it took, or nothing of it."""
        kept = [
            0 if back or name == "concurrent" else amount
            for name, amount in zip(hold.bounds.resources, hold.amounts, strict=True)
        ]
        self._quotas.settle(hold.id, hold.bounds, kept, local=hold.local)
        if not back:
            self._waiting.took(self._clock.now() - hold.began)
        came = [
            line.counter
            for line, amount, used in zip(hold.bounds.lines, hold.amounts, kept, strict=True)
            if amount > used
        ]
        if came:
            self._waiting.line.nudge(came)

    # --- what the upstream teaches

    def _refused(self, response: Response, hold: Hold) -> None:
        """It says that this was too much, although the limits say that it was not."""
        said = response.body.now() or b""
        failure = self._failures.classify(429, response.headers, said, sent=True, paid=False, upstream=self._upstream)
        now, eased = self._clock.now(), self._waiting.eased
        if failure is not None and failure.kind == "rate_limit" and eased.refused(now, hold.began):
            self._log.warning("upstream_limits_lowered", upstream=self._upstream, share=round(eased.share(now), 2))

    def _lowered(self, now: float, amounts: Mapping[Resource, int]) -> Bounds:
        """The limits as far as the upstream is asked for them now; never so low that this request does not fit."""
        bounds, eased = self._bounds(), self._waiting.eased
        share = eased.share(now)
        if share == 1:
            if eased.low:
                eased.low = False
                self._log.info("upstream_limits_back", upstream=self._upstream)
            return bounds
        return Bounds([_lower(bound, share, amounts[bound.resource]) for bound in bounds.all])


def _longer(line: Line) -> Line:
    return line._replace(window=line.window + min(LATEST, line.window // LATER)) if line.window else line


def _lower(bound: Bound, share: float, amount: int) -> Bound:
    line = bound.line
    if line.until or line.window > LONGEST:
        return bound
    return bound._replace(line=line._replace(ceiling=max(1, int(line.ceiling * share), amount)))


def _too_late(wait: float) -> QueueFull:
    wait = max(1.0, wait)
    return QueueFull(f"it would be this request's turn in {ceil(wait)} s, and it may not wait so long", wait=wait)
