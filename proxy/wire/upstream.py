"""The innermost layer: a request goes out on a pooled connection, its answer's head comes back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.body import EMPTY, Body, Bytes, Skim
from ..model.errors import BodyConsumed, ProxyError, UpstreamError
from ..model.message import Headers, Request, Response
from .chunks import one_chunk
from .dial import Address, P
from .headers import INWARD_FILTER, OUTWARD_FILTER, end_to_end, lines
from .internals import EMPTY_PAYLOAD, READ, StreamReader, read_at_most, whole
from .line import Line
from .link import INF, Link
from .question import Question
from .turn import Round, Turn
from .websocket import Sockets, wants_socket

if TYPE_CHECKING:
    from ..core.proxies import Proxy
    from ..model.services import Clock
    from .trust import Trust

AGAIN = 3  # kept connections that may turn out dead before one question gives up
REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS"))  # asked again without harm when a kept connection died
WIDE = 2**18  # bytes held for a reader, and read for one at a time: larger pieces wake its task less often


class Wire:
    """One upstream's connections: an idle stack, the newest used first, and one timer for all of them."""

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        *,
        connect_timeout: float = 5.0,
        first_byte_timeout: float = 600.0,
        idle_timeout: float = 300.0,
        keepalive: float = 15.0,
        max_connections: int = 0,
        ca_file: Path | None = None,
        proxy: Proxy | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.address = Address(base_url, ca_file=ca_file, proxy=proxy, trust=trust)
        self.now = clock.now
        self.connect_timeout = connect_timeout
        self.first_byte_timeout = first_byte_timeout
        self.idle_timeout = idle_timeout
        self.keepalive = keepalive  # OpenAI's edge closes idle connections after a minute or so; stay well below
        self.links: set[Link] = set()
        self.lent: set[object] = set()  # connections that WebSockets have
        self._dialling = 0
        self._max = max_connections
        self._line = Line(max_connections, self._room) if max_connections else None
        self._idle: list[Link] = []
        self._sockets = Sockets(self)
        self._timer: asyncio.TimerHandle | None = None
        self._round: Round | None = None
        self._tick = min(1.0, max(0.02, min(first_byte_timeout, idle_timeout, keepalive) / 8))

    async def send(self, request: Request) -> Response:
        """Ask, and return when the answer's head is here. Raises UpstreamError when none comes."""
        if request.method == "GET" and wants_socket(request):
            return await self._sockets.open(request)
        body = request.body
        data = body.now()
        chunked = body.length is None
        start = self._head(request, chunked)
        out: bytes | Body = body if data is None else one_chunk(data) if chunked else data
        tries = 0
        while True:
            link = self._take() if self._line is None else await self._line.enter(self._take, self.connect_timeout)
            fresh = link is None
            if link is None:
                link = await self._dial()
            question = link.ask(start, out, chunked=chunked, with_answer_body=request.method != "HEAD")
            try:
                if question.turn is not None:
                    await question.turn
                if question.head is None:
                    raise question.broken or UpstreamError("closed before it answered", sent=True)
            except UpstreamError as error:
                tries += 1
                harmless = not error.sent or request.method in REPEATABLE
                if fresh or error.timeout or data is None or tries > AGAIN or not harmless:
                    raise
            except BaseException:
                link.cancel(question)
                raise
            else:
                return _response(request, link, question, *question.head)

    def _head(self, request: Request, chunked: bool) -> bytes:
        address = self.address
        length = request.body.length
        # A plugin may have changed the body and not its header: never another's length.
        out, unsaid = lines(request.headers.raw, INWARD_FILTER, b"" if length is None else b"%d" % length)
        if chunked:
            out.append(b"Transfer-Encoding: chunked")
        elif unsaid and length:
            out.append(b"Content-Length: " + unsaid)
        start = b"%b %b HTTP/1.1\r\nHost: %b" % (
            request.method.encode("ascii"),
            address.target(request.target),
            address.header,
        )
        return b"\r\n".join((start, *out, b"", b""))

    # --- the pool

    @property
    def round(self) -> Round:
        """The loop's next round, for all links."""
        if self._round is None:
            self._round = Round(asyncio.get_running_loop())
        return self._round

    def _take(self) -> Link | None:
        now = self.now()
        while self._idle:
            link = self._idle.pop()
            if not link.stale(now, self.keepalive):
                return link
            link.close()
        return None

    def rest(self, link: Link) -> None:
        """A link has answered and may be asked again."""
        self._idle.append(link)
        if self._line is not None:
            self._line.nudge()

    def lost(self, link: Link) -> None:
        """A link is no more."""
        self.links.discard(link)
        if self._line is not None:
            self._line.nudge()

    def returned(self, one: object) -> None:
        """What was lent is no more."""
        self.lent.discard(one)
        if self._line is not None:
            self._line.nudge()

    def _room(self) -> bool:
        return len(self.links) + len(self.lent) + self._dialling < self._max

    def _make_room(self) -> None:
        if not self._room() and self._idle:
            self._idle.pop(0).close()

    async def _dial(self) -> Link:
        loop = asyncio.get_running_loop()
        link = await self._connect(lambda: Link(self, loop))
        if self._timer is None:
            self._timer = loop.call_later(self._tick, self._sweep)
        return link

    async def lend(self, make: Callable[[], P]) -> P:
        """A new connection for somebody else, who says in `lent` how long it stands; raises UpstreamError."""
        if self._line is not None:
            await self._line.enter(self._make_room, self.connect_timeout)
        return await self._connect(make)

    async def _connect(self, make: Callable[[], P]) -> P:
        self._dialling += 1
        try:
            return await self.address.connect(make, timeout=self.connect_timeout, now=self.now)
        finally:
            self._dialling -= 1
            if self._line is not None:
                self._line.nudge()

    def _sweep(self) -> None:
        self.sweep()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._tick, self._sweep) if self.links else None

    def sweep(self) -> None:
        """Run every link's clock: deadlines of those that are asked, age of those that are idle."""
        now = self.now()
        old = now - self.keepalive
        for link in tuple(self.links):
            if link.deadline < now:
                link.expire()
            elif link.idle_since < old:
                link.close()
        self._idle = [link for link in self._idle if link.idle_since != INF]

    async def aclose(self) -> None:
        """Hang up everywhere."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for link in tuple(self.links):
            link.abort()
        await self._sockets.aclose()

    async def dial(self) -> None:
        """Connect once, to see whether it can be done; raises UpstreamError."""
        (await self._dial()).close()


def _response(request: Request, link: Link, question: Question, message: Any, stream: StreamReader) -> Response:
    body: Body = EMPTY
    if stream is not EMPTY_PAYLOAD:
        length = None if message.chunked else message.headers.get("Content-Length")
        if length is not None and (data := whole(stream)) is not None:
            body = Bytes(data)
        else:
            body = AnswerBody(link, question, stream, None if length is None else int(length))
    headers = Headers(tuple(end_to_end(message.raw_headers, OUTWARD_FILTER)))
    reason = message.reason.encode("utf-8", "surrogateescape")
    return Response(message.code, headers, body, reason=reason, attempt=request.attempt)


class AnswerBody(Body):
    """An upstream's answer, pulled as it is read; the upstream's clock runs only while somebody asks for bytes."""

    __slots__ = ("_ahead", "_begun", "_link", "_question", "_read", "_skim", "_stream", "_whole", "length")

    def __init__(self, link: Link, question: Question, stream: StreamReader, length: int | None) -> None:
        self._link = link
        self._question = question
        self._stream = stream
        self._whole: bytes | None = None  # all of it, where it was here at once
        self._read = False  # somebody took it piece by piece
        self._begun = False  # somebody took some of it, and may leave the rest to another
        self._ahead = b""  # what came for somebody who no longer waited
        self._skim: Skim | None = None
        self.length = length

    def now(self) -> bytes | None:
        """All of it, when it has come before anybody read."""
        if self._whole is None and not self._read and not self._begun:
            self._whole = whole(self._stream)
        return self._whole

    async def more(self) -> bytes:
        """The next piece, b"" at the end; the rest is iterated or poured. Cancelled, it loses nothing."""
        self._begun = True
        stream, link, question = self._stream, self._link, self._question

        def take(piece: bytes) -> bool:
            self._ahead += piece
            return False

        try:
            while True:
                if (broken := stream.exception()) is not None:
                    raise broken
                if piece := self._here():
                    return piece
                if stream.is_eof():
                    return b""
                question.sink = take
                question.turn = turn = Turn(link.round)
                link.expect(question)
                link.resume_reading()
                await turn
        except ProxyError:
            raise
        except Exception as exc:
            raise UpstreamError("the answer broke off", sent=True) from exc
        finally:
            question.sink = None
            link.expected(question)

    def _here(self) -> bytes:
        """What has come and was not taken."""
        ahead, self._ahead = self._ahead, b""
        return ahead + self._stream.read_nowait()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The answer in the pieces in which it comes; raises UpstreamError when it breaks off."""
        data = self.now()
        if data is not None:
            if data:
                yield data
            return
        if self._read:
            raise BodyConsumed
        self._read = True
        stream, link, question = self._stream, self._link, self._question
        pieces: deque[bytes] = deque()
        held = 0

        def take(piece: bytes) -> bool:
            nonlocal held
            if self._skim is not None and question.turn is not None and not pieces:
                more = self._skim(piece, self._go_on)
                if more is False:
                    link.expected(question)
                    link.pause_reading()
                if more is not None:
                    return True
            pieces.append(piece)
            held += len(piece)
            link.expected(question)
            question.run()
            return held < WIDE

        read_at_most(link.transport, WIDE)
        try:
            if first := self._here():
                take(first)
            question.sink = take
            while True:
                while pieces:
                    piece = pieces.popleft()
                    held -= len(piece)
                    yield piece
                if (broken := stream.exception()) is not None:
                    raise broken
                if stream.is_eof():
                    return
                question.turn = turn = Turn(link.round)
                link.expect(question)
                link.resume_reading()
                await turn
        except ProxyError:
            raise
        except Exception as exc:
            raise UpstreamError("the answer broke off", sent=True) from exc
        finally:
            question.sink = self._skim = None
            read_at_most(link.transport, READ)
            if not stream.is_eof():
                link.cancel(question)

    def skimmed(self, skim: Skim) -> None:
        """Offer it each piece at the moment it comes, while who iterates waits for one: what it takes wakes nobody."""
        self._skim = skim

    def _go_on(self) -> None:
        link, question = self._link, self._question
        if link.question is question and question.turn is not None:
            link.expect(question)
            link.resume_reading()

    async def pour(self, sink: Callable[[bytes], bool], drained: Callable[[], Awaitable[None]]) -> None:
        """Hand each piece to `sink` the moment it comes from the socket; no task wakes for it (nobody looks at it).

        A sink that returns False has enough: `drained` says when it takes bytes again. Raises UpstreamError when the
        answer breaks off.
        """
        if self._read:
            raise BodyConsumed
        self._read = True
        stream, link, question = self._stream, self._link, self._question
        try:
            while True:
                if (broken := stream.exception()) is not None:
                    raise broken
                if (piece := self._here()) and not sink(piece):  # what came while nobody poured
                    await drained()
                if stream.is_eof():
                    return
                question.sink = sink
                question.turn = turn = Turn(link.round)
                link.expect(question)
                link.resume_reading()
                await turn
                question.sink = None
                if not stream.is_eof() and stream.exception() is None:  # the sink has enough
                    await drained()
        except ProxyError:
            raise
        except ConnectionError:  # the sink's own
            raise
        except Exception as exc:
            raise UpstreamError("the answer broke off", sent=True) from exc
        finally:
            question.sink = None
            if not stream.is_eof():
                link.cancel(question)

    async def aclose(self) -> None:
        """Stop the answer: its connection goes, unless it has all come."""
        if not self._stream.is_eof():
            self._link.cancel(self._question)
        await super().aclose()
