"""The public side: requests come in as values, answers go out as bytes, and whoever leaves is noticed."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

from ..core.engine import Engine
from ..core.render import render
from ..model.body import EMPTY, Body, Bytes, Pour
from ..model.errors import BodyConsumed, BodyTooLarge, ClientLeft, ProxyError, Rejected
from ..model.exchange import Client, Exchange, Outcome
from ..model.file import FileBody
from ..model.message import Headers, Request, Response
from . import websocket
from .headers import LONGEST, OUTWARD_FILTER, end_to_end, lines, one_chunk
from .internals import (
    CLOSED,
    EMPTY_PAYLOAD,
    INF,
    KEPT,
    Connection,
    Incoming,
    Listener,
    Sent,
    Upgrade,
    whole,
)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TOGETHER = 2**14  # a body up to this size is written in one piece with its head
SENT = 2**21  # bytes of a file that the kernel is given at a time
SLOWEST = 600.0  # seconds that a client may take for these
VERSIONS = ((1, 1), (1, 0))
BODILESS = frozenset((204, 304))
# Refused before there was a route: read differently by others, for a tunnel whose bytes may follow, or while we stop.
DOUBTED = frozenset((400, 405, 503))


class Gone(ConnectionResetError):
    """There is nobody to write to any more."""


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
        if complaint := _complaint(message):
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
        extra = [(name.decode(), value.decode()) for name, value in self._engine.marks(exchange, response)]
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


class Delivery:
    """One answer on its way to the client, and what became of it."""

    __slots__ = (
        "_connection",
        "_exchange",
        "_transport",
        "_until_close",
        "complete",
        "delivered",
        "keep",
        "response",
        "status",
    )

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._exchange = exchange
        self.status = 0
        self.delivered = 0
        self.complete = False
        self.keep = False  # the connection lives on
        self._until_close = False  # the answer's end is the connection's
        self.response: Response | None = None

    async def write(
        self, response: Response, marks: list[tuple[bytes, bytes]], *, method: str, http11: bool, keep: bool
    ) -> None:
        """Write the answer. Raises what ended it early; a connection must not live on after that."""
        body = response.body
        data = body.now()
        bodiless = method == "HEAD" or response.status in BODILESS or response.status < 200
        length = len(data) if data is not None and not http11 else body.length
        chunked = not bodiless and length is None
        out = self._head(response, marks, bodiless=bodiless, length=length)
        if chunked and http11:
            out.append(b"Transfer-Encoding: chunked")
        elif chunked:
            chunked = keep = False  # HTTP/1.0 has no chunks: the end of the connection is the end of the body
            self._until_close = True
        if not keep:
            out.append(b"Connection: close")
        elif not http11:
            out.append(b"Connection: keep-alive")
        out += (b"", b"")
        head = b"\r\n".join(out)
        self.status = response.status
        if bodiless:
            self._put(head)
            await body.aclose()
        elif data is not None:
            framed = one_chunk(data) if chunked else data
            if len(data) <= TOGETHER:
                self._put(head + framed)
            else:
                self._put(head)
                self._put(framed)
            self.delivered = len(data)
            if self._connection.writing_paused:
                await self._taken()
        else:
            self._put(head)
            await self._stream(body, chunked=chunked)
        self.complete = not self._exchange.left
        self.keep = keep and self.complete

    def _head(
        self, response: Response, marks: list[tuple[bytes, bytes]], *, bodiless: bool, length: int | None
    ) -> list[bytes]:
        """Status line and headers in pieces. Framing is worked out here, whatever a plugin left in them."""
        start = b"HTTP/1.1 %d %b" % (response.status, response.reason)
        raw = response.headers.raw
        if bodiless and response.status != 204:
            out = [b": ".join(pair) for pair in end_to_end(raw, OUTWARD_FILTER)]  # the length that GET would have had
        else:
            out, unsaid = lines(raw, OUTWARD_FILTER, b"" if length is None or bodiless else b"%d" % length)
            if unsaid:
                out.append(b"Content-Length: " + unsaid)
        return [start, *out, *[b": ".join(mark) for mark in marks]]

    async def _stream(self, body: Body, *, chunked: bool) -> None:
        if (pour := getattr(body, "pour", None)) is not None:
            await self._splice(pour, chunked=chunked)
        elif type(body) is FileBody:
            await self._send(body)
        else:
            await self._iterate(body, chunked=chunked)
        if chunked:
            self._put(b"0\r\n\r\n")
        await self._taken()

    async def _splice(self, pour: Pour, *, chunked: bool) -> None:
        """From socket to socket: no layer changes this answer, so no task wakes for its bytes."""
        transport, connection, exchange = self._transport, self._connection, self._exchange

        def put(piece: bytes) -> bool:
            if transport is None or transport.is_closing():
                exchange.left = exchange.left or exchange.keeps_going
                return exchange.keeps_going  # work that keeps going is drained into nothing
            self.delivered += len(piece)
            transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            return not connection.writing_paused

        async def drained() -> None:
            await self._taken()
            if (transport is None or transport.is_closing()) and not exchange.keeps_going:
                raise self._gone()

        await pour(put, drained)

    async def _send(self, body: FileBody) -> None:
        """From file to socket; while the kernel sends nobody reads, so nobody else notices a client that leaves."""
        try:
            try:
                await self._send_by_kernel(body)
            except (RuntimeError, NotImplementedError):  # what asyncio and uvloop say where it can't be: TLS, uvloop
                async for piece in body.rest(self.delivered):
                    self._put(piece)
                    self.delivered += len(piece)
                    await self._taken()
        except (ConnectionError, TimeoutError) as error:
            raise self._gone() from error
        await body.aclose()

    async def _send_by_kernel(self, body: FileBody) -> None:
        transport, loop = self._transport, asyncio.get_running_loop()
        while (at := self.delivered) < body.length:
            if transport is None or transport.is_closing():
                raise self._gone()
            async with asyncio.timeout(SLOWEST):
                self.delivered += await loop.sendfile(
                    transport, body.file, body.offset + at, min(SENT, body.length - at), fallback=False
                )

    async def _iterate(self, body: Body, *, chunked: bool) -> None:
        declared = body.length
        size = 0
        async for piece in body:
            if not piece:
                continue  # an empty chunk would be the end
            size += len(piece)
            if declared is not None and size > declared:
                raise ProxyError("The answer went on after its end.")
            self._put(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if not self._exchange.left:
                self.delivered += len(piece)
            if self._connection.writing_paused:
                await self._taken()
        if declared is not None and size != declared:
            raise ProxyError("The answer ended too early.")

    def _put(self, data: bytes) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)
        elif not self._exchange.keeps_going:
            raise self._gone()
        else:
            self._exchange.left = True

    def _gone(self) -> Gone:
        """The client has left, which the connection itself may have still to tell."""
        self._exchange.left = True
        return Gone("the client left, or took nothing for too long")

    async def _taken(self) -> None:
        """Wait until the client has taken enough; work that keeps going is not held up by one that breaks away."""
        try:
            await self._connection.drained()
        except ConnectionError as error:
            gone = self._gone()
            if not self._exchange.keeps_going:
                raise gone from error

    def count(self, size: int) -> None:
        """So many more bytes have gone to the client."""
        self.delivered += size

    def break_off(self) -> None:
        """A truncated answer must look truncated: no clean end, no fake [DONE]."""
        if self._transport is None:
            return
        if self._until_close and not self._transport.is_closing():
            # Here a FIN would be the clean end, and only a RST is none (RFC 9112 §8).
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def outcome(self) -> Outcome:
        """How it ended."""
        exchange = self._exchange
        return Outcome(
            status=self.status,
            delivered=self.delivered,
            complete=self.complete,
            left=exchange.left or (not self.complete and self._connection.transport is None and exchange.error is None),
            response=self.response,
            attempts=exchange.attempts,
            error=exchange.error,
            seconds=perf_counter() - exchange.began,
        )

    async def aclose(self) -> None:
        """Let go of both bodies."""
        if self.response is not None and not self.complete:
            await self.response.aclose()
        if (body := self._exchange.received.body).kept:
            await body.aclose()


def _complaint(message: Any) -> str | None:
    """Why a request can't be believed that the parser let pass; None when it can."""
    if message.version not in VERSIONS:
        return "it is neither HTTP/1.1 nor HTTP/1.0"
    headers = message.headers
    if "Transfer-Encoding" in headers and (
        message.version != (1, 1) or [name.lower() for name in headers.getall("Transfer-Encoding")] != ["chunked"]
    ):
        # RFC 9112 §6.1: another server reads another body.
        return "its transfer coding is not chunked alone, in HTTP/1.1"
    if len(headers.get("Content-Length", "")) > LONGEST:
        return "its length is not one that a body can have"
    return None


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
