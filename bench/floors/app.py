"""The floor `app`: what one writes first, an aiohttp application that reads each body whole."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

PORT, UPSTREAM = int(sys.argv[1]), int(sys.argv[2])
SESSION = web.AppKey("SESSION", aiohttp.ClientSession)
OURS = ("host", "connection", "transfer-encoding", "content-length", "content-encoding")


async def session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession() as app[SESSION]:
        yield


async def handle(request: web.Request) -> web.Response:
    body = await request.read()
    headers = {name: value for name, value in request.headers.items() if name.lower() not in OURS}
    url = f"http://127.0.0.1:{UPSTREAM}{request.path_qs}"
    async with request.app[SESSION].request(request.method, url, headers=headers, data=body) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in OURS}
        return web.Response(status=answer.status, headers=kept, body=await answer.read())


if __name__ == "__main__":
    app = web.Application(client_max_size=2**30)
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", handle)
    web.run_app(app, host="127.0.0.1", port=PORT, access_log=None, print=None)
