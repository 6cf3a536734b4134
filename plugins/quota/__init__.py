"""Quota: what a request may take of limits and budgets is taken before it is sent, and settled when it has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from proxy.api import (
    CALLER,
    NO_LIMITS,
    Bounds,
    Caller,
    Demand,
    Exchange,
    Forward,
    Limits,
    Operation,
    Plugin,
    ProxyError,
    Request,
    Response,
    Scope,
    Services,
    Slot,
    StoreError,
    operation,
)

from .asked import LOOKED, Weigher, names, somebody, user_of
from .headers import in_text, marked, told
from .held import Held
from .listing import PATH, listed
from .refusal import refused, unavailable
from .warning import Warnings

COUNTED: Slot[bool] = Slot("counted")
"""The limits of key, group, route and models were counted by a layer further out."""


class Quota(Plugin):
    """Takes what a request may need of all limits before it goes on, refuses what is over, and settles at the end."""

    per: Literal["key", "group", "user", "all"] = "key"  # whom the limits below count for
    limits: Limits = NO_LIMITS  # besides those of keys, groups, models and routes
    charge_ambiguous: bool = True  # what may have been billed counts as used
    warn: float = 0.8  # the share of a limit from which the log says so; 0: never
    unknown_price: Literal["refuse", "allow"] = "refuse"  # where a budget applies and the model has no price
    on_store_error: Literal["refuse", "allow"] = "refuse"  # where nobody can say what is left
    fallback: Limits = NO_LIMITS  # what then counts in each process, with "allow"

    inside = ("keys", "idempotency")
    # Limits stand on keys too, which come and go in the store, so that no config can say that none counts tokens. So
    # only where one does, that answer alone is read, and all of it.
    reads = frozenset(("verdict",))
    reads_when_asked = True

    def __post_init__(self) -> None:
        if not 0 <= self.warn <= 1:
            raise ValueError("warn is a share from 0 to 1, such as 0.8; 0 for no warnings")
        if self.fallback and self.on_store_error != "allow":
            raise ValueError('fallback counts only with on_store_error = "allow"')

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Keep what counts at hand."""
        self.services = services
        self._name = self.known_as or "quota"
        self._limited = bool(self.limits)
        self._weigher = Weigher(services, self._name, refuses=self.unknown_price == "refuse")
        self._warnings = Warnings(services.log, services.clock, self.warn)
        self._away = False  # the store is, and the log has said so
        yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        """Take what the request may need, forward it, and tell what is left."""
        quotas, caller = self.services.quotas, exchange.get(CALLER)
        if request.target.startswith(PATH, len(exchange.prefix)) and request.path == exchange.prefix + PATH:
            return await listed(self.services, exchange, request, self._own(self.limits, caller, somebody(request)))
        shared = COUNTED not in exchange
        asked: Operation | None = None
        if (shared and quotas.by_model) or (self.per == "user" and (self._limited or self.fallback)):
            asked = await operation(request, prefix=exchange.prefix)
        own = self._own(self.limits, caller, user_of(asked)) if self._limited else None
        bounds = quotas.bounds(caller, exchange.route, names(asked), own=own, shared=shared)
        if not bounds:
            return await forward(request)
        if shared:
            exchange[COUNTED] = True
        asked, demand, amounts = await self._weigh(exchange, request, bounds, asked)
        if not any(amounts):
            return await forward(request)
        id, local = f"{exchange.id}/{self._name}", False  # two instances claim for the same exchange
        try:
            claimed = await quotas.claim(id, bounds, amounts)
            self._away = False
        except StoreError as error:
            self._without(error)
            if not self.fallback:
                return await forward(request)
            local, own = True, self._own(self.fallback, caller, user_of(asked))
            bounds = quotas.bounds(caller, exchange.route, (), own=own, shared=False)
            asked, demand, amounts = await self._weigh(exchange, request, bounds, asked)
            claimed = await quotas.claim(id, bounds, amounts, local=True)
        if not claimed.taken:
            raise refused(bounds, amounts, claimed, self.services.clock.wall())
        drawn = asked is not None and asked.drawn
        held = Held(self, id, bounds, amounts, demand, local=local, drawn=drawn)
        exchange.on_finish(held.settle)  # nothing is awaited between the claim's answer and this
        self._warnings.heed(bounds, amounts, claimed)
        left = told(bounds, claimed, self.services.clock.wall())
        if demand is not None:
            exchange.read()
        try:
            response = await held.heard(await forward(request))
        except ProxyError as error:
            error.headers = {**in_text(left), **error.headers}
            raise
        return marked(response, left)

    async def _weigh(
        self, exchange: Exchange, request: Request, bounds: Bounds, asked: Operation | None
    ) -> tuple[Operation | None, Demand | None, Sequence[int]]:
        """What it asks, and what it takes of each limit. It is looked into only where that is to be counted."""
        demand = None
        if not LOOKED.isdisjoint(bounds.resources):
            asked = asked or await operation(request, prefix=exchange.prefix)
            demand = self._weigher.demand(asked)
        return asked, demand, self._weigher.amounts(bounds, demand)

    def _without(self, error: StoreError) -> None:
        """Nobody can say what is left. Raises ProxyError where the operator wants that refused."""
        if self.on_store_error == "refuse":
            raise unavailable() from error
        if not self._away:
            self._away = True
            self.services.log.warning("quota_store_away", plugin=self._name, reason=error.message)

    def _own(self, limits: Limits, caller: Caller | None, user: str) -> tuple[Scope, str, Limits] | None:
        """Limits of the instance's own, and the name under which they are counted. The config's names hold no '/'."""
        if not limits:
            return None
        name, id = self._name, "" if caller is None else caller.id
        if self.per == "all":
            return "all", name, limits
        if self.per == "key":
            return "key", f"{name}/{id}", limits
        if self.per == "user":
            return "user", f"{name}/{id}/{user}", limits
        group = None if caller is None else caller.group
        # A key without a group is one of its own.
        return "group", f"{name}//{id}" if group is None else f"{name}/{group}", limits
