"""The pictures of one answer, gathered as the reader tells of them, and judged side by side."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from proxy.api import FetchFailed, FetchRefused, Picture, ProxyError, Remote, Unseen

from .drawn import LARGEST, Drawn, Views
from .verdict import Matter

AT_ONCE = 4  # pictures of one answer that are judged side by side
MANY = 256  # pictures of one answer; what comes behind them nobody looks at

Judge = Callable[[Matter], Awaitable[None]]


class Refused(Exception):
    """A judge has refused, or could not judge; `why` is for the client."""

    def __init__(self, why: BaseException) -> None:
        super().__init__()
        self.why = why


class Pictures:
    """The taker of one answer's pictures, which has them judged while it flows."""

    def __init__(
        self,
        judge: Judge,
        views: Views,
        remote: Remote,
        *,
        upstream: str | None,
    ) -> None:
        self._judge = judge
        self._views = views
        self._remote = remote
        self._upstream = upstream
        self._coming: dict[Picture, Drawn] = {}  # not settled
        self._unpassed: deque[Drawn] = deque()
        self._partials: dict[str | int | None, list[Drawn]] = {}  # settled, by what tells whose they are
        self._last: list[Drawn] = []  # judged when the answer has come to its end
        self._all: list[Drawn] = []
        self._judging: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._asked: dict[bytes, asyncio.Future[bool]] = {}  # by digest: a picture that comes again is judged once
        self._over = False

    # --- What the reader tells.

    def wants(self, picture: Picture) -> bool:
        """All: what it calls itself may be wrong."""
        return True

    async def begun(self, picture: Picture) -> None:
        """It waits from here on."""
        drawn = Drawn(picture.path, self._views, begin=picture.event)
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
        if picture.kind == "other" and picture.sniffed is None:
            drawn.passed = True
            drawn.close()
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
            drawn.judging = self._begin(self._judged(drawn))
        else:
            self._begin(self._final(drawn, self._partials.pop(whose, ()), picture.url))

    # --- Judging.

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        if self._over:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work, name="judge-output")
        self._judging.add(task)
        return task

    async def _judged(self, drawn: Drawn, url: str | None = None) -> None:
        """Have it judged, and no more. Raises what the judge raises."""
        async with self._room:
            if url is not None:
                await self._fetch(drawn, url)
            drawn.good = await self._good(drawn)

    async def _final(self, drawn: Drawn, partials: Sequence[Drawn], url: str | None) -> None:
        """Have it judged; it passes together with its partial ones, which were judged as they came."""
        try:
            await self._judged(drawn, url)
        finally:
            drawn.close()
        await self._pass((*partials, drawn))

    async def _pass(self, group: Sequence[Drawn]) -> None:
        """Let them go on, once all of them have been found good."""
        if waiting := [one.judging for one in group if one.judging is not None]:
            await asyncio.wait(waiting)
        if all(one.good for one in group):
            for one in group:
                one.passed = True
                one.close()

    async def _good(self, drawn: Drawn) -> bool:
        """Whether it may go on. Raises what the judge raises; of a picture that was asked about before, it has."""
        if drawn.unseen is not None:
            await self._judge(Matter("output", unseen=(Unseen(drawn.path, drawn.unseen),)))
            return True
        if (earlier := self._asked.get(drawn.digest)) is not None:
            return await asyncio.shield(earlier)
        verdict = self._asked[drawn.digest] = asyncio.get_running_loop().create_future()
        passed = False
        try:
            await self._judge(Matter("output", pictures=(drawn,)))
            passed = True
        finally:
            verdict.set_result(passed)
        return True

    async def _fetch(self, drawn: Drawn, url: str) -> None:
        try:
            async with self._remote.open(url, upstream=self._upstream, limit=LARGEST) as fetched:
                async for piece in fetched:
                    drawn.add(piece)
        except (FetchFailed, FetchRefused) as error:
            drawn.give_up(f"a picture that can't be fetched: {error.why}")

    def _end(self) -> None:
        """The answer has ended, and with it all hope for the final picture of partial ones."""
        for drawn in self._last:
            self._begin(self._final(drawn, (), None))
        for group in self._partials.values():
            self._begin(self._pass(group))

    def fallen(self) -> None:
        """Look what was judged meanwhile. Raises Refused."""
        for task in [one for one in self._judging if one.done()]:
            self._judging.discard(task)
            why = ProxyError("The verdict on a picture never came.") if task.cancelled() else task.exception()
            if why is not None:
                raise Refused(why)

    def goal(self, whole: int) -> int:
        """The offset up to which a stream may go on, of which events before `whole` are whole."""
        while self._unpassed and self._unpassed[0].passed:
            self._unpassed.popleft()
        return min(self._unpassed[0].begin, whole) if self._unpassed else whole

    async def alone(self, data: AsyncIterator[bytes]) -> None:
        """Judge what is all one picture. Raises Refused."""
        drawn = Drawn("", self._views)
        self._all.append(drawn)
        async for piece in data:
            drawn.add(piece)
            if drawn.unseen is not None:
                break
        self._begin(self._final(drawn, (), None))
        await asyncio.wait(self._judging)
        self.fallen()

    async def unread(self, what: str) -> None:
        """Nobody can look at any of it. Raises Refused."""
        try:
            await self._judge(Matter("output", unseen=(Unseen("", what),)))
        except Exception as error:
            raise Refused(error) from None

    async def pieces(self, source: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The pieces as they come; an empty one when a judgement has fallen before the next. Raises Refused."""
        pull: asyncio.Task[bytes | None] | None = None
        try:
            while True:
                if pull is None and not self._judging:
                    piece = await anext(source, None)
                else:
                    pull = pull or asyncio.get_running_loop().create_task(_next(source), name="output-ahead")
                    await asyncio.wait((pull, *self._judging), return_when=asyncio.FIRST_COMPLETED)
                    self.fallen()
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
                self.fallen()
                yield b""
        finally:
            self._over = True  # what is cut off by this is told to the taker yet, and matters no more
            if pull is not None:
                pull.cancel()
                await asyncio.wait((pull,))
                if not pull.cancelled():
                    pull.exception()

    async def aclose(self) -> None:
        """Stop what is being judged, and let go of all bytes."""
        self._over = True
        for task in self._judging:
            task.cancel()
        await asyncio.gather(*self._judging, return_exceptions=True)
        for drawn in self._all:
            drawn.close()


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)
