"""Which limits hold for a request: those of its key, its group, its route, its models, and a plugin's own."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from fnmatch import fnmatchcase
from typing import Any

from ..model.limit import NO_LIMITS, Calendar, Limits, Rate, Window
from ..model.quota import Bound, Bounds, Claimed, Line, Resource, Scope
from ..model.services import Clock
from ..model.slots import Caller
from .claims import Claims

REMEMBERED = 4096  # combinations of caller, route and models whose limits are kept at hand
NANO = 10**9  # of a budget's unit in one USD
FAR = float("inf")


class Quotas:
    """The limits of one config. What is held of them outlives it."""

    def __init__(
        self,
        claims: Claims,
        local: Claims,
        clock: Clock,
        *,
        groups: Mapping[str, Limits] | None = None,
        models: Mapping[str, Limits] | None = None,
        routes: Mapping[str, Limits] | None = None,
        zone: tzinfo = UTC,
    ) -> None:
        self._claims = claims
        self._local = local
        self._clock = clock
        self._groups = groups or {}
        self._models = {glob: limits for glob, limits in (models or {}).items() if limits}
        self._routes = routes or {}
        self._zone = zone
        self._known: dict[Any, tuple[Bounds, Limits, float]] = {}

    @property
    def by_model(self) -> bool:
        """Whether any limit stands on models."""
        return bool(self._models)

    def bounds(
        self,
        caller: Caller | None,
        route: str,
        models: Sequence[str],
        *,
        own: tuple[Scope, str, Limits] | None = None,
        shared: bool = True,
    ) -> Bounds:
        """The limits that hold for a request of this caller, on this route, that names these models."""
        limits = NO_LIMITS if caller is None else caller.limits
        key = (None if caller is None else caller.id, route, *models, None if own is None else own[:2], shared)
        known = self._known.get(key)
        # A key may be given other limits while we run.
        if known is not None and known[1] is limits and self._clock.wall() < known[2]:
            return known[0]
        found = Bounds(self._found(caller, route, models, own, shared))
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[key] = found, limits, min((one.until for one in found.all if one.until), default=FAR)
        return found

    def claim(
        self, id: str, bounds: Bounds, amounts: Sequence[int], *, local: bool = False, soon: bool = False
    ) -> Coroutine[Any, Any, Claimed]:
        """Take the amounts, all or none; without an id, only look."""
        return (self._local if local else self._claims).claim(id, bounds.lines, amounts, soon=soon)

    def settle(self, id: str, bounds: Bounds, used: Sequence[int], *, local: bool = False) -> None:
        """End a claim with what was used."""
        (self._local if local else self._claims).settle(id, bounds.lines, used)

    def _found(
        self,
        caller: Caller | None,
        route: str,
        models: Sequence[str],
        own: tuple[Scope, str, Limits] | None,
        shared: bool,
    ) -> Iterator[Bound]:
        now = datetime.fromtimestamp(self._clock.wall(), self._zone)
        if own is not None:
            yield from bounds(*own, now)
        if not shared:
            return
        if caller is not None:
            yield from bounds("key", caller.id, caller.limits, now)
            if caller.group is not None and caller.group in self._groups:
                yield from bounds("group", caller.group, self._groups[caller.group], now)
        if route in self._routes:
            yield from bounds("route", route, self._routes[route], now)
        for glob, limits in self._models.items():
            if any(fnmatchcase(model, glob) for model in models):
                yield from bounds("model", glob, limits, now)


def bounds(scope: Scope, name: str, limits: Limits, now: datetime) -> Iterator[Bound]:
    """Those limits for one of a scope, with the counters that they have at that time."""
    rates: tuple[tuple[Resource, Sequence[Rate]], ...] = (
        ("requests", limits.requests),
        ("images", limits.images),
        ("tokens", limits.tokens),
    )
    for resource, several in rates:
        for rate in several:
            yield _bound(scope, name, resource, rate.count, rate.window, str(rate), now)
    if limits.concurrent is not None:
        line = Line(f"{scope}:{name}|concurrent", limits.concurrent)
        yield Bound(line, "concurrent", scope, str(limits.concurrent), 0.0)
    for budget in limits.budget:
        yield _bound(scope, name, "budget", int(budget.usd * NANO), budget.window, str(budget), now)


def _bound(
    scope: Scope, name: str, resource: Resource, ceiling: int, window: Window, limit: str, now: datetime
) -> Bound:
    counter = f"{scope}:{name}|{resource}|"
    if window.seconds is not None:
        milliseconds = max(1, round(window.seconds * 1000))
        return Bound(Line(f"{counter}{milliseconds}", ceiling, window=milliseconds), resource, scope, limit, 0.0)
    assert window.calendar is not None
    label, end = period(window.calendar, now)
    line = Line(f"{counter}{window.calendar} {label}", ceiling, until=int(end * 1000))
    return Bound(line, resource, scope, limit, end)


def period(calendar: Calendar, now: datetime) -> tuple[str, float]:
    """The day, week (from Monday) or month that it is there, and when it ends, in seconds since 1970."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if calendar == "day":
        first, after = today, today + timedelta(days=1)
    elif calendar == "week":
        first = today - timedelta(days=today.weekday())
        after = first + timedelta(days=7)
    else:
        first = today.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
    return first.strftime("%Y-%m-%d"), after.timestamp()
