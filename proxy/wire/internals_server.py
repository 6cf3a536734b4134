"""aiohttp's server: its connections, with the clocks and the care that they lack.

What is leaned on: the C request parser, `RequestHandler` (its task per connection, pipelining, lingering, keep-alive,
400s) and the `request_factory` of `web.Server`.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler, RequestPayloadError, _ErrInfo
from aiohttp.web_server import Server  # not by aiohttp.web, which brings an application along

from ..model.errors import ProxyError, Rejected, RequestTimeout
from ..model.exchange import Client
from .internals import LIMIT, MAX_FIELD, READ, read_at_most, whole
from .internals_request import CLOSED, Incoming, Upgrade, handed_over

EMPTY_LINE = b"\r\n\r\n"
INF = float("inf")

Handler = Callable[[Incoming | Upgrade], Awaitable[Any]]
Refuse = Callable[["Connection", ProxyError], None]


class Parsed(list[Any]):
    """What has been parsed and not been taken: for nearly all of its life nothing, which a deque holds in 760 bytes."""

    __slots__ = ()

    def popleft(self) -> Any:
        """Take the first."""
        return self.pop(0)


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
        self._messages = Parsed()  # type: ignore[assignment]
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
                # The task keeps what it was cancelled with, and that keeps all who were on the way, who keep the task:
                # what was in flight would be the collector's, 200 to 400 KB of an answer with pictures.
                task = incoming.task = incoming._task = None
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
        read_at_most(transport, READ)
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


class Listener(Server):
    """aiohttp's server, made of our connections and requests; `sweep` runs their clocks."""

    def __init__(self, handler: Handler, refuse: Refuse, *, keepalive: float = 75.0) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]
            request_factory=handed_over,  # type: ignore[arg-type]
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
