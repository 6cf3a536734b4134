"""The one reader of answers: it stands round what an attempt returns, where a plugin of the route reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

from ..model.body import Body, Pour, Skim
from ..model.errors import BodyConsumed
from ..model.message import Headers, Request, Response
from ..model.reading import Skimmer, Taker, Verdict
from ..openai.reader import Reader, coding, label
from ..openai.scan import Event
from ..openai.scan_images import Taking
from .seen import Seen

ACCEPT = b"accept-encoding"
AHEAD = 2**16  # bytes that a verdict may hold back, but for the piece that crosses it


def uncoded(request: Request) -> Request:
    """The same request for an answer that is not compressed."""
    pairs = [pair for pair in request.headers.raw if len(pair[0]) != len(ACCEPT) or pair[0].lower() != ACCEPT]
    pairs.append((ACCEPT, b"identity"))
    return Request(
        request.method, request.target, Headers(tuple(pairs)), request.body, request.upstream, request.attempt
    )


def read(response: Response, *, verdict_only: bool = False) -> Response:
    """The same answer, read as it flows. A socket is no answer to read."""
    if response.socket is not None:
        return response
    status, headers = response.status, response.headers
    body = Read(response.body, status, headers, verdict_only=verdict_only)
    return Response(status, headers, body, response.facts, None, response.reason, response.attempt, body)


class Read(Seen):
    """A body whose bytes are looked at as they pass, and its `Reading` at once.

    It gives on the very bytes, in the very pieces, and pulls only when it is pulled, but for what a verdict needs.
    """

    __slots__ = (
        "_begun",
        "_closed",
        "_done",
        "_error",
        "_flowing",
        "_front",
        "_headers",
        "_held",
        "_judging",
        "_midst",
        "_pull",
        "_reading",
        "_size",
        "_skimmer",
        "_source",
        "_status",
        "_taker",
        "_telling",
        "_verdict_only",
        "_whole",
        "length",
    )

    def __init__(self, source: Body, status: int, headers: Headers, *, verdict_only: bool = False) -> None:
        self._verdict_only = verdict_only  # what flows is looked at no more
        self.length = source.length
        self._source = source
        self._status = status
        self._headers = headers
        self._reading: Reader | None = None  # made when somebody asks, which for a small answer may be never
        self._size = 0
        self._whole: bytes | None = None  # all of it, where it is here; looked at when somebody asks
        self._taker: Taker | None = None
        self._skimmer: Skimmer | None = None
        self._midst: Taking | None = None  # of the picture that it stands in the middle of, once that was looked for
        self._telling = False  # the taker is being told
        self._begun = False  # some of the source has been pulled
        self._flowing = False  # somebody reads, or has read
        self._done = False  # the source has come to its end
        self._closed = False
        self._error: Exception | None = None  # what broke it
        # What a verdict needs.
        self._held: list[bytes] = []  # looked at, and not yet given on
        self._judging: asyncio.Lock | None = None
        self._pull: asyncio.Task[bytes | None] | None = None  # goes on when who asked is cancelled
        self._front: AsyncIterator[bytes] | None = None

    @property
    def _reader(self) -> Reader:
        if self._reading is None:
            self._reading = Reader(self._status, label(self._headers), self.coding)
        return self._reading

    # --- A body like any other.

    @property
    def coding(self) -> str | None:  # type: ignore[override]
        """The coding that its head tells of."""
        return coding(self._headers)

    def now(self) -> bytes | None:
        """All of it, when it is here already and nobody takes its images."""
        return self._all() if self._taker is None else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The same bytes in the same pieces."""
        whole, taker = self._all(), self._taker
        if whole is not None and (taker is None or self._flowing):
            if whole:
                yield whole
            return
        await self._flow()
        late: Sequence[Event] | None = None
        if taker is not None:  # whatever was looked at so far was not decoded
            self._telling = True
            late = None if whole else self._reader.late(taker.wants, b"".join(self._held))
            if late is None:
                self._reading = self._reader.again(taker.wants)
        if whole:
            self._held.append(whole)
        try:
            if taker is not None and late is not None:
                await self._say(taker, late)
            while self._held:
                piece = self._held.pop(0)
                if taker is not None and late is None:
                    await self._tell(taker, piece)
                yield piece
            skimmed: Callable[[Skim], None] | None = getattr(self._source, "skimmed", None)
            if self._skimmer is not None and skimmed is not None:
                skimmed(partial(self._skim, self._reader, self._skimmer))
            while whole is None and (pulled := await self._next()) is not None:
                if taker is None:
                    if not self._verdict_only:
                        self._reader.look(pulled)
                else:
                    await self._tell(taker, pulled)
                yield pulled
            self._done = True
        finally:
            try:
                if not self._done:
                    await self._let_go()
            finally:
                await self._over(cut=not self._done)

    @property
    def pour(self) -> Pour | None:
        """Its way from socket to socket, looked at in passing; None where there is none, or a taker is waited for."""
        pour: Pour | None = getattr(self._source, "pour", None)
        if pour is None or self._taker is not None or self._front is not None:
            return None

        async def poured(sink: Callable[[bytes], bool], drained: Callable[[], Awaitable[None]]) -> None:
            look = None if self._verdict_only else self._reader.look

            def seen(piece: bytes) -> bool:
                self._size += len(piece)
                if look is not None:
                    look(piece)
                return sink(piece)

            await self._flow()
            try:
                while self._held:
                    if not sink(self._held.pop(0)):
                        await drained()
                if self._error is not None:
                    raise self._error
                if not self._done:
                    await pour(seen, drained)
                    self._done = True
            finally:
                await self._over(cut=not self._done)

        return poured

    async def aclose(self) -> None:
        """Stop the answer; whoever takes its images hears that it was cut."""
        try:
            await self._let_go()
        finally:
            if self._whole is None or self._telling:
                await self._over(cut=not self._done)
            await super().aclose()

    # --- What is seen in it.

    async def verdict(self) -> Verdict:
        """Whether it holds a final image; reads ahead as far as that needs, within the bound."""
        if self._all() is None and self._reader.known is None:
            await self._judge()
        known = self._seen().known or "unknown"
        if known == "unknown" and self._error is not None and not self._flowing:
            raise self._error
        return known

    def images(self, taker: Taker, skimmer: Skimmer | None = None) -> None:
        """Have this one told of the images."""
        if self._taker is not None:
            raise BodyConsumed("another layer takes its images")
        if self._flowing:
            raise BodyConsumed("its images must be asked for before the first byte flows")
        self._taker, self._skimmer = taker, skimmer

    def follow(self) -> None:
        """Have all of it looked at as it flows."""
        self._verdict_only = False

    @property
    def size(self) -> int:
        """How many bytes have come."""
        return self._size if self._all() is None else len(self._whole or b"")

    # --- Ours.

    def _all(self) -> bytes | None:
        if self._whole is None and not self._flowing:
            if not self._begun:
                self._whole = self._source.now()
            elif self._done:
                self._whole = b"".join(self._held)
                self._held.clear()
        return self._whole

    def _seen(self) -> Reader:
        """The reader, which has looked at what is here whole: that may never be asked for."""
        reader = self._reader
        if not reader.ended and not self._telling and (whole := self._all()) is not None:
            reader.look(whole)
            reader.end()
        return reader

    async def _judge(self) -> None:
        """Pull until the verdict is known or the bound is reached; what comes is held."""
        if self._judging is None:
            self._judging = asyncio.Lock()
        async with self._judging:
            size = sum(map(len, self._held))
            reader = self._reader
            while not (reader.known or reader.partials or self._flowing or self._closed) and size < AHEAD:
                try:
                    piece = await self._next(ahead=True)
                except Exception:
                    self._reader.end(cut=True)
                    raise
                if piece is None:
                    self._reader.end()
                    return
                self._held.append(piece)
                self._reader.look(piece)
                size += len(piece)

    async def _flow(self) -> None:
        """Somebody reads: the first, and the only one."""
        if self._flowing or self._closed:
            raise BodyConsumed
        self._flowing = True
        if self._judging is not None:
            async with self._judging:  # a verdict that is being waited for has the next piece
                pass

    async def _next(self, *, ahead: bool = False) -> bytes | None:
        """The next piece, None at the end. `ahead`: a cancelled wait for it must not lose it."""
        if self._error is not None:
            raise self._error
        if self._done:
            return None
        self._begun = True
        try:
            piece = await (self._one_ahead() if ahead or self._pull is not None else self._one())
        except Exception as error:
            self._error = error
            raise
        if piece is None:
            self._done = True
        else:
            self._size += len(piece)
        return piece

    async def _one(self) -> bytes | None:
        if self._front is None:
            self._front = aiter(self._source)
        while (piece := await anext(self._front, None)) == b"":
            pass
        return piece

    async def _one_ahead(self) -> bytes | None:
        more: Callable[[], Awaitable[bytes]] | None = getattr(self._source, "more", None)
        if more is not None:
            return await more() or None
        if self._pull is None:
            self._pull = asyncio.get_running_loop().create_task(self._one(), name="answer-ahead")
            self._pull.add_done_callback(_heard)
        pull = self._pull
        await asyncio.wait((pull,))
        self._pull = None
        if pull.cancelled():
            raise BodyConsumed("it was closed")  # under who waits, whom nobody has cancelled
        return pull.result()

    async def _tell(self, taker: Taker, piece: bytes) -> None:
        """Look at a piece, and tell the taker before it flows on."""
        reader, self._midst = self._reader, None
        for plain in reader.plain(piece):
            await self._say(taker, reader.scan(plain))

    async def _say(self, taker: Taker, events: Sequence[Event]) -> None:
        """Tell it; one that raises hears no more."""
        try:
            await _say(taker, events)
        except BaseException:
            self._telling = False
            raise

    def _skim(self, reader: Reader, skimmer: Skimmer, piece: bytes, go_on: Callable[[], None]) -> bool | None:
        """Give a piece from the middle of a picture to who takes it straight; None where it has to flow."""
        midst = self._midst
        if midst is None:
            midst = self._midst = reader.midst()
        if midst is None or not skimmer.skims(midst.image) or (found := midst.skim(piece)) is None:
            return None
        size = len(piece)
        self._size += size
        reader.skip(size)
        return skimmer.skim(midst.image, found, midst.rest, go_on)

    async def _over(self, *, cut: bool) -> None:
        """No more is looked at."""
        events = self._reader.end(cut=cut)
        if self._telling and self._taker is not None:
            await _say(self._taker, events)

    async def _let_go(self) -> None:
        """Stop what pulls, and close the source."""
        self._closed = True
        pull, front = self._pull, self._front
        if pull is not None:
            pull.cancel()
            await asyncio.wait((pull,))
        try:
            if (close := getattr(front, "aclose", None)) is not None:
                await close()
        except RuntimeError:  # it is being iterated at this moment, by whom we are closed: it ends with them
            pass
        finally:
            await self._source.aclose()


async def _say(taker: Taker, events: Sequence[Event]) -> None:
    for event in events:
        if event.what == "piece":
            await taker.piece(event.image, event.data)
        elif event.what == "begun":
            await taker.begun(event.image)
        elif event.what == "ended":
            await taker.ended(event.image)
        else:
            await taker.settled(event.image)


def _heard(pull: asyncio.Task[bytes | None]) -> None:
    """Who asked may have left; the error is theirs who read on."""
    if not pull.cancelled():
        pull.exception()
