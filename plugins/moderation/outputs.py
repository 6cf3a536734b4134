"""Outputs: generated pictures are judged before anything of them is delivered."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import orjson

from proxy.api import Ahead, Body, Exchange, ProxyError, Reading, Remote, Response, sniff

from .drawn import MEMORY, Views, Waiting
from .pictures import Judge, Pictures, Refused

MOST = 2**40  # bytes of an answer: what the disk bears
SMALL = 2**12  # bytes of a broken answer in which no picture is worth a look
FIRST = 32  # bytes that show what sort of file it is

_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})')


@dataclass(frozen=True, slots=True)
class Outputs:
    """The inspector of one exchange's answers: `exchange.inspect(Outputs(...))`, before it is forwarded.

    `judge` raises the ProxyError that the client is to hear. `kind` is what the request asks, for the shape of an error
    in a stream.
    """

    exchange: Exchange
    judge: Judge
    views: Views
    remote: Remote
    kind: str = ""

    async def __call__(self, response: Response) -> Response:
        """The answer, of which nothing that shows a picture goes on unjudged."""
        reading = response.reading
        if reading is None or response.body.now() == b"":
            return response
        media = (response.headers.get("Content-Type") or "text/plain").partition(";")[0].strip().lower()
        upstream = response.attempt.upstream if response.attempt is not None else None
        pictures = Pictures(self.judge, self.views, self.remote, upstream=upstream)
        withheld = _Withheld(self, response, reading, pictures)
        if media.startswith("image/") or media == "application/octet-stream":
            return await withheld.file(picture=media.startswith("image/"))
        if not (media.startswith("text/") or media == "application/json" or media.endswith("+json")):
            return response  # sound, video: nothing here could look at it
        reading.images(pictures)
        if media == "text/event-stream":
            return response.through(withheld.flow)
        return await withheld.whole(text=media.startswith("text/"))


class _Withheld:
    """One answer on its way in: all of it waits, or what stands behind a picture that has not passed."""

    def __init__(self, outputs: Outputs, response: Response, reading: Reading, pictures: Pictures) -> None:
        self._exchange = outputs.exchange
        self._response = response
        self._reading = reading
        self._pictures = pictures
        self._numbered = outputs.kind == "response"
        self._number = -1  # of the last event that went on

    def _withhold(self) -> None:
        """It came, and the client gets nothing of it: nobody further in or out can tell what it has cost."""
        if self._response.attempt is not None:
            self._response.attempt.withheld = True

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
        return await self._kept(body, self._pictures.alone(aiter(body)))

    async def _kept(self, body: Body, judged: Coroutine[Any, Any, None]) -> Response:
        try:
            await judged
        except Refused as refused:
            await body.aclose()
            self._withhold()
            raise refused.why from None
        except BaseException:
            await body.aclose()
            raise
        finally:
            await self._pictures.aclose()
        self._exchange.on_finish(lambda outcome: body.aclose())
        return replace(self._response, body=body)

    async def _drained(self, body: Body, *, text: bool) -> None:
        first = b""
        async with aclosing(aiter(body)) as pieces, aclosing(self._pictures.pieces(pieces)) as drained:  # type: ignore[type-var]
            async for piece in drained:
                first = first or piece.lstrip()[:1]
        reading = self._reading
        if reading.broken is None or text:
            return  # or no JSON: an upstream's page, words
        if self._response.body.coding is not None or (first in (b"{", b"[") and reading.size > SMALL):
            await self._pictures.unread("an answer that can't be read")

    # --- A stream.

    async def flow(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """What goes on: whole events, up to the first that holds a picture which has not passed."""
        waiting = Waiting()
        try:
            try:
                async with aclosing(self._pictures.pieces(pieces)) as coming:
                    async for piece in coming:
                        for ready in waiting.past(piece, self._goal):
                            self._count(ready)
                            yield ready
            except Refused as refused:
                self._withhold()
                error = refused.why
                if not isinstance(error, ProxyError) or not self._exchange.answered:
                    raise error from None  # nobody has heard of this answer yet, so it need not be one
                self._exchange.error = error
                for ready in waiting.past(b"", self._goal):
                    self._count(ready)
                    yield ready
                yield _event(error, self._number + 1 if self._numbered else None)
                return
            for ready in waiting.past(b"", float("inf")):
                yield ready
        finally:
            waiting.close()
            await self._pictures.aclose()

    @property
    def _goal(self) -> int:
        return self._pictures.goal(self._reading.whole)

    def _count(self, ready: bytes) -> None:
        at = ready.rfind(b'"sequence_number"') if self._numbered else -1
        if at >= 0 and (found := _NUMBER.match(ready, at)) is not None:
            self._number = int(found[1])


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
