"""An answer on its way to the client: framed, spliced, pulled or sent by the kernel, and what became of it."""

from __future__ import annotations

import asyncio
import socket
import struct
from time import perf_counter

from ..model.body import Body, Pour
from ..model.errors import ProxyError
from ..model.exchange import Exchange, Outcome
from ..model.file import FileBody
from ..model.message import Response
from .chunks import LAST, one_chunk, write_chunk
from .headers import OUTWARD_FILTER, end_to_end, lines
from .internals_server import Connection

TOGETHER = 2**14  # a body up to this size is written in one piece with its head
SENT = 2**21  # bytes of a file that the kernel is given at a time
SLOWEST = 600.0  # seconds that a client may take for these
BODILESS = frozenset((204, 304))


class Gone(ConnectionResetError):
    """There is nobody to write to any more."""


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

    async def write(self, response: Response, marks: list[bytes], *, method: str, http11: bool, keep: bool) -> None:
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

    def _head(self, response: Response, marks: list[bytes], *, bodiless: bool, length: int | None) -> list[bytes]:
        """Status line and headers in pieces. Framing is worked out here, whatever a plugin left in them."""
        start = b"HTTP/1.1 %d %b" % (response.status, response.reason)
        raw = response.headers.raw
        if bodiless and response.status != 204:
            out = [b": ".join(pair) for pair in end_to_end(raw, OUTWARD_FILTER)]  # the length that GET would have had
        else:
            out, unsaid = lines(raw, OUTWARD_FILTER, b"" if length is None or bodiless else b"%d" % length)
            if unsaid:
                out.append(b"Content-Length: " + unsaid)
        return [start, *out, *marks]

    async def _stream(self, body: Body, *, chunked: bool) -> None:
        if (pour := getattr(body, "pour", None)) is not None:
            await self._splice(pour, chunked=chunked)
        elif type(body) is FileBody:
            await self._send(body)
        else:
            await self._iterate(body, chunked=chunked)
        if chunked:
            self._put(LAST)
        await self._taken()

    async def _splice(self, pour: Pour, *, chunked: bool) -> None:
        """From socket to socket: no layer changes this answer, so no task wakes for its bytes."""
        transport, connection, exchange = self._transport, self._connection, self._exchange

        def put(piece: bytes) -> bool:
            if transport is None or transport.is_closing():
                exchange.left = exchange.left or exchange.keeps_going
                return exchange.keeps_going  # work that keeps going is drained into nothing
            self.delivered += len(piece)
            if chunked:
                write_chunk(transport, piece)
            else:
                transport.write(piece)
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
            self._put(piece, chunked=chunked)
            if not self._exchange.left:
                self.delivered += len(piece)
            if self._connection.writing_paused:
                await self._taken()
        if declared is not None and size != declared:
            raise ProxyError("The answer ended too early.")

    def _put(self, data: bytes, *, chunked: bool = False) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if chunked:
                write_chunk(transport, data)
            else:
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
