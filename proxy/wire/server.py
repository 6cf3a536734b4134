"""The public side: requests come in as values, answers go out as bytes, and whoever leaves is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ..core.engine import Engine
from ..core.render import render
from ..model.body import EMPTY, Body, Bytes
from ..model.errors import BodyConsumed, BodyTooLarge, ClientLeft, ProxyError, Rejected
from ..model.exchange import Client, Exchange
from ..model.message import Headers, Request, Response
from . import websocket
from .delivery import Delivery, Gone
from .framing import of_request
from .internals import EMPTY_PAYLOAD, whole
from .internals_request import CLOSED, KEPT, Incoming, Sent, Upgrade
from .internals_server import INF, Connection, Listener

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Refused before there was a route: read differently by others, for a tunnel whose bytes may follow, or while we stop.
DOUBTED = frozenset((400, 405, 503))


class ClientBody(Body):
    """The client's body, pulled as it is read; `100 Continue` goes out with the first pull (RFC 9110 §10.1.1)."""

    __slots__ = ("_connection", "_expects", "_limit", "_read", "_stream", "_whole", "length")

    def __init__(self, connection: Connection, length: int | None, *, expects: bool) -> None:
        self._connection = connection
        self._stream = connection.payload
        self._expects = expects
        self._limit: float = INF
        self._whole: bytes | None = None
        self._read = False
        self.length = length

    def allow(self, limit: int) -> None:
        """Refuse a longer one: at once when its length is declared, else when it has come that far."""
        super().allow(limit)
        self._limit = limit

    def now(self) -> bytes | None:
        """All of it, when it has come before anybody read."""
        if self._whole is None and not self._read:
            data = whole(self._stream)
            if data is not None and len(data) > self._limit:
                raise BodyTooLarge(int(self._limit))
            self._whole = data
        return self._whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body in the pieces in which it comes; raises Rejected, RequestTimeout or ClientLeft where it breaks."""
        data = self.now()
        if data is not None:
            if data:
                yield data
            return
        if self._read:
            if self.kept is None or not self.kept.begun:
                raise BodyConsumed
            async for piece in self.kept:  # which began to read: what it holds is this body
                yield piece
            return
        self._read = True
        if self._expects and self._connection.transport is not None:
            self._connection.transport.write(CONTINUE)
        size = 0
        while piece := await self._next():
            size += len(piece)
            if size > self._limit:
                raise BodyTooLarge(int(self._limit))
            yield piece

    async def _next(self) -> bytes:
        """What has come, or what comes next; the client's clock runs while we wait."""
        connection, stream = self._connection, self._stream
        try:
            piece = stream.read_nowait()
            if piece or stream.is_eof():
                return piece
            connection.asked_since = connection.now()
            return await stream.readany()
        except ProxyError:
            raise
        except Exception as exc:  # aiohttp's own: a broken body, or a connection that went
            if connection.transport is None:
                raise ClientLeft("The client left before its request was complete.") from exc
            raise Rejected("The body is broken: it can't be read.") from exc
        finally:
            connection.asked_since = INF


class Edge:
    """Takes requests from the listener, has the engine answer them, and writes the answers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.listener = Listener(self._handle, self._refuse)

    async def _handle(self, incoming: Incoming | Upgrade) -> Sent | object:
        message, connection = incoming.message, incoming.connection
        if complaint := of_request(message):
            self._refuse(connection, Rejected(f"The request can't be read: {complaint}."))
            return CLOSED
        http11 = message.version == (1, 1)
        body = _body(incoming)
        request = Request(message.method, message.path, Headers(message.raw_headers, message.headers), body)
        client = connection.client
        if client is None or client.http != message.version:
            client = connection.client = Client(_address(connection), (1, 1) if http11 else (1, 0))
        exchange = self._engine.open(request, client)
        incoming.exchange = exchange
        exchange.cancel = incoming.task.cancel
        delivery = Delivery(connection, exchange)
        try:
            response = delivery.response = await self._engine.ask(exchange)
            if response.socket is not None:
                if not isinstance(incoming, Upgrade):
                    raise ProxyError("A socket for a client that has asked for none.")
                return await self._socket(incoming, exchange, response, delivery)
            # An upgrade that is not granted ends the connection: aiohttp loses what was sent behind such a request.
            keep = not message.should_close and not message.upgrade and incoming.payload.is_eof()
            if exchange.lane is None and response.status in DOUBTED:
                keep = False
            if message.chunked and connection.stained:
                keep = False
            await delivery.write(
                response, self._engine.marks(exchange, response), method=request.method, http11=http11, keep=keep
            )
            if delivery.keep:
                return KEPT
            connection.end_writing()
            return CLOSED
        except asyncio.CancelledError:
            delivery.break_off()
            raise
        except Gone:  # as good as a cancellation: it is nobody's error
            delivery.break_off()
            return CLOSED
        except Exception as error:
            # Nothing gets out to aiohttp: it would answer a second time, in its own words.
            exchange.error = exchange.error or error
            if not isinstance(error, ProxyError | ConnectionError):
                self._engine.log.error("delivery_crashed", id=exchange.id, exc_info=error)
            delivery.break_off()
            return CLOSED
        finally:
            exchange.cancel = None  # the work is over: what is let go of below is let go of whole
            try:
                if not delivery.complete or request.body.kept is not None:
                    await delivery.aclose()
            finally:
                self._engine.finish(exchange, delivery.outcome)

    async def _socket(
        self, upgrade: Upgrade, exchange: Exchange, response: Response, delivery: Delivery
    ) -> Sent | object:
        marks = self._engine.marks(exchange, response)
        extra = [(name, value) for name, _, value in (mark.decode().partition(": ") for mark in marks)]
        try:
            delivery.status = 101
            await websocket.serve(upgrade, response, extra, delivery.count)
            delivery.complete = True
        except Rejected as error:
            refusal = render(error, exchange.id)
            await delivery.write(refusal, [], method="GET", http11=True, keep=False)
        return CLOSED

    def _refuse(self, connection: Connection, error: ProxyError) -> None:
        """Answer what never became an exchange, and close."""
        transport = connection.transport
        client = _address(connection)
        if isinstance(error, Rejected):
            self._engine.log.warning("request_unreadable", client=client, status=error.status, why=error.message)
        else:
            self._engine.log.error("request_crashed", client=client, exc_info=error.__cause__)
        if transport is None or transport.is_closing():
            return
        response = render(error, "unread")
        start = b"HTTP/1.1 %d %b\r\n" % (response.status, response.reason)
        lines = [b"%b: %b\r\n" % pair for pair in response.headers.raw]
        transport.write(b"".join([start, *lines, b"Connection: close\r\n\r\n", response.body.now() or b""]))
        connection.end_writing()

    def sweep(self, *, header: float, body: float, stall: float) -> None:
        """Run the clocks of clients and of exchanges; times in seconds."""
        self.listener.sweep(header=header, body=body, stall=stall)
        self._engine.sweep()


def _body(incoming: Incoming | Upgrade) -> Body:
    if incoming.data is not None:
        return Bytes(incoming.data)
    if incoming.payload is EMPTY_PAYLOAD:
        return EMPTY
    message = incoming.message
    length = None if message.chunked else int(message.headers.get("Content-Length", 0))
    expects = message.version == (1, 1) and message.headers.get("Expect", "").lower() == "100-continue"
    return ClientBody(incoming.connection, length, expects=expects)


def _address(connection: Connection) -> str:
    peer = connection.peername
    return peer[0] if isinstance(peer, tuple) and peer else "unix"
