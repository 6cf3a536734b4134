"""How long a client waits, by its own word, and how long we wait between two calls."""

from __future__ import annotations

import math
import random

from proxy.api import Clock, Exchange, Request

SLACK = 0.5  # seconds before a client gives up in which it can still be told why
MEMORY, KEPT = 2**20, 2**30  # bytes of a body that are kept for another call: in memory, and in all
FIRST, MOST = 1.0, 60.0  # seconds: the first backoff, and the longest
# The SDKs' own (a read timeout: the time until an answer's head where nothing streams), and ours.
TOLD = (b"x-stainless-read-timeout", b"x-framegate-timeout")
LENGTHS = frozenset(map(len, TOLD))  # which most headers have not


def hurry(exchange: Exchange, request: Request, clock: Clock) -> None:
    """Bring the deadline forward to what the client has said it will wait."""
    for name, value in request.headers.raw:
        if len(name) in LENGTHS and name.lower() in TOLD:
            seconds = _seconds(value)
            if seconds is not None:
                exchange.deadline = min(exchange.deadline, clock.now() + max(seconds - SLACK, seconds / 2))


def _seconds(text: bytes) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def kept(request: Request) -> tuple[Request, bool]:
    """The request with a body that can be sent again; and whether it can't, being larger than what is kept."""
    body = request.body
    if body.now() is not None or body.kept is not None:
        return request, False
    if body.length is not None and body.length > KEPT:
        return request, True
    return request.with_body(body.keep(memory=MEMORY, limit=KEPT)), False


def backoff(calls: int) -> float:
    """Seconds to wait after that many calls of one upstream: anything up to twice as long each time (full jitter).

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0, min(MOST, FIRST * 2 ** (calls - 1)))


def after(told: float) -> float:
    """Seconds to wait where an upstream has told how many: no less, and not all who wait at once."""
    return told + random.uniform(0, min(1.0, told / 10))
