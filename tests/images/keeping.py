"""A plugin as one might write it: what comes in is kept, and its URL goes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote_to_bytes

import orjson

from proxy.api import Bytes, Exchange, Forward, Headers, ImageStore, Plugin, Request, Response, Services


class Keeping(Plugin):
    """Keeps each request's body as a picture of the caller's that X-Owner names; a GET gets its query as a page."""

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        self._images: ImageStore = services.images
        yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        if request.method == "GET":
            page = unquote_to_bytes(request.target.partition("?")[2])
            return Response(200, Headers.of(content_type="text/html", content_length=str(len(page))), Bytes(page))
        async with self._images.spool(owner=request.headers.get("X-Owner"), request=exchange.id) as spool:
            async for piece in request.body:
                spool.write(piece)
                await spool.drained()
            stored = await spool.commit(ttl=float(request.headers.get("X-TTL", "0")) or None)
        told = orjson.dumps({"name": stored.name, "path": stored.path, "url": stored.url, "sha256": stored.sha256})
        return Response(200, Headers.of(content_type="application/json", content_length=str(len(told))), Bytes(told))
