"""One field of a request replaced or removed; every other byte stays as it arrived."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote_plus

import orjson

from ..model.body import Body
from ..model.errors import BodyTooLarge, Rejected
from ..model.message import Request
from .fields import Step, blank, container, place, steps
from .multipart import boundary, parameters, parts
from .operation_body import gather, kept
from .pictures import in_base64
from .strict import SMALL

LIMIT = 64 * 2**20
PIECE = 2**18
# They describe the bytes that were (RFC 9530, RFC 1864).
OF_THE_BYTES = frozenset((b"digest", b"content-digest", b"repr-digest", b"content-md5"))

Cut = tuple[int, int, bytes | Body]  # from, to, what stands there instead


class Spliced(Body):
    """A body of which a stretch is replaced as it flows; read as often as what is behind it, and what is put there."""

    __slots__ = ("_cut", "_source", "length")

    def __init__(self, source: Body, cut: Cut) -> None:
        start, end, new = cut
        self._source = source
        self._cut = cut
        put = len(new) if isinstance(new, bytes) else new.length
        self.length = None if source.length is None or put is None else source.length - (end - start) + put

    def now(self) -> None:
        """Never here: it is put together as it is read."""
        return None

    def keep(self, *, memory: int, limit: int) -> Body:
        """Itself: what is behind it is kept."""
        return self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes before, the new ones, the bytes after."""
        start, end, new = self._cut
        at = 0
        told = False
        async with aclosing(_pieces(self._source)) as pieces:
            async for piece in pieces:
                stop = at + len(piece)
                if at < start:
                    yield piece if stop <= start else piece[: start - at]
                if not told and stop >= start:
                    told = True
                    async with aclosing(_pieces(new)) as put:
                        async for one in put:
                            yield one
                if stop > end:
                    yield piece if at >= end else piece[end - at :]
                at = stop
        if not told:  # it is put where nothing follows, after a body of no bytes
            async with aclosing(_pieces(new)) as put:
                async for one in put:
                    yield one

    async def aclose(self) -> None:
        """Let go of what is behind it, and of what is put there."""
        new = self._cut[2]
        try:
            if isinstance(new, Body):
                await new.aclose()
        finally:
            await self._source.aclose()
            await super().aclose()


