"""Both ends of a WebSocket: an upstream that speaks it, and a client that is connected."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web

from proxy.testkit import Served

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SHAKE = (
    b"GET /v1/realtime HTTP/1.1\r\nHost: me\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@asynccontextmanager
async def upstream(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """aiohttp's own server as the upstream; its base URL."""
    server = web.Server(handler)
    runner = web.ServerRunner(server, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(served: Served, **options: object) -> AsyncIterator[ClientWebSocketResponse]:
    """A client's end."""
    async with ClientSession() as session:
        url = f"ws://127.0.0.1:{served.port}/v1/realtime?model=x%2Fy"
        async with session.ws_connect(url, autoping=False, autoclose=False, max_msg_size=0, **options) as client:
            yield client


def offered(request: web.Request) -> list[str]:
    """The subprotocols that a handshake offers."""
    return [name.strip() for name in request.headers["Sec-WebSocket-Protocol"].split(",")]


async def echo(request: web.Request) -> web.WebSocketResponse:
    """An upstream that says everything again."""
    end = web.WebSocketResponse(autoping=False, max_msg_size=0)
    await end.prepare(request)
    async for message in end:
        if message.type is WSMsgType.TEXT:
            await end.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await end.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await end.pong(b"to-" + message.data)
        elif message.type is WSMsgType.PONG:
            await end.ping(b"re-" + message.data)
    return end
