"""One connection to an upstream: an asyncio protocol over aiohttp's response parser, one question at a time."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from typing import Any, Protocol

from ..model.body import Body
from ..model.errors import ClientLeft, ProxyError, UpstreamError
from .chunks import LAST, write_chunk
from .framing import of_answer
from .internals import EMPTY_PAYLOAD, READ, StreamReader, read_at_most, response_parser
from .question import Question
from .turn import Round

INF = float("inf")


class Pool(Protocol):
    """What a link asks of the pool it belongs to."""

    first_byte_timeout: float
    idle_timeout: float
    links: set[Link]

    @property
    def round(self) -> Round: ...
    def now(self) -> float: ...
    def rest(self, link: Link) -> None: ...
    def lost(self, link: Link) -> None: ...


class Link(asyncio.Protocol):
    """A connection in the pool's hands: idle, or with one question. `deadline` is its only clock, read by the pool."""

    __slots__ = (
        "_bodiless",
        "_drain",
        "_last",
        "_left",
        "_loop",
        "_parser",
        "_poll",
        "_pool",
        "_reading_paused",
        "_writing_paused",
        "deadline",
        "idle_since",
        "question",
        "round",
        "transport",
    )

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self.round = pool.round
        self._parser: Any = None
        self._left = 0  # bytes of a counted body still to come; they are counted, not parsed
        self._last = False  # no further question after this one
        self._bodiless = False  # the answer will have no body, whatever its head says
        self._reading_paused = self._writing_paused = False
        self._drain: asyncio.Future[None] | None = None
        self._poll: select.poll | None = None
        self.transport: asyncio.Transport | None = None
        self.question: Question | None = None
        self.deadline = INF
        self.idle_since = INF  # INF too while young: made, but not yet asked, and not to be swept up as idle

    # What a StreamReader asks of its protocol: connected, pause_reading, resume_reading.
    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self.transport is not None

    def pause_reading(self) -> None:
        """Take nothing more from the upstream for now."""
        if not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Take bytes again."""
        if self._reading_paused:
            self._reading_paused = False
            if self.transport is not None:
                self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        read_at_most(transport, READ)
        self.transport = transport  # type: ignore[assignment]
        self._pool.links.add(self)

    # --- the question

    def ask(self, head: bytes, body: bytes | Body, *, chunked: bool, with_answer_body: bool) -> Question:
        """Send a question; its answer's head comes through the question's future."""
        question = self.question = Question(self.round)
        self._left = 0
        self._last = False
        self.idle_since = INF
        self._bodiless = not with_answer_body
        if self._bodiless:
            self._parser = None  # not that of answers with a body
        self.deadline = self._pool.now() + self._pool.first_byte_timeout
        transport = self.transport
        assert transport is not None
        if isinstance(body, bytes):
            transport.write(head + body if len(body) <= 2**14 else head)
            if len(body) > 2**14:
                transport.write(body)
        else:
            transport.write(head)
            question.upload = self._loop.create_task(self._upload(question, body, chunked), name="upload")
        # What the kernel refuses at once was not sent; on both loops a write to a reset socket closes the transport.
        question.sent = not transport.is_closing()
        return question

    async def _upload(self, question: Question, body: Body, chunked: bool) -> None:
        declared = None if chunked else body.length
        sent = 0
        try:
            self.deadline = INF  # the client's clock runs, not the upstream's
            async for piece in body:
                transport = self.transport
                if transport is None or self.question is not question:
                    return
                if not piece:
                    continue  # an empty chunk would be the end
                sent += len(piece)
                if declared is not None and sent > declared:
                    raise ProxyError(f"A body of {declared} bytes went on after its end.")
                if chunked:
                    write_chunk(transport, piece)
                else:
                    transport.write(piece)
                if self._writing_paused:
                    await self._taken(question)
            if declared is not None and sent < declared:
                raise ProxyError(f"A body of {declared} bytes ended after {sent}.")
            if chunked and self.transport is not None:
                self.transport.write(LAST)
            question.upload = None
            if not question.heard:
                self.deadline = self._pool.now() + self._pool.first_byte_timeout
        except ProxyError as error:
            self._fail(question, error)
        except ConnectionError as error:
            self._fail(question, ClientLeft(str(error)))
        except Exception as error:  # the body is a plugin's: what it raises ends the question, not the upload alone
            self._fail(question, error)

    async def _taken(self, question: Question) -> None:
        """Wait until the upstream has taken what was written: its clock, while the client's stands."""
        if not question.heard:
            self.deadline = self._pool.now() + self._pool.idle_timeout
        self._drain = self._loop.create_future()
        await self._drain
        if not question.heard:
            self.deadline = INF

    def pause_writing(self) -> None:
        """The upstream is slow to take."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The upstream takes bytes again."""
        self._writing_paused = False
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_result(None)

    # --- the answer

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer; whatever nobody asked for ends the connection."""
        question = self.question
        if question is None:
            self.abort()
        elif self._left:
            self._count(question, data)
        else:
            self._parse(question, data)

    def _parse(self, question: Question, data: bytes) -> None:
        awaited = not question.heard
        if self._parser is None:  # not made before: of requests that wait for long there are many
            self._parser = response_parser(self, self._loop, with_body=not self._bodiless)
        try:
            messages, _, _ = self._parser.feed_data(data)
        except Exception as error:  # the parser's errors have no common base; any of them means a broken answer
            self._fail(question, UpstreamError(f"broken answer: {type(error).__name__}", sent=True))
            return
        for message, stream in messages:
            if message.code < 200 and message.code != 101:
                continue  # 100, 102, 103: the answer is still to come
            if question.heard:
                self._last = True  # a second answer to one question: nobody gets it, and nothing more is asked here
                break
            if complaint := of_answer(message):
                self._fail(question, UpstreamError(complaint, sent=True))
                return
            self._head(question, message, stream)
        if question.sink is not None and self.question is question:
            if question.stream.exception() is not None:
                question.wake()
            elif piece := question.stream.read_nowait():
                self._pour(question, question.sink, piece)
        if question.heard and question.stream.is_eof() and self.question is question:
            if question.chunked and not data.endswith(b"\r\n\r\n"):
                self._last = True  # the parser may have begun another answer, and is not asked again
            self._finish(question)
        if awaited and question.heard:
            if self.question is question:
                question.run()
            else:  # all of it is here: small, and better taken in turn with others of its kind
                question.wake()

    def _head(self, question: Question, message: Any, stream: StreamReader) -> None:
        question.heard = True
        question.stream = stream
        question.chunked = message.chunked
        self.deadline = INF  # from here on the clock runs only while somebody asks for bytes
        if message.should_close:
            self._last = True
        if stream is not EMPTY_PAYLOAD and not stream.is_eof() and not message.chunked:
            length = message.headers.get("Content-Length")
            if length is not None:
                self._left = int(length) - stream.total_bytes
        if question.upload is not None and message.code >= 300:
            self._stop_upload(question)  # refused early: an early 2xx goes on
        question.head = (message, stream)

    def _count(self, question: Question, data: bytes) -> None:
        if len(data) > self._left:
            data = data[: self._left]
            self._last = True
        self._left -= len(data)
        if question.sink is not None:
            self._pour(question, question.sink, data)
        else:
            question.stream.feed_data(data)
        if not self._left:
            self._parser = None  # it still waits for this body
            question.stream.feed_eof()
            self._finish(question)

    def _pour(self, question: Question, sink: Callable[[bytes], bool], data: bytes) -> None:
        if sink(data):
            if self.deadline != INF:  # it runs: somebody asks for more
                self.deadline = self._pool.now() + self._pool.idle_timeout
        else:
            self.deadline = INF
            self.pause_reading()
            question.wake()

    def _finish(self, question: Question) -> None:
        self.question = None
        self.deadline = INF
        if self._reading_paused:
            self.resume_reading()
        if question.upload is not None:
            self._stop_upload(question)
        if question.sink is not None:
            question.wake()
        if question.stream is EMPTY_PAYLOAD or question.chunked:
            # It may be one for HEAD. And aiohttp's makes the last trailer of a chunked body the first header of the
            # next message (3.14.5), which is somebody else's answer.
            self._parser = None
        if self._last or self.transport is None:
            self.close()
        else:
            self.idle_since = self._pool.now()
            self._pool.rest(self)

    def _stop_upload(self, question: Question) -> None:
        self._last = True
        upload, question.upload = question.upload, None
        if upload is not None and upload is not asyncio.current_task(self._loop):
            upload.cancel()

    def expect(self, question: Question) -> None:
        """Somebody waits for bytes of that answer: the upstream's clock runs."""
        if self.question is question:
            self.deadline = self._pool.now() + self._pool.idle_timeout

    def expected(self, question: Question) -> None:
        """They came. The link may serve another question by now, whose clock is not ours to stop."""
        if self.question is question:
            self.deadline = INF

    # --- the end

    def _fail(self, question: Question, error: BaseException) -> None:
        """Whoever waits hears it; the connection goes."""
        if self.question is question:
            self.question = None
            self.deadline = INF
            if question.head is None:
                question.broken = error
            elif not question.stream.is_eof():
                question.stream.set_exception(error)
            question.wake()
        self._stop_upload(question)
        self.abort()

    def expire(self) -> None:
        """The deadline has passed."""
        question = self.question
        if question is None:
            self.close()
            return
        what = "the answer stood still" if question.heard else "no answer in time"
        self._fail(question, UpstreamError(what, sent=question.sent, timeout=True))

    def cancel(self, question: Question) -> None:
        """Who asked no longer wants to know. Does nothing once the link serves another question."""
        if self.question is question:
            self.question = None
            self._stop_upload(question)
            self.abort()

    def close(self) -> None:
        """Hang up. What the upstream has not taken by now it never will: nobody waits for that."""
        self.idle_since = INF
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        elif not self.transport.is_closing():  # asyncio's TLS that is closed twice can't be aborted any more (gh-98539)
            self.transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone: end of an answer that runs until the close, or a break."""
        question = self.question
        if question is not None and exc is not None:
            self._salvage()
            question = self.question
        self.idle_since = INF
        self.transport = None
        self._pool.lost(self)
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.cancel()
        if question is None:
            return
        if not question.heard:
            self._fail(question, UpstreamError("closed before it answered", sent=question.sent))
        elif self._left or exc is not None:
            self._fail(question, UpstreamError("the answer broke off", sent=True))
        else:
            try:
                self._parser.feed_eof()
            except Exception:
                self._fail(question, UpstreamError("the answer broke off", sent=True))
            else:
                self._last = True
                self._finish(question)

    def _salvage(self) -> None:
        """Read an answer that came before the reset that our own upload provoked.

        A server that refuses early and hangs up with our bytes unread resets the connection. The write fails first, and
        the loop gives the socket up with the answer still in it. With TLS in between, `Rescue` has seen to it.
        """
        transport = self.transport
        if transport is None or transport.get_extra_info("sslcontext") is not None:
            return
        self._last = True
        sock = transport.get_extra_info("socket")
        reader: Callable[[int, int], bytes] = os.read
        try:
            while self.question is not None and (data := reader(sock.fileno(), 2**16)):
                self.data_received(data)
        except OSError:
            return

    def stale(self, now: float, life: float) -> bool:
        """Has the peer hung up, or said something unasked? One poll: what the kernel knows and the loop does not."""
        transport = self.transport
        if transport is None or transport.is_closing() or now - self.idle_since > life:
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
        return bool(self._poll.poll(0))
