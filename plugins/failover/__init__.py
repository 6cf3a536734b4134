"""Failover: asks the next upstream where one can't answer, and pays for nothing twice unless it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Literal

from proxy.api import (
    CAPABILITY,
    Duration,
    Exchange,
    Forward,
    Plugin,
    ProxyError,
    Rejected,
    Request,
    Response,
    Services,
)

from .budget import Budget
from .order import Order
from .patience import hurry, kept
from .question import ask_of
from .round import Begun, Round
from .usual import Sort, fine, sort_of


class Failover(Plugin):
    """Asks the next upstream where one can't answer, and pays for nothing twice unless it is told to."""

    to: tuple[str, ...] = ()  # upstreams in order; none: all, in the file's order
    attempts: int = 3  # calls of upstreams for one request, in all
    max_wait: Duration = 10.0  # before one that can't answer now is asked again
    cooldown_max: Duration = 600.0  # a longer Retry-After is taken for junk
    on_ambiguous: Literal["stop", "retry"] = "stop"  # a paid request that may have been acted on
    on_result_missing: Literal["next", "stop"] = "next"  # a 200 without the picture, which may have been billed
    on_safety: tuple[str, ...] = ()  # who may be asked what another refused for its content
    replay_within: Duration | None = None  # a paid request is asked again only after a 5xx that came this soon
    strategy: Literal["priority", "weighted", "latency"] = "priority"
    weights: dict[str, int] = field(default_factory=dict)  # by upstream, for "weighted"; default 1
    sticky: bool = False  # a caller stays with an upstream while it can answer
    hedge: Duration | None = None  # what is free to repeat is asked of a second upstream after this long

    inside = ("rehost",)  # only the winner's pictures are kept
    reads = frozenset(("verdict",))

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1")
        if len(set(self.to)) < len(self.to):
            raise ValueError("to names an upstream twice")
        for name, why in (("on_safety", self.on_safety), ("weights", self.weights)):
            for upstream in why:
                if self.to and upstream not in self.to:
                    raise ValueError(f"{name} names '{upstream}', which is not in to")
        if self.weights and self.strategy != "weighted":
            raise ValueError('weights count only with strategy = "weighted"')
        if any(weight < 0 for weight in self.weights.values()) or (self.weights and not any(self.weights.values())):
            raise ValueError("weights must not be negative, and one at least must be more than 0")
        if self.sticky and self.strategy == "latency":
            raise ValueError('sticky and strategy = "latency" contradict each other; choose one')
        if self.hedge is not None and self.hedge <= 0:
            raise ValueError("hedge must be longer than nothing; leave it out for none")

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Keep the upstreams and what is known of them at hand."""
        self.services = services
        names = self.to or services.upstreams.usual
        health = self.health = services.upstreams.health
        self.order = Order(names, self.strategy, self.weights, self.sticky, health)
        plain = self.strategy == "priority" and not self.sticky and self.hedge is None
        choosy = any(services.upstreams.choosy(name) for name in names)
        self._first = names[0] if plain and not choosy else None
        self.budget = Budget(services.clock)
        async with health.sharing():
            yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        """Ask one after the other until one has answered, or until asking on could do harm."""
        self.budget.ask()
        hurry(exchange, request, self.services.clock)
        request, once = kept(request)
        first = self._first
        sort = sort_of(request, exchange.prefix) if first is not None and self.health.calm else None
        if first is None or sort is None:
            question = await ask_of(request, exchange.prefix)
            exchange[CAPABILITY] = question.capability
            return await Round(self, exchange, question, forward, once=once).run(request)
        return await self._usual(exchange, request, forward, first, sort, once)

    async def _usual(
        self, exchange: Exchange, request: Request, forward: Forward, first: str, sort: Sort, once: bool
    ) -> Response:
        """Ask the first; if what comes is not plainly fine, go on from there."""
        began = self.services.clock.now()
        response: Response | None = None
        error: ProxyError | None = None
        try:
            response = await forward(request.to(first))
            if await fine(response, sort):
                if response.attempt is not None:
                    response.attempt.billed = "yes"
                return response
        except ProxyError as exc:
            error = exc
        try:
            question = await ask_of(request, exchange.prefix)
        except Rejected:  # nobody can tell what it asks: then it is asked of nobody else
            if error is not None:
                if response is not None:
                    await response.aclose()
                raise error from None
            assert response is not None
            return response
        exchange[CAPABILITY] = question.capability
        begun = Begun(first, response, error, began)
        return await Round(self, exchange, question, forward, once=once).run(request, begun)
