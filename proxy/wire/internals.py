"""All use of aiohttp's internals, in one place; the rest of the wire sees only what this module names.

Written against and tested with aiohttp 3.14.5. What is leaned on: the C request and response parsers
and their messages, `StreamReader` and the four things it asks of its protocol, `RequestHandler` (its task per
connection, pipelining, lingering, keep-alive, 400s) and the `request_factory` of `web.Server`.
Versions before 3.14 accept two Host headers and none at all, so none of them will do.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Protocol

import aiohttp
from aiohttp import BaseConnector, web
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpRequestParser, HttpResponseParser
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler, RequestPayloadError, _ErrInfo
from aiohttp.web_request import BaseRequest

from ..model.errors import ClientLeft, ProxyError, Rejected, RequestTimeout
from ..model.exchange import Client, Exchange

__all__ = [
    "CLOSED",
    "EMPTY_PAYLOAD",
    "KEPT",
    "Connection",
    "Dialler",
    "Incoming",
    "Listener",
    "StreamReader",
    "Upgrade",
    "whole",
]

TESTED = ((3, 14, 3), (3, 15, 0))
LIMIT = 2**16  # bytes that a stream reader holds before it pauses its socket (twice this at the most)
MAX_FIELD = 16380  # bytes of one header
EMPTY_LINE = b"\r\n\r\n"
INF = float("inf")


def check() -> None:
    """Raise RuntimeError, in words, where this aiohttp is not one that the wire was tested with."""
    version = tuple(int(part) for part in aiohttp.__version__.split(".")[:3] if part.isdigit())
    if not TESTED[0] <= version < TESTED[1]:
        raise RuntimeError(f"framegate's wire needs aiohttp>=3.14.3,<3.15; this is {aiohttp.__version__}")
    if "_http_parser" not in HttpResponseParser.__module__:
        raise RuntimeError("framegate's wire needs aiohttp's C parser; this installation has the pure Python one")


def quiet() -> None:
    """Silence aiohttp's own loggers: by default they write a malformed request's raw bytes, key and all."""
    for name in ("aiohttp.server", "aiohttp.web", "aiohttp.websocket", "aiohttp.access", "aiohttp.internal"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers = [logging.NullHandler()]


class BrokenBody(Exception):
    """The parser could not read a body."""


def response_parser(protocol: Any, loop: asyncio.AbstractEventLoop, *, with_body: bool) -> HttpResponseParser:
    """A parser for the answers on one connection; `with_body=False` for the answer to HEAD."""
    return HttpResponseParser(
        protocol,
        loop,
        LIMIT,
        max_line_size=8190,
        max_field_size=MAX_FIELD,
        payload_exception=BrokenBody,
        response_with_body=with_body,
        read_until_eof=True,
        auto_decompress=False,
    )


def whole(stream: StreamReader) -> bytes | None:
    """All that a stream holds, once it has come to its end; None before that, and where it broke."""
    if not stream._eof or stream._exception is not None:
        return None
    buffer = stream._buffer
    if len(buffer) == 1 and not stream._buffer_offset and not stream._protocol._reading_paused:
        stream._size = 0
        return buffer.popleft()  # what read_nowait does, at a tenth of its cost
    return stream.read_nowait()


class Incoming:
    """A request as the server hands it over: the message, its body or the stream of it, the connection.

    RequestHandler asks three things of a request: `_task`, `_cancel(exc)` when the client has gone, `_finish()`.
    """

    __slots__ = ("_task", "connection", "data", "exchange", "message", "payload", "task")

    def __init__(
        self, message: Any, payload: StreamReader, connection: Connection, task: Any, data: bytes | None = None
    ) -> None:
        self.message = message
        self.payload = payload
        self.data = data  # the body, where it was here with the head; the payload is empty then
        self.connection = connection
        self.exchange: Exchange | None = None
        self.task = self._task = task

    def _cancel(self, exc: BaseException) -> None:
        if self.payload is not EMPTY_PAYLOAD:
            self.payload.set_exception(ClientLeft("The client left before its request was complete."))
        if self.exchange is not None:
            self.exchange.leave()

    def _finish(self) -> None:
        pass


class Upgrade(BaseRequest):
    """A request that asks for a WebSocket: aiohttp's own, since WebSocketResponse needs a real one."""

    ATTRS = BaseRequest.ATTRS | frozenset(("connection", "data", "exchange", "payload"))

    def __init__(self, message: Any, payload: StreamReader, connection: Connection, writer: Any, task: Any) -> None:
        super().__init__(message, payload, connection, writer, task, asyncio.get_running_loop())
        self.payload = payload
        self.data: bytes | None = None
        self.connection = connection
        self.exchange: Exchange | None = None

    @property
    def message(self) -> Any:
        """The message, as Incoming has it; aiohttp's own property of that name warns that it is going."""
        return self._message

    def _cancel(self, exc: BaseException) -> None:
        super()._cancel(exc)
        if self.exchange is not None:
            self.exchange.leave()


