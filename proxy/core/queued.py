"""The queue of an upstream whose limits are known: a burst waits in order instead of being refused over there."""

from __future__ import annotations

from collections.abc import Callable

from ..model.errors import ProxyError, QueueFull
from ..model.exchange import Attempt, Exchange, Queued
from ..model.message import Request, Response
from ..model.plugin import Forward
from ..model.prices import Demand
from ..model.quota import Bounds, Resource
from ..model.services import Clock, Failures
from ..model.slots import CALLER
from ..openai.operation import DRAWING, Operation, operation
from ..openai.operation_path import asked
from .ended import told
from .gate import Gate, Hold
from .queue import Ticket
from .waiting import Waiting

NO_DEMAND = Demand(0, 0, 0)
WORTH_TELLING = 0.005  # seconds of waiting
DRAW: frozenset[str] = DRAWING | {"chat", "response"}  # those two if they are told to
SPEAK: frozenset[str] = DRAW | {"completion", "embedding", "moderation"}


class Queue:
    """Lets through what the upstream's limits allow; the rest waits its turn, or is refused at once if in vain."""

    def __init__(
        self,
        upstream: str,
        gate: Gate,
        waiting: Waiting,
        failures: Failures,
        clock: Clock,
        *,
        length: int,
        wait: float,
        demand: Callable[[Operation], Demand],
    ) -> None:
        self._upstream = upstream
        self._gate = gate
        self._line = waiting.line
        self._failures = failures
        self._clock = clock
        self._length = length
        self._wait = wait
        self._demand = demand

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        """Wait until the limits have room, ask, and hold a slot until the answer has ended."""
        attempt = request.attempt
        assert attempt is not None
        amounts = await self._amounts(exchange, request, attempt, self._gate.bounds())
        if not any(amounts.values()):
            return await forward(request)
        hold = await self._enter(exchange, attempt, amounts)
        try:
            response = await forward(request)
        except BaseException:
            hold.end(back=not attempt.sent)
            raise
        if response.status == 429:
            said = response.body.now() or b""
            failure = self._failures.classify(
                429, response.headers, said, sent=True, paid=False, upstream=self._upstream
            )
            if failure is not None and failure.kind == "rate_limit":
                self._gate.refused(hold)
            hold.end(back=True)
            return response
        if "concurrent" not in amounts:
            hold.end()
            return response
        if response.socket is not None or response.body.now() is None:
            exchange.on_finish(hold.finished)  # for an answer that nobody lets go of
        return told(response, hold.end)

    async def _amounts(
        self, exchange: Exchange, request: Request, attempt: Attempt, bounds: Bounds
    ) -> dict[Resource, int]:
        """What this request takes of each limit."""
        amounts: dict[Resource, int] = dict.fromkeys(bounds.resources, 1)
        counted: list[Resource] = [name for name in amounts if name in ("images", "tokens")]
        if counted:
            whole = request.with_target(exchange.prefix + request.target)
            demand = NO_DEMAND
            try:
                if asked(whole, exchange.prefix).kind in (SPEAK if "tokens" in amounts else DRAW):
                    demand = self._demand(await operation(whole, prefix=exchange.prefix))
            except ProxyError as error:
                attempt.error = error.code
                raise
            for name in counted:
                amounts[name] = demand.images if name == "images" else demand.tokens
        for bound in bounds.all:
            if (amount := amounts[bound.resource]) > bound.line.ceiling:
                if bound.resource == "images":
                    attempt.error = "queue-never"
                    raise QueueFull(f"{amount} pictures are more than it may be asked for at once", wait=None)
                amounts[bound.resource] = bound.line.ceiling  # an estimate; what is too much the upstream says itself
        return amounts

    async def _enter(self, exchange: Exchange, attempt: Attempt, amounts: dict[Resource, int]) -> Hold:
        """Stand in line until the limits have room for it, and take what it asks for."""
        line, began = self._line, self._clock.now()
        caller = exchange.get(CALLER)
        ticket = Ticket(caller.id if caller is not None else "", amounts, min(began + self._wait, exchange.deadline))
        # While the first in line asks it is not known whether anybody must wait; when it has heard, it looks itself.
        full = line.outlook is not None and len(line) >= self._length and not line.squeeze(ticket.caller)
        place = line.join(ticket)
        hold: Hold | None = None
        try:
            at = line.expected(ticket, place)
            if at is not None and (full or at >= ticket.due):
                line.drop(ticket, at, crowded=full)
            hold = await self._gate.enter(ticket)
        except QueueFull as error:
            attempt.error = "queue-full" if ticket.crowded else "queue-late"
            attempt.queued = Queued(place, error.wait or 0.0, refused=True)
            raise
        finally:
            line.leave(ticket, served=hold is not None)
        waited = hold.began - began
        if ticket.waited and waited >= WORTH_TELLING:
            attempt.queued = Queued(place, waited)
        return hold
