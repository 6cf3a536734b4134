"""One request played on a stage: the client that asks it, and all that is known when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..model.exchange import Exchange, Outcome
from ..model.message import Headers, Request
from ..model.slots import Slot
from ..wire.server import Edge
from .pipe import Heard, Pipe
from .script import Asked
from .watch import LogKept, Watch

PATIENCE = 10.0  # seconds of the machine's time, after which a test that hangs is told so
Facts = Mapping[Slot[Any], Any]
PLAYING: ContextVar[Playing | None] = ContextVar("framegate_playing", default=None)


@dataclass(frozen=True, slots=True)
class Question:
    """A request as the client will say it."""

    method: str
    target: str
    head: bytes
    pieces: tuple[bytes | asyncio.Event, ...]  # of the body; what is to come with the head is not among them

    @classmethod
    def of(
        cls,
        request: Request | str,
        *,
        json: Any,
        body: bytes | None,
        pieces: Iterable[bytes | asyncio.Event] | None,
        headers: Mapping[str, str] | None,
    ) -> Question:
        """From what a test says of it."""
        if sum(given is not None for given in (json, body, pieces)) > 1:
            raise ValueError("a request has one body: json, body or pieces")
        known: list[tuple[bytes, bytes]] = []
        if isinstance(request, Request):
            method, target = request.method, request.target
            known += request.headers.raw
            if json is None and body is None and pieces is None and request.body.length != 0:
                body = request.body.now()
                if body is None:
                    raise ValueError("this request's body is not here yet; pass it as pieces=[...]")
        else:
            method, _, target = request.partition(" ")
            if not target:
                raise ValueError(f'a request is written "METHOD /path", not "{request}"')
        if json is not None:
            body = orjson.dumps(json)
            known.append((b"Content-Type", b"application/json"))
        for name, text in (headers or {}).items():
            key = name.lower().encode()
            known = [pair for pair in known if pair[0].lower() != key]
            known.append((name.encode(), text.encode()))
        names = {name.lower() for name, _ in known}
        if b"host" not in names:
            known.insert(0, (b"Host", b"localhost"))
        counted = b"content-length" in names
        if body is not None and not counted:
            known.append((b"Content-Length", b"%d" % len(body)))
        if pieces is not None and not counted:
            known.append((b"Transfer-Encoding", b"chunked"))
        start = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
        head = start + b"".join(b"%b: %b\r\n" % pair for pair in known) + b"\r\n" + (body or b"")
        parts: list[bytes | asyncio.Event] = []
        for piece in pieces or ():
            if isinstance(piece, asyncio.Event) or counted:
                parts.append(piece)
            elif piece:
                parts.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        if pieces is not None and not counted:
            parts.append(b"0\r\n\r\n")
        return cls(method, target, head, tuple(parts))


@dataclass(frozen=True, slots=True)
class Played:
    """What became of one request: what the client heard, what upstreams were asked, how the exchange ended."""

    status: int  # 0: the client heard nothing
    headers: Headers = field(repr=False)
    body: bytes
    whole: bool  # the answer came to its end; false when it was cut, or the client had left
    asked: tuple[Asked, ...]
    exchange: Exchange = field(repr=False)
    outcome: Outcome = field(repr=False)
    crash: BaseException | None  # what a plugin raised that it should not have

    def json(self) -> Any:
        """The body, read as JSON."""
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's envelope; raises AssertionError where the answer is none."""
        with suppress(orjson.JSONDecodeError, KeyError, TypeError):
            found = self.json()["error"]
            if isinstance(found, dict):
                return found
        raise AssertionError(f"the client heard no error: {self}")

    @property
    def events(self) -> list[Any]:
        """The data of each server-sent event, read as JSON where it is."""
        found: list[Any] = []
        for event in self.body.replace(b"\r\n", b"\n").split(b"\n\n"):
            lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                data = b"\n".join(lines)
                try:
                    found.append(orjson.loads(data))
                except orjson.JSONDecodeError:
                    found.append(data.decode("utf-8", "replace"))
        return found


class Playing:
    """A request that is being played. `await` it for the end; before that the client may look, or leave."""

    def __init__(
        self,
        question: Question,
        facts: Facts,
        edge: Edge,
        watch: Watch,
        log: LogKept,
        spoilt: Sequence[BaseException],
    ) -> None:
        self.facts = facts
        self.asked: list[Asked] = []  # what upstreams were asked so far
        self.exchange: Exchange | None = None  # none before the engine has opened one
        self._question = question
        self._log = log
        self._spoilt = spoilt
        self._outcome: Outcome | None = None
        self._wake = asyncio.Event()
        self._open = asyncio.Event()
        token = PLAYING.set(self)
        try:
            with watch.inside(known=True):
                self._pipe = Pipe(edge.listener(), self._wake.set, bodiless=question.method == "HEAD")
        finally:
            PLAYING.reset(token)
        self._client = asyncio.get_running_loop().create_task(self._say(), name="client")

    # --- told by the stage

    def opened(self, exchange: Exchange) -> None:
        """The engine has opened the exchange; the first finisher to come is the last to run."""
        self.exchange = exchange
        exchange.on_finish(self._finished)
        self._open.set()

    async def _finished(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._wake.set()

    # --- the client

    async def _say(self) -> None:
        await self._pipe.say(self._question.head)
        for piece in self._question.pieces:
            await self._open.wait()
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                await self._pipe.say(piece)
                await asyncio.sleep(0)  # so that the server sees this piece before the next comes

    async def heard(self, size: int = 0) -> bytes:
        """Wait until the answer's head and `size` bytes of its body are here; the body so far."""

        def here() -> bool:
            heard = self._pipe.heard()
            return self.over or (heard is not None and (len(heard.body) >= size or heard.whole))

        await self._until(here)
        heard = self._pipe.heard()
        return b"" if heard is None else heard.body

    def leave(self) -> None:
        """The client hangs up in the middle."""
        self._pipe.hang_up()

    @property
    def over(self) -> bool:
        """Whether the exchange has ended and its finishers have run."""
        return self._outcome is not None or (self.exchange is None and self._pipe.ended)

    def __await__(self) -> Generator[Any, None, Played]:
        return self._end().__await__()

    async def _end(self) -> Played:
        await self._until(lambda: self.over)
        await self.hang_up()
        if self._spoilt:
            raise self._spoilt[0]  # a script failed: whatever was heard after that means nothing
        heard = self._pipe.heard() or Heard(0, [], b"", False)
        if self.exchange is None or self._outcome is None:
            if not heard.status:
                raise ValueError(f"the client left before the server had read its request: {self}")
            text = heard.body.decode("utf-8", "replace")
            raise ValueError(f"the server could not read {self}: {heard.status} {text}")
        id = self.exchange.id
        crashes = [crash for _, details, crash in self._log.crashes if details.get("id") == id]
        return Played(
            heard.status,
            Headers(heard.pairs),
            heard.body,
            heard.whole,
            tuple(self.asked),
            self.exchange,
            self._outcome,
            crashes[0] if crashes else None,
        )

    async def hang_up(self) -> None:
        """Let go of the connection."""
        self._pipe.hang_up()
        self._client.cancel()
        await asyncio.gather(self._client, return_exceptions=True)

    async def _until(self, true: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not true():
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            raise AssertionError(f"after {PATIENCE:g} s there was still no end: {self}") from None

    def __repr__(self) -> str:
        asked = ", ".join(f"{one.method} {one.target} of '{one.upstream}'" for one in self.asked) or "nothing yet"
        return f"{self._question.method} {self._question.target} (asked of upstreams: {asked})"
