"""Which headers cross the wire: hop-by-hop ones never do, what `Connection` names neither (RFC 9110 §7.6.1)."""

from __future__ import annotations

from functools import partial

from ..model.message import RawHeaders
from ..model.names import Judged

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# Inward, `Host` is the upstream's and `Expect` is answered by us.
INWARD = HOP_BY_HOP | {b"host", b"expect"}

# Names that mean something to somebody on the way. A server that turns hyphens into underscores (CGI, WSGI) can't tell
# `X_Forwarded_For` from the real one, so look-alikes of these are dropped.
MEANT = INWARD | {
    b"authorization",
    b"x-api-key",
    b"api-key",
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"cookie",
    b"forwarded",
    b"x-real-ip",
    b"true-client-ip",
    b"openai-organization",
    b"openai-project",
}
MEANT_PREFIXES = (b"x-forwarded-", b"x-framegate-", b"cf-", b"x-original-", b"x-rewrite-", b"x-admin-", b"x-internal-")

KEEP, DROP, CONNECTION, LENGTH = 0, 1, 2, 3
KEPT = (KEEP, LENGTH)


def _judge(name: bytes, drop: frozenset[bytes]) -> int:
    if name == b"connection":
        return CONNECTION
    if name == b"content-length":
        return LENGTH
    if name in drop:
        return DROP
    if b"_" in name and drop is INWARD:
        plain = name.replace(b"_", b"-")
        if plain in MEANT or plain.startswith(MEANT_PREFIXES):
            return DROP
    return KEEP


INWARD_FILTER = Judged(partial(_judge, drop=INWARD))
OUTWARD_FILTER = Judged(partial(_judge, drop=HOP_BY_HOP))
# `Connection: Content-Type` would strip a header that the next hop needs to read the body (Traefik's CVE-2024-45410).
NEVER_NAMED = frozenset(
    (b"host", b"content-length", b"content-type", b"content-encoding", b"authorization", b"x-api-key", b"api-key")
)


def named_by_connection(raw: RawHeaders) -> frozenset[bytes]:
    """The header names that Connection headers list: hop-by-hop too, but for those that framing and auth stand on."""
    named: set[bytes] = set()
    for name, value in raw:
        if name.lower() == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    return frozenset(named) - NEVER_NAMED - {b"close", b"keep-alive", b""}


def end_to_end(raw: RawHeaders, judge: Judged[int]) -> list[tuple[bytes, bytes]]:
    """What crosses, in its own case, order and repeats; Content-Length included."""
    kept = []
    for pair in raw:
        verdict = judge[pair[0]]
        if verdict in KEPT:
            kept.append(pair)
        elif verdict == CONNECTION and pair[1] not in (b"keep-alive", b"close"):
            named = named_by_connection(raw)
            return [pair for pair in raw if judge[pair[0]] in KEPT and pair[0].lower() not in named]
    return kept


def lines(raw: RawHeaders, judge: Judged[int], length: bytes) -> tuple[list[bytes], bytes]:
    """What crosses, as lines, and `length` (b"": none), unless it has been said in the place of a Content-Length."""
    out = []
    unsaid = length
    for pair in raw:
        verdict = judge[pair[0]]
        if verdict == KEEP:
            out.append(b": ".join(pair))
        elif verdict == LENGTH:
            if unsaid:
                out.append(b": ".join((pair[0], unsaid)))
                unsaid = b""
        elif verdict == CONNECTION and pair[1] not in (b"keep-alive", b"close"):
            return lines(tuple(end_to_end(raw, judge)), judge, length)
    return out, unsaid