class Quoted(Body):
    """A JSON string that holds another body's bytes in base64, behind a few words such as `data:image/png;base64,`."""

    __slots__ = ("_before", "_source", "length")

    def __init__(self, source: Body, before: str = "") -> None:
        self._source = source
        self._before = orjson.dumps(before)[:-1]
        length = source.length
        self.length = None if length is None else len(self._before) + (length + 2) // 3 * 4 + 1

    def now(self) -> None:
        """Never here: it is made as it is read."""
        return None

    def keep(self, *, memory: int, limit: int) -> Body:
        """Itself: it is read as often as what is behind it."""
        return self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The quote, the words, the text, the quote."""
        yield self._before
        async with aclosing(_pieces(self._source)) as pieces, aclosing(in_base64(pieces)) as text:
            async for piece in text:
                yield piece
        yield b'"'

    async def aclose(self) -> None:
        """Let go of what is behind it."""
        await self._source.aclose()
        await super().aclose()


async def _pieces(body: Body | bytes) -> AsyncGenerator[bytes]:
    data = body if isinstance(body, bytes) else body.now()
    if data is None:
        assert not isinstance(body, bytes)
        async for piece in body:
            yield piece
        return
    for at in range(0, len(data), PIECE):
        yield data[at : at + PIECE]


async def with_field(request: Request, field: str | Sequence[Step], value: Any, *, limit: int = LIMIT) -> Request:
    """The same request with one field set: in JSON a path such as "model" or "tools[0].model", in multipart the name of
    a part, without a body a parameter of the query.

    A field that is not there is added. Raises ValueError when there is nothing that could hold it, or several of that
    name; Rejected for a body that can't be read.
    """
    return await _changed(request, field, value, limit=limit)


async def with_strings(request: Request, strings: Mapping[str, Body]) -> Request:
    """The same JSON request with these bodies, by their paths, in the place of values: each must be written as JSON is.

    They are read when the request is, each time that it is. Raises ValueError where there is no such field.
    """
    body = request.body
    cuts = []
    for path, new in strings.items():
        cut = await _member(body, steps(path), new, LIMIT)
        assert cut is not None
        cuts.append(cut)
    changed: Body = kept(body)
    for cut in sorted(cuts, key=lambda cut: cut[0], reverse=True):
        changed = Spliced(changed, cut)
    return _described(request.with_body(changed))


async def without_field(request: Request, field: str | Sequence[Step], *, limit: int = LIMIT) -> Request:
    """The same request without one field; without change when it is not there."""
    return await _changed(request, field, _NOTHING, limit=limit)


def with_parameter(request: Request, name: str, value: Any) -> Request:
    """The same request with one parameter of its query set, whatever its body."""
    return _query(request, name, value)


_NOTHING: Any = object()


async def _changed(request: Request, field: str | Sequence[Step], value: Any, *, limit: int) -> Request:
    body = request.body
    if body.length == 0:
        return _query(request, _name(field), value)
    kind = parameters(request.headers.get("content-type", "") or "")[0]
    if kind == "multipart/form-data":
        cut = await _part(request, _name(field), value)
    elif kind == "application/json":
        cut = await _member(body, steps(field) if isinstance(field, str) else tuple(field), value, limit)
    else:
        raise Rejected("A field can be changed in JSON and in a form only.", status=415, code="unsupported_encoding")
    if cut is None:
        return request if body.kept is None else request.with_body(body.kept)
    data = body.now()
    if data is not None and len(data) <= SMALL and isinstance(cut[2], bytes):
        changed = request.with_body(data[: cut[0]] + cut[2] + data[cut[1] :])
    else:
        changed = request.with_body(Spliced(kept(body), cut))
    return _described(changed)


def _described(changed: Request) -> Request:
    """Without headers that speak of the bytes that were."""
    if any(name.lower() in OF_THE_BYTES for name, _ in changed.headers.raw):
        changed = replace(changed, headers=changed.headers.without(OF_THE_BYTES))
    return changed


async def _member(body: Body, path: tuple[Step, ...], value: Any, limit: int) -> Cut | None:
    """What changes in a JSON document."""
    reading = await gather(body, limit)
    if reading is None:
        raise BodyTooLarge(limit)
    document = reading.document
    found = place(document, path)
    span: tuple[int, int] | None
    new: bytes | Body
    if value is _NOTHING:
        span, new = (found.cut if found else None), b""
    elif isinstance(value, Body):
        if found is None:
            raise ValueError(f"there is no field {'.'.join(map(str, path))!r}")
        span, new = (found.value, found.end), value
    elif found is not None:
        span, new = (found.value, found.end), orjson.dumps(value)
    else:
        at = container(document, path)
        if at is None:
            raise ValueError(f"there is no object that could hold {'.'.join(map(str, path))!r}")
        new = orjson.dumps(path[-1]) + b":" + orjson.dumps(value)
        if document[blank(document, at + 1)] != 0x7D:
            new += b","
        span = at + 1, at + 1
    if span is None:
        return None
    return reading.place(span[0]), reading.place(span[1]), new


async def _part(request: Request, name: str, value: Any) -> Cut | None:
    """What changes in a multipart body. Its end is read, too: one that is cut off is refused, not mended."""
    content_type = request.headers.get("content-type")
    found: tuple[int, int, int, int] | None = None
    first = -1
    async for part in parts(kept(request.body), content_type):
        async for _ in part.body:
            pass
        first = part.start if first < 0 else first
        if part.name == name:
            if found is not None:
                raise ValueError(f"several parts are named {name!r}")
            found = part.start, part.data, part.end, part.after
    if value is _NOTHING:
        return None if found is None else (found[0], found[3], b"")
    new = _text(value)
    mark = b"\r\n--" + boundary(content_type)
    if mark in b"\r\n" + new + b"\r\n" or mark[2:] in new:
        raise ValueError("the new value holds the boundary of the body")
    if found is not None:
        return found[1], found[2], new
    if first < 0:
        raise ValueError("there is no part before which another could be put")
    if any(byte < " " or byte == "\x7f" for byte in name):
        raise ValueError("the name of a part must not hold control characters")
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    head = f'Content-Disposition: form-data; name="{quoted}"\r\n\r\n'.encode()
    return first, first, mark[2:] + b"\r\n" + head + new + b"\r\n"


def _text(value: Any) -> bytes:
    """A value as a form field says it."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


def _query(request: Request, name: str, value: Any) -> Request:
    path, mark, query = request.target.partition("?")
    pairs = query.split("&") if mark else []
    found = [index for index, pair in enumerate(pairs) if unquote_plus(pair.partition("=")[0]) == name]
    if len(found) > 1:
        raise ValueError(f"several parameters are named {name!r}")
    if value is _NOTHING:
        if not found:
            return request
        del pairs[found[0]]
    else:
        new = quote(_text(value), safe="")
        if found:
            pairs[found[0]] = pairs[found[0]].partition("=")[0] + "=" + new
        else:
            pairs.append(quote(name, safe="") + "=" + new)
    return request.with_target(path + ("?" if pairs else "") + "&".join(pairs))


def _name(field: str | Sequence[Step]) -> str:
    if isinstance(field, str):
        return field
    if len(field) == 1 and isinstance(field[0], str):
        return field[0]
    raise ValueError("a form and a query have names, no paths")
