"""The very same request again: what passed a moment ago need not be read a second time to be known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from proxy.api import Operation, Request

from .cache import Cache

SMALL = 2**16  # bytes of a body; to read a longer one costs less than the check


class Past(NamedTuple):
    """What was found out about a request by reading it."""

    hash: bytes  # of what was judged
    kind: str
    model: str | None


class Again:
    """Requests by all their bytes that have a say in how they are read: two that are alike are the same question."""

    __slots__ = ("_digest", "_known")

    def __init__(self, known: Cache[bytes, Past], digest: Callable[[bytes], bytes]) -> None:
        self._known = known
        self._digest = digest

    def key(self, request: Request, prefix: str) -> bytes | None:
        """What it is known by; None where its body is long or still on its way, or where a socket may come of it."""
        data = request.body.now()
        if request.method != "POST" or not data or len(data) > SMALL:
            return None
        named = request.headers.getall
        how = (request.method, request.target, prefix, named("content-type"), named("content-encoding"))
        return self._digest(b"%b\0%b" % (repr(how).encode("utf-8", "surrogateescape"), data))

    def get(self, key: bytes) -> Past | None:
        """What is known of it."""
        return self._known.get(key)

    def put(self, key: bytes, hash: bytes, asked: Operation) -> None:
        """It was read, and all of it could be seen."""
        self._known.put(key, Past(hash, asked.kind, asked.model))
