"""What is left, in OpenAI's headers: of each resource the limit that is nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from proxy.api import Bounds, Claimed, Headers, Resource, Response

NAMES: Mapping[Resource, tuple[bytes, bytes, bytes]] = {
    resource: (
        b"x-ratelimit-limit-%b" % resource.encode(),
        b"x-ratelimit-remaining-%b" % resource.encode(),
        b"x-ratelimit-reset-%b" % resource.encode(),
    )
    for resource in ("requests", "images", "tokens")
}
PREFIX = b"x-ratelimit-"
Told = Sequence[tuple[bytes, bytes]]


def told(bounds: Bounds, claimed: Claimed, wall: float) -> Told:
    """`x-ratelimit-*` for requests, images and tokens, as far as there are limits."""
    found: list[tuple[bytes, bytes]] = []
    for resource, places in bounds.places.items():
        if resource not in NAMES:
            continue
        at, left = places[0], max(0, bounds.lines[places[0]].ceiling - claimed.levels[places[0]])
        for other in places[1:]:
            nearer = max(0, bounds.lines[other].ceiling - claimed.levels[other])
            if nearer < left:
                at, left = other, nearer
        reset = claimed.resets[at]
        if reset < 0:  # a calendar's: the store does not know when its period ends
            reset = max(0, int((bounds.all[at].until - wall) * 1000))
        limit, remaining, resets = NAMES[resource]
        found += ((limit, b"%d" % bounds.lines[at].ceiling), (remaining, b"%d" % left), (resets, _reset(reset)))
    return found


def in_text(left: Told) -> dict[str, str]:
    """The same for an error of ours."""
    return {name.decode(): value.decode() for name, value in left}


def marked(response: Response, left: Told) -> Response:
    """The answer with these headers in the place of an upstream's own. A socket's head is the handshake's."""
    if not left or response.socket is not None:
        return response
    raw = response.headers.raw
    for name, _ in raw:
        if len(name) > len(PREFIX) and name[: len(PREFIX)].lower() == PREFIX:
            ours = {name for name, _ in left}
            raw = tuple([pair for pair in raw if pair[0].lower() not in ours])
            break
    return Response(
        response.status,
        Headers((*raw, *left)),
        response.body,
        response.facts,
        response.socket,
        response.reason,
        response.attempt,
        response.reading,
    )


def lasting(milliseconds: int) -> str:
    """A time as OpenAI writes it: 120ms, 1s, 8.64s, 6m0s, 1h0m0s."""
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds > 0 else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


@lru_cache(256)  # all that were answered in one step of the store are told the same
def _reset(milliseconds: int) -> bytes:
    return lasting(milliseconds).encode()
