"""The credential of an upstream, attached innermost, per attempt; what belongs to one account does not cross."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from ..model.errors import ProxyError
from ..model.exchange import Attempt, Exchange
from ..model.message import Headers, Request, Response
from ..model.names import Judged
from ..model.slots import CALLER, CAPABILITY
from ..model.values import Secret

if TYPE_CHECKING:
    from .health import Health

Auth = Literal["bearer", "api-key", "none"]

# The caller's secrets, and what speaks of the caller's network or account: not the upstream's to see.
CALLERS = frozenset(
    (
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"cookie",
        b"forwarded",
        b"x-real-ip",
        b"true-client-ip",
        b"via",
        b"openai-organization",
        b"openai-project",
    )
)
CALLERS_PREFIXES = (
    b"x-forwarded-",
    b"cf-",
    b"proxy-",
    b"x-original-",
    b"x-rewrite-",
    b"x-admin-",
    b"x-internal-",
    b"x-framegate-",
)
# What speaks of the upstream's account: not the caller's to see. Its limits would be read as theirs.
ACCOUNTS = frozenset((b"set-cookie", b"set-cookie2", b"alt-svc", b"openai-organization", b"openai-project"))
ACCOUNTS_PREFIXES = (b"x-ratelimit-",)
# How browsers, which can't set headers, carry a key and its account into a socket: in Sec-WebSocket-Protocol.
SOCKET_OWN = ("openai-insecure-api-key.", "openai-organization.", "openai-project.")


HOP = b"CDN-Loop"  # RFC 8586: the one header made for finding loops; nobody on the way takes it off
NONE: Mapping[str, Secret] = {}
FIXED = "fixed"  # the id of a secret that stands in `headers` or in the base URL


DROP, KEEP = 0, 1
ACCOUNTS_JUDGED = Judged(lambda name: DROP if name in ACCOUNTS or name.startswith(ACCOUNTS_PREFIXES) else KEEP)


class Credential:
    """One upstream's credential and headers. Several keys are used in turn; a caller's or group's own goes before them.

    `swaps`: a secret of ours takes the place of the caller's. Without one the caller's own things go through, and the
    upstream's come back, as they are. `mark` is this process's own, by which it knows a request that comes round again.
    """

    def __init__(
        self,
        keys: Sequence[Secret],
        *,
        auth: Auth,
        headers: Mapping[str, Secret],
        swaps: bool,
        of_callers: Mapping[str, Secret] = NONE,
        of_groups: Mapping[str, Secret] = NONE,
        mark: str = "",
        upstream: str = "",
        health: Health | None = None,
    ) -> None:
        self._swaps = swaps
        self._upstream = upstream
        self._health = health
        self._header = b"api-key" if auth == "api-key" else b"Authorization"
        prefix = "" if auth == "api-key" else "Bearer "

        def value(key: Secret) -> bytes:
            return f"{prefix}{key.reveal()}".encode()

        self._values = [value(key) for key in keys] if auth != "none" else []
        # With a trace of the key, so that a new one does not rest for what the old one did.
        self._ids = tuple([f"{number}-{_trace(key)}" for number, key in enumerate(self._values, 1)])
        self._turn = itertools.count()
        if health is not None:
            health.pool(upstream, self._ids or ((FIXED,) if swaps else ("",)))
        self._of_callers = {name: value(key) for name, key in of_callers.items()}
        self._of_groups = {name: value(key) for name, key in of_groups.items()}
        self._mark = (HOP, mark.encode())  # "" for none
        self._more = tuple((name.encode(), value.reveal().encode()) for name, value in headers.items())
        own = frozenset(name.lower() for name, _ in self._more)

        def judge(name: bytes) -> int:
            callers = swaps and (name in CALLERS or name.startswith(CALLERS_PREFIXES))
            return DROP if callers or name in own else KEEP

        self._judged = Judged(judge)

    def attach(self, exchange: Exchange, request: Request) -> Request:
        """Swap the caller's things for the upstream's. Raises ProxyError where there is no credential for them."""
        swaps = self._swaps
        judged = self._judged
        pairs = [pair for pair in request.headers.raw if judged[pair[0]]]
        if swaps and (value := self._value(exchange, request.attempt)) is not None:
            pairs.append((self._header, value))
        pairs += self._more
        if swaps and self._mark[1]:
            pairs.append(self._mark)
        headers = Headers(tuple(pairs))
        if swaps and "Sec-WebSocket-Protocol" in exchange.received.headers.view:
            headers = _without_socket_key(headers)
        return Request(request.method, request.target, headers, request.body, request.upstream, request.attempt)

    def detach(self, response: Response) -> Response:
        """Keep the account's things to ourselves."""
        if not self._swaps:
            return response
        raw = response.headers.raw
        kept = tuple([pair for pair in raw if ACCOUNTS_JUDGED[pair[0]]])
        return response if len(kept) == len(raw) else response.but(headers=Headers(kept))

    def _value(self, exchange: Exchange, attempt: Attempt | None) -> bytes | None:
        """What is sent for this caller: their own, else their group's, else the upstream's next that may be used."""
        if (self._of_callers or self._of_groups) and (caller := exchange.get(CALLER)) is not None:
            for own, whose, id in (
                (self._of_callers, "caller", caller.id),
                (self._of_groups, "group", caller.group or ""),
            ):
                if id in own:
                    if attempt is not None:
                        attempt.credential = f"{whose}:{id}"
                    return own[id]
        if self._values:
            at = next(self._turn) % len(self._values)
            if self._health is not None and (capability := exchange.get(CAPABILITY)) is not None:
                at = self._health.choose(self._upstream, self._ids, capability, at)
            if attempt is not None:
                attempt.credential = self._ids[at]
            return self._values[at]
        if self._of_callers or self._of_groups:  # else its secret stands in `headers` or in the base URL
            missing = ProxyError(
                "There is no credential for you at this upstream.",
                status=503,
                type="service_unavailable_error",
                code="provider_credential_missing",
            )
            missing.layer = "credential"
            raise missing
        if attempt is not None:
            attempt.credential = FIXED
        return None


def _trace(value: bytes) -> str:
    """Sixteen bits of a hash: enough to tell a key from the one before it, and far too few to find it by."""
    return hashlib.sha256(value).hexdigest()[:4]


def _without_socket_key(headers: Headers) -> Headers:
    for name, value in headers.raw:
        if name.lower() == b"sec-websocket-protocol" and b"openai-" in value.lower():
            offered = [part.strip() for line in headers.getall("Sec-WebSocket-Protocol") for part in line.split(",")]
            kept = ", ".join(part for part in offered if not part.lower().startswith(SOCKET_OWN))
            return headers.replaced(sec_websocket_protocol=kept or None)
    return headers
