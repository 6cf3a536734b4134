"""`GET /files/NAME.ext/link`: a picture's link made anew, for its owner alone, so that a stored one need not die."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import orjson

from ..model.body import Bytes
from ..model.errors import Rejected
from ..model.images import Stored
from ..model.message import Headers, Request, Response
from ..model.services import Callers

END = "/link"  # behind the name


class SignedAnew(Protocol):
    """The picture of that name with a link, and when that ends, if it does; None for who does not own it."""

    def __call__(self, name: str, *, owner: str | None) -> Awaitable[tuple[Stored, float | None] | None]: ...


class Renewal:
    """Tells an owner the link. For everybody else there is no such picture, whether there is one or not."""

    def __init__(self, callers: Callers, signed_anew: SignedAnew) -> None:
        self._callers = callers
        self._signed_anew = signed_anew

    async def __call__(self, request: Request, name: str) -> Response | None:
        """The link, or None."""
        owner = await self._caller(request.headers)
        # Looked for whoever asks, so that time tells no more than the answer does.
        found = await self._signed_anew(name, owner=owner)
        if found is None:
            return None
        stored, ends = found
        told = orjson.dumps({"url": stored.url, "expires_at": None if ends is None else int(ends)})
        headers = Headers.of(
            content_type="application/json", content_length=str(len(told)), cache_control="private, no-store"
        )
        return Response(200, headers, Bytes(told), reason=b"OK")

    async def _caller(self, headers: Headers) -> str | None:
        """The id of who asks, by their key, wherever keys may stand; None where it is nobody's."""
        found = {*headers.getall("x-api-key"), *headers.getall("api-key")}
        for value in headers.getall("Authorization"):
            scheme, _, token = value.partition(" ")
            found.add(token.strip() if scheme.lower() == "bearer" else value)
        found.discard("")
        if len(found) != 1:
            return None
        try:
            return (await self._callers.find(found.pop())).id
        except Rejected:
            return None
