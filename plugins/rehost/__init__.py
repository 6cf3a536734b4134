"""Rehost: keeps the pictures of answers, and puts stable URLs where the base64 was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from proxy.api import (
    CALLER,
    CHANGED,
    Ahead,
    Exchange,
    Forward,
    Plugin,
    Reading,
    Rehosting,
    Request,
    Response,
    Services,
    operation,
)

from .asking import may_speak_of_pictures, told, wanted
from .cutting import Cutting
from .returning import restored

AHEAD = 2**16  # bytes that may stand before the first picture and wait for it; behind more the head goes


class Rehost(Plugin):
    """Keeps the pictures of answers, and puts stable URLs where the base64 was; every other byte stays."""

    mode: Rehosting = "on-request"  # which is asked with response_format = "url"; a key's own word comes first
    urls: bool = False  # pictures that providers give as URLs of their own, too
    partials: bool = False  # partial pictures of streams, too
    keep_b64: bool = False  # beside the URL
    dalle_compat: bool = False  # old parameters are put in today's words, and without any a URL is wanted
    on_error: Literal["keep", "refuse"] = "keep"  # a picture that can't be kept: its base64, or an error

    inside = ("keys", "idempotency", "quota", "moderation", "cache")
    reads = frozenset(("images",))

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Keep the store of pictures at hand."""
        self.services = services
        yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        """Put in upstream's words what was asked of us, and URLs in the place of pictures."""
        caller = exchange.get(CALLER)
        mode = (caller.rehost if caller is not None else None) or self.mode
        if mode == "never":
            return await forward(request)
        always = mode == "always"
        if request.method == "POST" and (self.dalle_compat or may_speak_of_pictures(request)):
            asked = await operation(request, prefix=exchange.prefix)
            request, kept = await restored(request, asked, self.services.images, told(caller))
            for body in kept:
                exchange.on_finish(lambda outcome, body=body: body.aclose())  # type: ignore[misc]
            request, asks, changes = await wanted(request, asked, compat=self.dalle_compat)
            always = always or asks
            if changes:
                exchange[CHANGED] = (*exchange.get(CHANGED, ()), *changes)
        if not always:
            return await forward(request)
        response = await forward(request)
        reading = response.reading
        if reading is None or not 200 <= response.status < 300 or reading.broken is not None:
            return response  # an error, a socket, or what holds no picture that could be seen
        return await self._kept(exchange, response, reading)

    async def _kept(self, exchange: Exchange, response: Response, reading: Reading) -> Response:
        stream = (response.headers.get("Content-Type") or "").lower().startswith("text/event-stream")
        owner = told(exchange.get(CALLER))
        upstream = response.attempt.upstream if response.attempt is not None else None
        cutting = Cutting(self, reading, owner=owner, request=exchange.id, stream=stream, upstream=upstream)
        # Where the flow is the next that the answer's bytes come to, it can do without some of them.
        body: object = response.body
        straight = body is reading and response.body.coding is None
        reading.images(cutting, cutting if straight else None)
        changed = response.through(cutting.flow)
        if stream:
            return changed  # whoever streams wants to see what comes, not to wait for the last of it
        ahead = Ahead(changed.body)
        size = 0
        try:
            while not cutting.decided and size < AHEAD and (more := await ahead.pull()):
                size += more
        except BaseException:
            await ahead.aclose()
            raise
        if cutting.failed is not None:
            changed = changed.with_headers(x_framegate_warning=cutting.failed.code)
        return changed.but(body=ahead)