class Sent:
    """A response that has been written: RequestHandler asks `prepare`, `write_eof` and `keep_alive` of one."""

    __slots__ = ("keep_alive",)
    status = 200
    body_length = 0

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: object) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self) -> None:
        """Nothing is left to write."""


KEPT, CLOSED = Sent(True), Sent(False)
Handler = Callable[[Incoming | Upgrade], Awaitable[Any]]
Refuse = Callable[["Connection", ProxyError], None]


class Connection(RequestHandler):
    """aiohttp's server protocol with what it lacks: timers for the head and the body, one answer to a broken body."""

    __slots__ = (
        "_end",
        "_heard",
        "_listener",
        "_open",
        "_poll",
        "_progress",
        "asked_since",
        "client",
        "head_since",
        "payload",
        "stained",
        "stalled_since",
    )

    def __init__(self, listener: Listener, **kw: Any) -> None:
        super().__init__(listener, **kw)
        self._listener = listener
        self.head_since = INF  # when the head that is coming began
        self.asked_since = INF  # since when somebody waits for bytes of the body
        self.stalled_since = INF  # since when the client has taken none of the answer
        self.client: Client | None = None  # who is at its other end, once they have asked something
        self.payload: StreamReader = EMPTY_PAYLOAD  # the body handed over last
        self.stained = False  # headers of the request that comes next may be trailers of the last
        self._open: StreamReader | None = None  # a chunked body that is still coming
        self._end = b""  # the last four bytes that came with it
        self._heard = False
        self._progress = 0
        self._poll: select.poll | None = None

    def now(self) -> float:
        """The loop's time, in seconds; the clocks of connections run on it."""
        return self._loop.time()

    @property
    def waiting(self) -> bool:
        """Whether the connection is between two requests."""
        return self._waiter is not None and not self._waiter.done()

    async def start(self) -> None:
        """Serve one request after the other, in the connection's own task.

        aiohttp takes a task, a writer and four further frames for each, a fifth of what a small request costs. What is
        no plain request (broken, or an upgrade) is left to it, and so is all that follows.
        """
        loop, handler = self._loop, self._request_handler
        task = asyncio.current_task(loop)
        before = copy_context()
        while not self._force_close:
            if not self._messages:
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, payload = self._messages[0]
            if isinstance(message, _ErrInfo) or message.upgrade:
                return await super().start()
            self._messages.popleft()
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            data = None
            if payload is not EMPTY_PAYLOAD and not message.chunked and (data := whole(payload)) is not None:
                payload = EMPTY_PAYLOAD  # a stream is as large as all the rest of a small request
            self.payload = payload
            self._current_request = incoming = Incoming(message, payload, self, task, data)  # type: ignore[assignment]
            self._request_in_progress = True
            try:
                sent = await handler(incoming)  # type: ignore[misc,arg-type]
            except Exception as error:  # a fault of ours, before there was an exchange
                sent = self.handle_error(incoming, exc=error)
            except BaseException:
                self.force_close()
                raise
            finally:
                self._current_request = None
                self._request_in_progress = False
                if self._handler_waiter is not None:
                    self._handler_waiter.set_result(None)
            if not payload.is_eof():
                await self._linger(payload)
            if not sent.keep_alive or self._close or self._force_close:
                break
            self._next_keepalive_close_time = close_time = loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = loop.call_at(close_time, self._process_keepalive)
            self._keepalive = True
            if copy_context() != before:  # what a plugin has set there is not for the next request to see
                self._task_handler = loop.create_task(self.start(), context=before)
                return
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _linger(self, payload: StreamReader) -> None:
        """Read off what the client still sends: hanging up on it might cost it the answer (RFC 9112 §9.6)."""
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof() and not self._force_close:
                    await payload.readany()
        except Exception:  # too late, or the body broke: nobody wants the rest
            pass
        if not payload.is_eof():
            self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock of the first head: a client that says nothing holds nothing for long."""
        super().connection_made(transport)
        self.head_since = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """Parse, and notice when a head begins, when it is whole, and when a body is broken."""
        while self._open is not None:  # its end is an empty line: what stands behind that is another parser's
            known = self._end[-3:]
            cut = (known + data).find(EMPTY_LINE) + len(EMPTY_LINE) - len(known)
            if not 0 < cut < len(data):
                break
            self._parse(data[:cut])
            data = data[cut:]
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self.head_since = INF
            if self._messages:
                self._take(self._request_count - before)
        elif self.waiting and data:
            self._heard = True
            if self.head_since == INF:
                self.head_since = self._loop.time()
        if self._open is not None:
            self._end = data[-4:] if len(data) > 3 else (self._end + data)[-4:]
            if self._open.is_eof():
                self._renew()

    def _take(self, count: int) -> None:
        """Look at the messages that have just been parsed."""
        message, payload = self._messages[-1]
        if isinstance(message, _ErrInfo):
            self._spoil()
            return
        if self._open is not None:
            self.stained = True
        elif count > 1:
            before = [one for one, _ in self._messages][-count:-1]
            self.stained = self.stained or any(not isinstance(one, _ErrInfo) and one.chunked for one in before)
        self._open = payload if message.chunked else None
        self._end = b""

    def _renew(self) -> None:
        """Take a fresh parser behind a chunked body, or remember that it is too late for that.

        aiohttp's parser makes the last trailer of a chunked body the first header of the next request (3.14.5), and
        behind another proxy that may be another client's. Nothing has been parsed beyond the body when the last bytes
        that came are an empty line and no further message has come with them.
        """
        self._open = None
        if self._end != EMPTY_LINE:
            self.stained = True
            return
        self._parser = HttpRequestParser(
            self,
            self._loop,
            LIMIT,
            max_field_size=MAX_FIELD,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=MAX_MSG_QUEUE_SIZE,
        )

    def _spoil(self) -> None:
        """Tell whoever reads the body that it is broken.

        aiohttp queues the error as a second message: the reader would wait for ever, and the client be answered twice.
        """
        payload = self._messages[-2][1] if len(self._messages) > 1 else self.payload
        if not payload.is_eof():
            self._messages.pop()
            payload.set_exception(Rejected("The body is broken: its chunks can't be read."))
            self.close()

    def end_writing(self) -> None:
        """Tell the client that nothing more comes, at once; what it still sends is read off (RFC 9112 §9.6)."""
        transport = self.transport
        if transport is not None and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was written."""
        if self._paused and self.transport is not None:
            await self._drain_helper()

    def sweep(self, now: float, *, header: float, body: float, stall: float) -> None:
        """Look at this connection's clocks, in seconds; called about once a second for each."""
        if now - self.head_since > header and self.waiting:
            self.head_since = INF
            if self._heard:
                self._listener.refuse(self, RequestTimeout(f"The headers took longer than {header:g} s to come."))
            self.force_close()
        elif now - self.asked_since > body:
            self.asked_since = INF
            self.payload.set_exception(RequestTimeout(f"The body stood still for {body:g} s."))
        elif self._reading_paused or self._buffer_paused:
            self._look(now)
        if self._paused:
            self._watch(now, stall)

    def _look(self, now: float) -> None:
        """While we don't read, nobody tells us that the client has gone: ask the kernel."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        if self._poll.poll(0):
            transport.abort()

    def _watch(self, now: float, stall: float) -> None:
        transport = self.transport
        if transport is None:
            return
        size = transport.get_write_buffer_size()
        if size != self._progress or self.stalled_since == INF:
            self._progress, self.stalled_since = size, now
        elif now - self.stalled_since > stall:
            transport.abort()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Take bytes again. Every read of a body asks for it; aiohttp runs the parser each time, paused or not."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def resume_writing(self) -> None:
        """The client takes bytes again."""
        self.stalled_since = INF
        super().resume_writing()

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> Any:
        """Answer what could not be parsed, once, in our envelope, without a word of what was sent."""
        error: ProxyError
        if isinstance(exc, HttpProcessingError):
            error = Rejected(_why(exc))
        else:  # nothing gets out of the handler, so this is a fault of ours, and must not look like the client's
            error = ProxyError("Framegate failed before it could take the request.")
        error.__cause__ = exc
        self._listener.refuse(self, error)
        return CLOSED


def _why(exc: BaseException | None) -> str:
    kind = type(exc).__name__
    if kind == "LineTooLong":
        return "The request can't be read: its request line or a header is too long."
    if kind in ("BadStatusLine", "BadHttpMethod", "InvalidURLError"):
        return "The request can't be read: its request line is not valid HTTP/1.1."
    if isinstance(exc, HttpProcessingError):
        return "The request can't be read: its headers or its framing are not valid HTTP/1.1."
    return "The request can't be read."


class Lender(Protocol):
    """Who makes connections and counts them."""

    lent: set[object]

    async def lend(self, make: Callable[[], Lent]) -> Lent: ...
    def returned(self, one: object) -> None: ...


class Dialler(BaseConnector):
    """Connections for aiohttp's client that are made as ours are: one way to an upstream, with one set of words."""

    def __init__(self, lender: Lender) -> None:
        super().__init__(limit=0, force_close=True)
        self._lender = lender

    async def _create_connection(self, req: object, traces: object, timeout: object) -> ResponseHandler:
        return await self._lender.lend(lambda: Lent(self._loop, self._lender))


