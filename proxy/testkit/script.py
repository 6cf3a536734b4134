"""Upstreams that a test tells what to answer: no socket, the same door that the real wire stands behind."""

from __future__ import annotations

import asyncio
import http
import inspect
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from ..model.body import EMPTY, Body, Skim
from ..model.errors import BodyConsumed, ProxyError, UpstreamError
from ..model.message import Headers, RawHeaders, Request, Response
from ..wire.headers import INWARD_FILTER, OUTWARD_FILTER, end_to_end

Piece = bytes | asyncio.Event | ProxyError
E = TypeVar("E", bound=ProxyError)
LENGTH = frozenset((b"content-length",))


@dataclass(frozen=True, slots=True)
class Reply:
    """What an upstream is to answer, as often as it is asked; `answer(...)` makes one."""

    status: int
    headers: Headers
    pieces: tuple[Piece, ...]
    length: int | None  # what the head says; None: nothing
    whole: bool  # it comes at once with its head
    wait: asyncio.Event | None = None


Told = Reply | UpstreamError
Teller = Callable[["Asked"], Told | Awaitable[Told]]
Script = Told | Teller | Sequence[Told | Teller]


@dataclass(slots=True)
class Asked:
    """One request as an upstream received it."""

    upstream: str
    method: str
    target: str  # as it stands in the request line there
    headers: Headers
    body: bytes = b""
    play: object = field(default=None, repr=False)  # in which it was asked; None: in none

    def json(self) -> Any:
        """The body, read as JSON."""
        return orjson.loads(self.body)


def answer(
    status: int = 200,
    *,
    json: Any = None,
    sse: Iterable[Any] | None = None,
    body: bytes | None = None,
    pieces: Iterable[Piece] | None = None,
    cuts: Sequence[int] = (),
    headers: Mapping[str, str] | None = None,
    wait: asyncio.Event | None = None,
) -> Reply:
    """An upstream's answer, with a body of one kind: `json` (the default: `{}`), `sse`, `body` or `pieces`.

    `sse` is a list of events: a dict is one as OpenAI writes it (its "type", where there is one, names the event), a
    string is an event's data as it is. `pieces` come one by one, their length untold. Among events and pieces, an
    `asyncio.Event` is waited for at that place, and an error is raised there: `broken()` is the one that a real
    upstream ends in. `cuts` are the places at which a `json`, `body` or `sse` falls into pieces; without any, the
    first two are here whole when the head is, and each event is a piece. `wait` holds back the head.
    """
    if sum(given is not None for given in (json, sse, body, pieces)) > 1:
        raise ValueError("an answer has one body: json, sse, body or pieces")
    known: dict[str, str] = {}
    length: int | None = None
    parts: tuple[Piece, ...]
    if sse is not None:
        known["content-type"] = "text/event-stream"
        parts = tuple([_event(one) for one in sse])
        if cuts:
            joined = [part for part in parts if isinstance(part, bytes)]
            if len(joined) < len(parts):
                raise ValueError("cuts are for events alone: what is waited for or raised has a place of its own")
            parts = _cut(b"".join(joined), cuts)
    elif pieces is not None:
        parts = tuple(pieces)
    else:
        if body is None:
            known["content-type"] = "application/json"
            body = orjson.dumps({} if json is None else json)
        length = len(body)
        known["content-length"] = str(length)
        parts = _cut(body, cuts)
    if cuts and pieces is not None:
        raise ValueError("cuts are for json, body and sse; pieces are cut already")
    known.update({name.lower(): text for name, text in (headers or {}).items()})
    raw = tuple([(name.encode(), text.encode()) for name, text in known.items()])
    return Reply(status, Headers(raw), parts, length, whole=length is not None and not cuts, wait=wait)


def broken() -> UpstreamError:
    """How an upstream's answer ends in the middle; stands among the pieces of an `answer`."""
    return UpstreamError("the answer broke off", sent=True)


def _cut(data: bytes, places: Sequence[int]) -> tuple[bytes, ...]:
    return tuple([data[start:end] for start, end in itertools.pairwise([0, *sorted(places), len(data)])])


def _event(one: Any) -> Piece:
    if isinstance(one, asyncio.Event | ProxyError):
        return one
    if isinstance(one, str):
        return b"data: %b\n\n" % one.encode()
    name = one.get("type") if isinstance(one, dict) else None
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: %b\n\n" % orjson.dumps(one)


