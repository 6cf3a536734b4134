"""What a client hears whose request is over a limit: which one, and when it is worth coming again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from proxy.api import Bound, Bounds, Claimed, ProxyError, Resource, Scope

from .headers import in_text, told

SOON = 60  # seconds: a `retry-after` up to which it is worth the SDK's while to come again
NEVER = math.inf
FREED = 1  # seconds after which somebody may have ended; nobody knows
WHOM: Mapping[Scope, str] = {
    "key": "this key",
    "group": "this key's group",
    "user": "this user",
    "all": "everybody together",
    "route": "this route",
    "model": "this model",
}
LESS: Mapping[Resource, str] = {
    "images": "ask for fewer pictures at once",
    "tokens": "shorten it, or set a lower maximum of output tokens",
    "budget": "ask for less, or set a maximum of output tokens",
}


def refused(bounds: Bounds, amounts: Sequence[int], claimed: Claimed, wall: float) -> ProxyError:
    """The refusal of the limit that keeps the request out the longest."""
    worst, at = -1.0, 0
    for i, (bound, amount, wait) in enumerate(zip(bounds.all, amounts, claimed.waits, strict=True)):
        seconds = _seconds(bound, amount, wait, wall) if wait else -1.0
        if seconds > worst:
            worst, at = seconds, i
    bound, amount, level = bounds.all[at], amounts[at], claimed.levels[at]
    after = max(1, math.ceil(worst)) if worst < NEVER else None  # seconds
    headers = in_text(told(bounds, claimed, wall))
    if after is not None:
        headers["retry-after"] = str(after)
    param = f'{bound.scope} limits.{bound.resource} "{bound.limit}"'
    if bound.resource == "budget":
        return ProxyError(
            _spent(bound, amount, level, after),
            status=429,
            type="insufficient_quota",
            code="insufficient_quota",
            param=param,
            retryable=False,
            headers=headers,
            more={"scope": bound.scope},
        )
    return ProxyError(
        _reached(bound, amount, level, after),
        status=429,
        type="concurrency" if bound.resource == "concurrent" else bound.resource,
        code="rate_limit_exceeded",
        param=param,
        retryable=after is not None,
        should_retry=after is not None and after <= SOON,
        headers=headers,
    )


def unavailable() -> ProxyError:
    """The store can't be asked, and what can't be counted is not let through."""
    return ProxyError(
        "What is left of the limits can't be told at the moment, so nothing was sent; try again in a few seconds.",
        status=503,
        type="service_unavailable_error",
        code="database_operation_failed",
    )


def _seconds(bound: Bound, amount: int, wait: int, wall: float) -> float:
    """How long it has to wait, as far as that can be told."""
    if amount > bound.line.ceiling:
        return NEVER
    if wait > 0:
        return wait / 1000
    return bound.until - wall if bound.until else FREED


def _reached(bound: Bound, amount: int, level: int, wait: int | None) -> str:
    whom, ceiling = WHOM.get(bound.scope, bound.scope), bound.line.ceiling
    if bound.resource == "concurrent":
        return f"{level} requests of {whom} are running, and {ceiling} may at one time. Try again when one has ended."
    limit = f"the limit of {bound.limit} {bound.resource} for {whom}"
    if wait is None:
        return f"This may take {amount} {bound.resource}, more than {limit} ever allows: {LESS[bound.resource]}."
    return (
        f"Rate limit reached: {limit}. {level} count at the moment, and this may take {amount}. Try again in {wait} s."
    )


def _spent(bound: Bound, amount: int, level: int, wait: int | None) -> str:
    budget = f"the budget of {bound.limit} for {WHOM.get(bound.scope, bound.scope)}"
    if wait is None:
        return f"This may cost up to {usd(amount)}, more than {budget} ever allows: {LESS['budget']}."
    return (
        f"You exceeded your current quota: {budget}. {usd(level)} of it are spent or held for what is running, "
        f"and this may cost up to {usd(amount)}."
    )


def usd(nano: int) -> str:
    """An amount of money for people, to the last digit that it has."""
    whole, rest = divmod(nano, 10**9)
    cents = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{cents} USD"
