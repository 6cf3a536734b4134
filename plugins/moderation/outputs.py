"""Outputs: generated pictures are judged before anything of them is delivered."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from proxy.api import (
    Ahead,
    Body,
    Exchange,
    FetchFailed,
    FetchRefused,
    Outcome,
    Picture,
    ProxyError,
    Reading,
    Remote,
    Response,
    Unseen,
    sniff,
)

from .drawn import LARGEST, MEMORY, Drawn, Views, Waiting
from .verdict import Matter

AT_ONCE = 4  # pictures of one answer that are judged side by side
MOST = 2**40  # bytes of an answer: what the disk bears
SMALL = 2**12  # bytes of a broken answer in which no picture is worth a look
MANY = 256  # pictures of one answer; what comes behind them nobody looks at
FIRST = 32  # bytes that show what sort of file it is

Judge = Callable[[Matter], Awaitable[None]]
_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})')


class Spawn(Protocol):
    """Start work that the house owns: `services.spawn`."""

    def __call__(self, work: Coroutine[Any, Any, Any], *, name: str) -> None: ...


class _Refused(Exception):
    """A judge has refused, or could not judge; the cause is for the client."""

    def __init__(self, why: BaseException) -> None:
        super().__init__()
        self.why = why


@dataclass(frozen=True, slots=True)
class Outputs:
    """The inspector of one exchange's answers: `exchange.inspect(Outputs(...).inspect)`, before it is forwarded.

    `judge` raises the ProxyError that the client is to hear. `kind` is what the request asks, for the shape of an error
    in a stream. With `aside`, nothing waits: pictures are judged by work that is started with it.
    """

    exchange: Exchange
    judge: Judge
    views: Views
    remote: Remote
    kind: str = ""
    aside: Spawn | None = None

    async def inspect(self, response: Response) -> Response:
        """The answer, of which nothing that shows a picture goes on unjudged."""
        reading = response.reading
        if reading is None or response.body.now() == b"":
            return response
        media = (response.headers.get("Content-Type") or "text/plain").partition(";")[0].strip().lower()
        inspection = _Inspection(self, response, reading)
        if media.startswith("image/") or media == "application/octet-stream":
            return response if self.aside is not None else await inspection.file(picture=media.startswith("image/"))
        if not (media.startswith("text/") or media == "application/json" or media.endswith("+json")):
            return response  # sound, video: nothing here could look at it
        reading.images(inspection)
        if self.aside is not None:
            self.exchange.on_finish(inspection.finished)
            return response
        if media == "text/event-stream":
            return response.through(inspection.flow)
        return await inspection.whole(text=media.startswith("text/"))


class _Inspection:
    """One answer. As the taker it is told of its pictures; it starts judgements, and lets go on what has passed."""

    def __init__(self, outputs: Outputs, response: Response, reading: Reading) -> None:
        self._outputs = outputs
        self._response = response
        self._reading = reading
        self._upstream = response.attempt.upstream if response.attempt is not None else None
        self._coming: dict[Picture, Drawn] = {}  # not settled
        self._unpassed: deque[Drawn] = deque()
        self._partials: dict[str | int | None, list[Drawn]] = {}  # settled, by what tells whose they are
        self._last: list[Drawn] = []  # judged when the answer has come to its end
        self._all: list[Drawn] = []
        self._judging: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._asked: dict[bytes, asyncio.Task[None] | None] = {}  # by digest: a picture that comes again is judged once
        self._over = False
        self._numbered = outputs.kind == "response"
        self._number = -1  # of the last event that went on

    # --- What the reader tells.

    def wants(self, picture: Picture) -> bool:
        """All: what it calls itself may be wrong."""
        return True

    async def begun(self, picture: Picture) -> None:
        """It waits from here on."""
        drawn = Drawn(picture.path, self._outputs.views, begin=picture.event, number=picture.partial)
        if len(self._all) >= MANY:
            drawn.give_up(f"a picture behind {MANY} others")
        self._coming[picture] = drawn
        self._unpassed.append(drawn)
        self._all.append(drawn)

    async def piece(self, picture: Picture, data: bytes) -> None:
        """Gather its bytes."""
        self._coming[picture].add(data)

    async def ended(self, picture: Picture) -> None:
        """What it is may still be open."""

    async def settled(self, picture: Picture) -> None:
        """Now it is known what it is: have it judged, or let it wait for the picture that it is a part of."""
        drawn = self._coming.pop(picture)
        drawn.number = picture.partial
        if picture.kind == "other" and picture.sniffed is None:
            self._pass(drawn)
            return
        if picture.form == "text":
            drawn.give_up("a picture in a data: URI that is not base64")
        elif picture.bad is not None:
            drawn.give_up(f"a picture that can't be read: {picture.bad}")
        elif picture.form == "base64" and picture.sniffed == "svg":
            drawn.give_up("a picture in SVG")
        if picture.end < 0:
            self._last.append(drawn)  # unless that is an upstream's breaking off, of which nothing gets out
            return
        whose = picture.index if picture.item is None else picture.item
        if picture.kind == "partial":
            self._partials.setdefault(whose, []).append(drawn)
            return
        group = self._partials.pop(whose, [])
        numbers = {one.number for one in group}
        alike = len(numbers) < len(group)  # of several pictures at once, and nothing tells whose they are
        self._start(drawn, group, url=picture.url, each=alike)

    # --- Judging.

    def _start(self, drawn: Drawn, group: Sequence[Drawn] = (), *, url: str | None = None, each: bool = False) -> None:
        """Have it judged, and with `each` its partial ones too; they all pass together."""
        if self._over:
            return
        work = self._judge(drawn, group, url, each=each)
        if self._outputs.aside is not None:
            self._outputs.aside(work, name="judge-output")
        else:
            self._judging.add(asyncio.get_running_loop().create_task(work, name="judge-output"))

    async def _judge(self, drawn: Drawn, group: Sequence[Drawn], url: str | None, *, each: bool) -> None:
        try:
            async with self._room:
                if url is not None:
                    await self._fetch(drawn, url)
                for one in (*group, drawn) if each else (drawn,):
                    if not await self._good(one):
                        return
            for one in (*group, drawn):
                self._pass(one)
        finally:
            for one in (*group, drawn):
                one.close()

    async def _good(self, drawn: Drawn) -> bool:
        """Whether it may go on. Raises what the judge raises, but for a picture that was asked about before."""
        if drawn.unseen is not None:
            await self._outputs.judge(Matter("output", unseen=(Unseen(drawn.path, drawn.unseen),)))
        elif (earlier := self._asked.get(drawn.digest)) is None:
            self._asked[drawn.digest] = asyncio.current_task()
            await self._outputs.judge(Matter("output", pictures=(drawn,)))
        elif earlier is not asyncio.current_task():
            await asyncio.wait((earlier,))
            return not earlier.cancelled() and earlier.exception() is None
        return True

    async def _fetch(self, drawn: Drawn, url: str) -> None:
        try:
            async with self._outputs.remote.open(url, upstream=self._upstream, limit=LARGEST) as fetched:
                async for piece in fetched:
                    drawn.add(piece)
        except (FetchFailed, FetchRefused) as error:
            drawn.give_up(f"a picture that can't be fetched: {error.why}")

    def _end(self) -> None:
        """The answer has ended, and with it all hope for the final picture of partial ones."""
        for drawn in self._last:
            self._start(drawn)
        for *group, last in self._partials.values():
            self._start(last, group, each=True)

    def _pass(self, drawn: Drawn) -> None:
        drawn.passed = True
        drawn.close()

    def _fallen(self) -> None:
        """Look what was judged meanwhile. Raises _Refused."""
        for task in [one for one in self._judging if one.done()]:
            self._judging.discard(task)
            why = ProxyError("The verdict on a picture never came.") if task.cancelled() else task.exception()
            if why is not None:
                raise _Refused(why)

    async def _pieces(self, source: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The pieces as they come; an empty one when a judgement has fallen before the next. Raises _Refused."""
        pull: asyncio.Task[bytes | None] | None = None
        try:
            while True:
                if pull is None and not self._judging:
                    piece = await anext(source, None)
                else:
                    pull = pull or asyncio.get_running_loop().create_task(_next(source), name="output-ahead")
                    await asyncio.wait((pull, *self._judging), return_when=asyncio.FIRST_COMPLETED)
                    self._fallen()
                    if not pull.done():
                        yield b""
                        continue
                    piece, pull = pull.result(), None
                if piece is None:
                    break
                yield piece
            self._end()
            while self._judging:
                await asyncio.wait(self._judging, return_when=asyncio.FIRST_COMPLETED)
                self._fallen()
                yield b""
        finally:
            if pull is not None:
                pull.cancel()
                await asyncio.wait((pull,))
                if not pull.cancelled():
                    pull.exception()

    def _withhold(self) -> None:
        """It came, and the client gets nothing of it: nobody further in or out can tell what it has cost."""
        if self._response.attempt is not None:
            self._response.attempt.withheld = True

    async def _aclose(self) -> None:
        self._over = True
        for task in self._judging:
            task.cancel()
        await asyncio.gather(*self._judging, return_exceptions=True)
        for drawn in self._all:
            drawn.close()

    def finished(self, outcome: Outcome) -> None:
        """The exchange has ended, where nothing waited."""
        for drawn in self._coming.values():
            drawn.close()
        self._end()

    # --- An answer that is delivered whole or not at all.

    async def whole(self, *, text: bool) -> Response:
        """The same answer, when all its pictures have been judged."""
        body = self._response.body.keep(memory=MEMORY, limit=MOST)
        return await self._kept(body, self._drained(body, text=text))

    async def file(self, *, picture: bool) -> Response:
        """A file that is a picture itself; others go on."""
        ahead = Ahead(self._response.body)
        try:
            while len(ahead.held) < FIRST and await ahead.pull():
                pass
        except BaseException:
            await ahead.aclose()
            raise
        if not picture and sniff(ahead.held) is None:
            return replace(self._response, body=ahead)
        body = ahead.keep(memory=MEMORY, limit=MOST)
        return await self._kept(body, self._gathered(body))

    async def _kept(self, body: Body, judged: Coroutine[Any, Any, None]) -> Response:
        try:
            await judged
        except _Refused as refused:
            await body.aclose()
            self._withhold()
            raise refused.why from None
        except BaseException:
            await body.aclose()
            raise
        finally:
            await self._aclose()
        self._outputs.exchange.on_finish(lambda outcome: body.aclose())
        return replace(self._response, body=body)

    async def _drained(self, body: Body, *, text: bool) -> None:
        first = b""
        async with aclosing(aiter(body)) as pieces, aclosing(self._pieces(pieces)) as drained:  # type: ignore[type-var]
            async for piece in drained:
                first = first or piece.lstrip()[:1]
        reading = self._reading
        if reading.broken is None or text:
            return  # or no JSON: an upstream's page, words
        if self._response.body.coding is not None or (first in (b"{", b"[") and reading.size > SMALL):
            await self._unread("an answer that can't be read")

    async def _gathered(self, body: Body) -> None:
        drawn = Drawn("", self._outputs.views)
        self._all.append(drawn)
        async for piece in body:
            drawn.add(piece)
            if drawn.unseen is not None:
                break
        self._start(drawn)
        await asyncio.wait(self._judging)
        self._fallen()

    async def _unread(self, what: str) -> None:
        try:
            await self._outputs.judge(Matter("output", unseen=(Unseen("", what),)))
        except Exception as error:
            raise _Refused(error) from None

    # --- A stream.

    async def flow(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """What goes on: whole events, up to the first that holds a picture which has not passed."""
        waiting = Waiting()
        try:
            try:
                async with aclosing(self._pieces(pieces)) as coming:
                    async for piece in coming:
                        for ready in waiting.past(piece, self._goal()):
                            self._count(ready)
                            yield ready
            except _Refused as refused:
                self._withhold()
                error = refused.why
                if not isinstance(error, ProxyError) or not self._outputs.exchange.answered:
                    raise error from None  # nobody has heard of this answer yet, so it need not be one
                self._outputs.exchange.error = error
                for ready in waiting.past(b"", self._goal()):
                    self._count(ready)
                    yield ready
                yield _event(error, self._number + 1 if self._numbered else None)
                return
            for ready in waiting.past(b"", float("inf")):
                yield ready
        finally:
            waiting.close()
            await self._aclose()

    def _goal(self) -> int:
        while self._unpassed and self._unpassed[0].passed:
            self._unpassed.popleft()
        whole = self._reading.whole
        return min(self._unpassed[0].begin, whole) if self._unpassed else whole

    def _count(self, ready: bytes) -> None:
        at = ready.rfind(b'"sequence_number"') if self._numbered else -1
        if at >= 0 and (found := _NUMBER.match(ready, at)) is not None:
            self._number = int(found[1])


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)


def _event(error: ProxyError, number: int | None) -> bytes:
    """An error in a stream. Those of Responses have another shape; the SDKs raise for `error` wherever it is."""
    told = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
        "retryable": error.retryable,
        **error.more,
    }
    data: dict[str, Any] = {"error": told}
    if number is not None:
        data = {"type": "error", "code": error.code, "message": error.message, "param": error.param} | data
        data["sequence_number"] = number
    return b"event: error\ndata: %b\n\n" % orjson.dumps(data)