class ScriptedWire:
    """Stands where an upstream's wire does, records what it is asked, and answers as it was told."""

    def __init__(
        self,
        name: str,
        script: Script,
        *,
        target: Callable[[str], bytes],
        asked: Callable[[Asked], None],
        spoilt: Callable[[BaseException], None],
    ) -> None:
        self._name = name
        self._script = script
        self._target = target
        self._asked = asked
        self._spoilt = spoilt
        self._count = 0
        self.bodies: list[ScriptedBody] = []

    async def send(self, request: Request) -> Response:
        """Take the request in to its end, then answer."""
        asked = Asked(
            self._name,
            request.method,
            self._target(request.target).decode("utf-8", "surrogateescape"),
            Headers(_framed(end_to_end(request.headers.raw, INWARD_FILTER), request.body.length)),
        )
        self._asked(asked)
        async for piece in request.body:
            asked.body += piece
        self._count += 1
        told = await self._told(asked)
        if isinstance(told, UpstreamError):
            raise fresh(told)
        if told.wait is not None:
            await told.wait.wait()
        headers = Headers(tuple(end_to_end(told.headers.raw, OUTWARD_FILTER)))
        body: Body = EMPTY
        if request.method != "HEAD" and told.status not in (204, 304) and told.pieces != (b"",):
            body = ScriptedBody(told, f"the answer to {asked.method} {asked.target} from upstream '{self._name}'")
            self.bodies.append(body)
        reason = http.HTTPStatus(told.status).phrase.encode() if told.status in set(http.HTTPStatus) else b""
        return Response(told.status, headers, body, reason=reason, attempt=request.attempt)

    async def _told(self, asked: Asked) -> Told:
        """What the script says to this; a script that fails, fails the test, whatever the plugin makes of it."""
        try:
            script: Told | Teller
            if isinstance(self._script, Sequence):
                if self._count > len(self._script):
                    told_of = f"was asked {self._count} times and told {len(self._script)} answers"
                    raise AssertionError(f"upstream '{self._name}' {told_of}")
                script = self._script[self._count - 1]
            else:
                script = self._script
            if isinstance(script, Reply | UpstreamError):
                return script
            told = script(asked)
            if inspect.isawaitable(told):
                told = await told
            if not isinstance(told, Reply | UpstreamError):
                raise TypeError(f"a script gives answer(...) or UpstreamError(...), not {told!r}")
            return told
        except Exception as error:
            self._spoilt(error)
            raise

    async def aclose(self) -> None:
        """There is nothing to hang up."""

    async def dial(self) -> None:
        """It is always there."""


class ScriptedBody(Body):
    """An answer's body that knows whether somebody has read it to its end or let it go."""

    __slots__ = ("_read", "_reply", "_skim", "done", "length", "name")

    def __init__(self, reply: Reply, name: str) -> None:
        self._reply = reply
        self._read = False
        self._skim: Skim | None = None
        self.done = False
        self.name = name
        self.length = reply.length

    def now(self) -> bytes | None:
        """All of it, where it came with its head."""
        if not self._reply.whole or self._read:
            return None
        self.done = True
        return b"".join([piece for piece in self._reply.pieces if isinstance(piece, bytes)])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Its pieces as they were told."""
        whole = self.now()
        if whole is not None:
            yield whole
            return
        if self._read or self.done:
            raise BodyConsumed
        self._read = True
        for piece in self._reply.pieces:
            if isinstance(piece, bytes):
                if not await self._taken(piece):
                    yield piece
                continue
            try:
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                else:
                    raise fresh(piece)
            except BaseException:
                self.done = True  # broken or cancelled: nothing is held any more
                raise
        self.done = True

    def skimmed(self, skim: Skim) -> None:
        """Offer it each piece before that flows, as the real wire does."""
        self._skim = skim

    async def _taken(self, piece: bytes) -> bool:
        if self._skim is None:
            return False
        room = asyncio.Event()
        more = self._skim(piece, room.set)
        if more is False:
            await room.wait()
        return more is not None

    async def aclose(self) -> None:
        """Let go of it."""
        self.done = True
        await super().aclose()


def fresh(error: E) -> E:
    """The same error anew: one that is raised twice would carry the marks of its first time."""
    new = type(error).__new__(type(error), *error.args)
    new.__dict__.update(error.__dict__)
    return new


def _framed(pairs: list[tuple[bytes, bytes]], length: int | None) -> RawHeaders:
    """The headers with the framing that the real wire gives the body."""
    declared = [pair[1] for pair in pairs if pair[0].lower() in LENGTH]
    if length is not None and (declared == [b"%d" % length] or (length == 0 and not declared)):
        return tuple(pairs)
    framing = (b"Transfer-Encoding", b"chunked") if length is None else (b"Content-Length", b"%d" % length)
    return (*(pair for pair in pairs if pair[0].lower() not in LENGTH), framing)
