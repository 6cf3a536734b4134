"""Headers, Request and Response: frozen values that travel through the chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from multidict import CIMultiDict, CIMultiDictProxy

from .body import EMPTY, Body, Bytes, Through
from .coding import Plain
from .names import LOWER
from .slots import Slots
from .socket import Change, Passage, Socket

if TYPE_CHECKING:
    from .exchange import Attempt
    from .reading import Reading

RawHeaders = tuple[tuple[bytes, bytes], ...]
Transform = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]

# These describe the very bytes of a body; none survives a change of them (RFC 9110 §8, RFC 9530).
OF_THE_BYTES = frozenset(
    (b"content-length", b"content-encoding", b"etag", b"digest", b"content-digest", b"repr-digest")
)


class Headers:
    """Headers as they arrived, in their own case, order and repeats; a case-insensitive view is made when asked for.

    Text is UTF-8 with surrogate escapes, so that any bytes survive the way to `str` and back.
    """

    __slots__ = ("_view", "raw")

    def __init__(self, raw: Iterable[tuple[bytes, bytes]] = (), view: CIMultiDictProxy[str] | None = None) -> None:
        self.raw: RawHeaders = raw if type(raw) is tuple else tuple(raw)
        self._view = view

    @classmethod
    def of(cls, **named: str) -> Headers:
        """Headers from keywords: `Headers.of(content_type="text/plain")`."""
        return cls().replaced(**named)

    @property
    def view(self) -> CIMultiDictProxy[str]:
        """All headers by case-insensitive name."""
        if self._view is None:
            self._view = CIMultiDictProxy(CIMultiDict([(_text(name), _text(value)) for name, value in self.raw]))
        return self._view

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of that name, or the default."""
        return self.view.get(name, default)

    def getall(self, name: str) -> list[str]:
        """All values of that name, in order."""
        return self.view.getall(name, [])

    def __contains__(self, name: str) -> bool:
        return name in self.view

    def replaced(self, **named: str | None) -> Headers:
        """A copy with these set (at the place of the first of that name, else at the end) or removed (None).

        Underscores in the keywords stand for hyphens. Raises ValueError for a value that holds CR, LF or NUL.
        """
        left = {_bytes(name.replace("_", "-")): _value(value) for name, value in named.items()}
        absent = set(left)
        out: list[tuple[bytes, bytes]] = []
        for name, old in self.raw:
            key = LOWER[name]
            if key not in left:
                out.append((name, old))
            elif key in absent:
                absent.discard(key)
                if (new := left[key]) is not None:
                    out.append((name, new))
        out += [(key, new) for key, new in left.items() if key in absent and new is not None]
        return Headers(tuple(out))

    def without(self, names: frozenset[bytes]) -> Headers:
        """A copy without these lower-case names."""
        return Headers(tuple([pair for pair in self.raw if LOWER[pair[0]] not in names]))

    def __repr__(self) -> str:
        # Values may be secrets; the names tell enough.
        return f"Headers({', '.join(_text(name) for name, _ in self.raw)})"


# What a request or response is while it is being filled. Python makes a frozen dataclass at three times the price of
# these, and a small request makes five: so they are filled here, and frozen by becoming what they are.


class _OpenRequest:
    __slots__ = ("attempt", "body", "headers", "method", "target", "upstream")


class _OpenResponse:
    __slots__ = ("attempt", "body", "facts", "headers", "reading", "reason", "socket", "status")


