"""What of a request decides how it may fail over."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.api import Billed, Capability, Operation, Request, endpoint, operation


@dataclass(frozen=True, slots=True)
class Question:
    """A request as failover sees it."""

    operation: Operation
    capability: Capability
    paid: bool  # may it cost again to ask again?
    drawn: bool  # must a 200 hold a picture?
    heard: bool  # is it JSON that comes back, in which an error may hide behind a 200?
    billed: Billed  # what a good answer costs, if anything
    pinned: bool  # it speaks of what one upstream keeps: another would not know it


async def ask_of(request: Request, prefix: str) -> Question:
    """Look at a request. Raises Rejected where its readers could read it in different ways."""
    found = await operation(request, prefix=prefix)
    socket = request.method == "GET" and found.kind in ("realtime", "response")
    drawn = found.drawn
    heard = not socket and found.kind != "other"
    pinned = found.tied
    if not pinned and found.kind in ("other", "files"):
        pinned = endpoint(request.method, request.target.removeprefix(prefix)) != "inference"
    free = request.method in ("GET", "HEAD") or found.kind in ("moderation", "files", "other")
    return Question(found, found.capability, found.paid, drawn, heard, "no" if free else "yes", pinned)