class Lent(ResponseHandler):
    """A connection of aiohttp's client, counted from its first moment to its last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lender: Lender) -> None:
        super().__init__(loop)
        self._lender = lender

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._lender.lent.add(self)
        super().connection_made(transport)

    def close(self) -> None:
        """Close, and hang up where that has begun: aiohttp does it itself when it can't read an answer.

        asyncio's TLS that is closed a second time forgets what there is to hang up on. `abort` does nothing then, and
        raises AttributeError before Python 3.11.4 (gh-98539).
        """
        if self.transport is not None and self.transport.is_closing():
            self.abort()
        else:
            super().close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        super().connection_lost(exc)
        self._lender.returned(self)


class Listener(web.Server):
    """aiohttp's server, made of our connections and requests; `sweep` runs their clocks."""

    def __init__(self, handler: Handler, refuse: Refuse, *, keepalive: float = 75.0) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]
            request_factory=_request,  # type: ignore[arg-type]
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=keepalive,
            read_bufsize=LIMIT,
            max_field_size=MAX_FIELD,
        )
        self.refuse = refuse

    def __call__(self) -> Connection:
        """A new connection's protocol."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def sweep(self, *, header: float, body: float, stall: float) -> None:
        """Run every connection's clocks."""
        now = self._loop.time()
        for connection in self.connections:
            assert isinstance(connection, Connection)
            connection.sweep(now, header=header, body=body, stall=stall)


def _request(message: Any, payload: StreamReader, connection: Connection, writer: Any, task: Any) -> Any:
    connection.payload = payload
    if not message.raw_headers and message.method == "UNKNOWN":  # aiohttp's stand-in for what it could not parse
        return BaseRequest(message, payload, connection, writer, task, asyncio.get_running_loop())
    if message.upgrade and message.headers.get("Upgrade", "").lower() == "websocket":
        return Upgrade(message, payload, connection, writer, task)
    return Incoming(message, payload, connection, task)
