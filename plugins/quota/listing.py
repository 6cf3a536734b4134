"""`GET {prefix}/framegate/limits`: a caller asks what its limits are, and what is left of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import orjson

from proxy.api import (
    CALLER,
    Bound,
    Bytes,
    Exchange,
    Headers,
    Limits,
    Rejected,
    Request,
    Response,
    Scope,
    Services,
)

PATH = "/framegate/limits"
NANO = 10**9
LATEST = 253_402_300_799.0  # the last second that a date can name


async def listed(
    services: Services, exchange: Exchange, request: Request, own: tuple[Scope, str, Limits] | None
) -> Response:
    """All limits that hold for this caller on this route, and for the models of the query (`?model=`)."""
    if request.method not in ("GET", "HEAD"):
        raise Rejected(
            "The limits can only be read; use GET.",
            status=405,
            code="method_not_allowed",
            headers={"allow": "GET, HEAD"},
        )
    models = parse_qs(request.target.partition("?")[2]).get("model", ())
    quotas = services.quotas
    bounds = quotas.bounds(exchange.get(CALLER), exchange.route, tuple(models), own=own)
    rows: list[dict[str, Any]] = []
    if bounds:
        claimed = await quotas.claim("", bounds, (0,) * len(bounds.lines))
        wall = services.clock.wall()
        for bound, level, reset in zip(bounds.all, claimed.levels, claimed.resets, strict=True):
            rows.append(_row(bound, level, reset, wall))
    body = orjson.dumps({"object": "list", "data": rows})
    headers = Headers.of(content_type="application/json", content_length=str(len(body)), cache_control="no-store")
    return Response(200, headers, Bytes(body), reason=b"OK")


def _row(bound: Bound, level: int, reset: int, wall: float) -> dict[str, Any]:
    """One limit. Money is in USD; `resets` is when nothing of what counts now will count any more."""
    ceiling = bound.line.ceiling
    seconds: float | None = reset / 1000
    if bound.resource == "concurrent":  # that is told by no clock
        seconds = None
    elif reset < 0:
        seconds = max(0.0, bound.until - wall)
    return {
        "scope": bound.scope,
        "resource": bound.resource,
        "limit": bound.limit,
        "most": _shown(bound, ceiling),
        "used": _shown(bound, level),
        "remaining": _shown(bound, max(0, ceiling - level)),
        "resets_in": None if seconds is None else round(seconds, 3),
        "resets_at": None if seconds is None else _iso(wall + seconds),
    }


def _shown(bound: Bound, amount: int) -> int | float:
    return amount / NANO if bound.resource == "budget" else amount


def _iso(time: float) -> str:
    return datetime.fromtimestamp(min(time, LATEST), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