@dataclass(frozen=True, slots=True, init=False)
class Request:
    """What travels inward. Changing it means making another."""

    method: str
    target: str  # path?query exactly as received, never re-encoded
    headers: Headers
    body: Body
    upstream: str | None  # None: the route's
    attempt: Attempt | None  # behind the upstream's door: the call that it belongs to

    def __new__(
        cls,
        method: str,
        target: str,
        headers: Headers,
        body: Body = EMPTY,
        upstream: str | None = None,
        attempt: Attempt | None = None,
    ) -> Self:
        made: Any = _OpenRequest()
        made.method = method
        made.target = target
        made.headers = headers
        made.body = body
        made.upstream = upstream
        made.attempt = attempt
        made.__class__ = cls
        return made  # type: ignore[no-any-return]

    @property
    def path(self) -> str:
        """The target before its first question mark, as received."""
        return self.target.partition("?")[0]

    def to(self, upstream: str) -> Request:
        """The same request, addressed to that upstream."""
        return Request(self.method, self.target, self.headers, self.body, upstream, self.attempt)

    def with_target(self, target: str) -> Request:
        """The same request for another path and query."""
        return Request(self.method, target, self.headers, self.body, self.upstream, self.attempt)

    def with_headers(self, **named: str | None) -> Request:
        """The same request with headers set or (None) removed."""
        return Request(self.method, self.target, self.headers.replaced(**named), self.body, self.upstream, self.attempt)

    def with_body(self, body: bytes | Body) -> Request:
        """The same request with another body; its length header follows."""
        new = Bytes(body) if isinstance(body, bytes) else body
        headers = self.headers
        if new.length != self.body.length or new.length is None:
            length = None if new.length is None else str(new.length)
            headers = headers.replaced(content_length=length, transfer_encoding=None)
        return Request(self.method, self.target, headers, new, self.upstream, self.attempt)

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path}, to={self.upstream}, {self.body!r})"


@dataclass(frozen=True, slots=True, init=False)
class Response:
    """What travels outward: a head, and a body that is read when somebody asks."""

    status: int
    headers: Headers
    body: Body
    facts: Slots  # facts about this answer, shared by all responses derived from it
    socket: Socket | None  # status 101: messages both ways
    reason: bytes  # the reason phrase as the upstream wrote it
    attempt: Attempt | None  # the call that it answers
    reading: Reading | None  # what the one reader sees in it, where a plugin of the route reads

    def __new__(
        cls,
        status: int,
        headers: Headers | None = None,
        body: Body = EMPTY,
        facts: Slots | None = None,
        socket: Socket | None = None,
        reason: bytes = b"",
        attempt: Attempt | None = None,
        reading: Reading | None = None,
    ) -> Self:
        made: Any = _OpenResponse()
        made.status = status
        made.headers = headers if headers is not None else Headers()
        made.body = body
        made.facts = facts if facts is not None else Slots()
        made.socket = socket
        made.reason = reason
        made.attempt = attempt
        made.reading = reading
        made.__class__ = cls
        return made  # type: ignore[no-any-return]

    def but(self, *, headers: Headers | None = None, body: Body | None = None) -> Response:
        """The same answer with these headers, or this body, in the place of its own."""
        return Response(  # a quarter of what `replace` takes, and most answers are changed more than once
            self.status,
            self.headers if headers is None else headers,
            self.body if body is None else body,
            self.facts,
            self.socket,
            self.reason,
            self.attempt,
            self.reading,
        )

    def through(
        self, transform: Transform | None = None, *, inward: Change | None = None, outward: Change | None = None
    ) -> Response:
        """The same answer with its body rewritten as it flows; what described the old bytes is dropped.

        An answer that came compressed although the route reads is inflated first. On a socket, `inward` sees each
        message of the client's and `outward` each of the upstream's.
        """
        if self.socket is not None:
            return replace(self, socket=Passage(self.socket, inward, outward))
        if transform is None:
            return self
        body = self.body if self.body.coding is None else Plain(self.body)
        return self.but(headers=self.headers.without(OF_THE_BYTES), body=Through(body, transform))

    def with_headers(self, **named: str | None) -> Response:
        """The same answer with headers set or (None) removed."""
        return self.but(headers=self.headers.replaced(**named))

    def with_body(self, body: bytes) -> Response:
        """The same answer with another body; the old one stays with whoever still holds it, to be closed."""
        headers = self.headers.without(OF_THE_BYTES).replaced(content_length=str(len(body)))
        return self.but(headers=headers, body=Bytes(body))

    async def aclose(self) -> None:
        """Let go of the body and the socket. Who drops a response closes it."""
        if self.socket is not None:
            await self.socket.close()
        await self.body.aclose()

    def __repr__(self) -> str:
        return f"Response({self.status}, {self.body!r})"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.lower().encode("utf-8", "surrogateescape")


def _value(text: str | None) -> bytes | None:
    if text is None:
        return None
    raw = text.encode("utf-8", "surrogateescape")
    if 13 in raw or 10 in raw or 0 in raw:  # numbers, as they are a tenth of the price of bytes
        raise ValueError("a header value must not hold CR, LF or NUL")
    return raw.strip(b" \t")
