"""multipart/form-data (RFC 7578 over RFC 2046 §5.1), read as it streams; what parsers disagree on is refused.

The parts of one body are read by several programs on its way. A line feed alone before a boundary, a boundary followed
by more letters, a header given twice or folded: each is a delimiter, or a name, to one of them and data to another.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple, NoReturn
from urllib.parse import unquote_to_bytes

from ..model.body import Body
from ..model.errors import BodyConsumed, Rejected

HEADERS = 8192  # bytes of one part's headers; a file name is at most 255 on any file system
PARTS = 1000  # of one body: 16 images and some thirty fields are much

_PARAMETER = re.compile(rb'[ \t]*;[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s";,]+))')
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 §5.1.1
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_ESCAPE = re.compile(rb'\\(["\\])')
_EXTENDED = re.compile(rb"(?i:utf-8)'[A-Za-z0-9-]*'((?:%[0-9A-Fa-f]{2}|[!#$&+.^_`|~0-9A-Za-z-])*)")  # RFC 8187


class Head(NamedTuple):
    """A part begins: its delimiter stands at `start`, its data at `data`."""

    start: int
    data: int
    raw: bytes  # its headers as they came


class Data(NamedTuple):
    """A piece of the data of the part that began last."""

    piece: bytes


class End(NamedTuple):
    """The data of the part ends at `end`; the delimiter after it begins at `after`."""

    end: int
    after: int


Event = Head | Data | End


class Splitter:
    """Cuts a body at its boundary, fed with pieces cut anywhere. Raises Rejected."""

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"--" + boundary
        self._buffer = b""
        self._base = 0  # where the buffer stands in the body
        self._start = 0  # where the delimiter of this part stands
        self._data = -1  # and its data
        self._state = "preamble"
        self._parts = 0

    def feed(self, piece: bytes) -> Iterator[Event]:
        """What has become certain with this piece."""
        self._buffer = self._buffer + piece if self._buffer else piece
        at = 0
        while True:
            if self._state == "head":
                head = self._head(at)
                if head is None:
                    break
                yield head
                self._data = head.data
                at = head.data - self._base
                self._state = "data"
                continue
            if self._state == "close":
                if len(self._buffer) - at < 2:
                    break
                if self._buffer[at : at + 2] != b"\r\n":
                    refuse("something follows its last boundary on the same line")
                self._state = "epilogue"
            mark = self._find(at, self._data - self._base)
            if mark is None:
                safe = max(at, len(self._buffer) - len(self._mark) - 3)
                if self._state == "data" and safe > at:
                    yield Data(self._buffer[at:safe])
                at = safe
                break
            end = max(mark - 2, 0)
            if self._state == "data":
                if end > at:
                    yield Data(self._buffer[at:end])
                yield End(self._base + end, self._base + mark)
            tail = self._buffer[mark + len(self._mark) :][:2]
            at = mark + len(self._mark) + 2
            self._start = self._base + mark
            self._state = "close" if tail == b"--" else "head"
            if tail not in (b"--", b"\r\n"):
                refuse("its boundary is followed by something else on the same line")
        self._buffer = self._buffer[at:]
        self._base += at

    def finish(self) -> None:
        """There is no more."""
        if self._state == "close" and self._buffer:
            refuse("something follows its last boundary on the same line")
        if self._state not in ("close", "epilogue"):
            refuse("its last boundary is missing")

    def _find(self, at: int, first: int) -> int | None:
        """The next boundary at the beginning of a line, once the two bytes behind it are here.

        `first` is where this part's data begins, before the buffer for a part of which some is gone.
        """
        while (mark := self._buffer.find(self._mark, at)) >= 0:
            line = self._buffer[max(mark - 2, first, 0) : mark]
            opens = self._base + mark == 0
            if self._state == "epilogue":
                refuse("its boundary stands behind the last one")
            if opens or line == b"\r\n":
                return mark if len(self._buffer) >= mark + len(self._mark) + 2 else None
            if line[-1:] in (b"\r", b"\n") or mark == first:
                refuse("its boundary stands behind a line that does not end with CR LF")
            at = mark + 1
        return None

    def _head(self, at: int) -> Head | None:
        # A part without headers has no name, so that at least one line stands before the empty one.
        stop = self._buffer.find(b"\r\n\r\n", at, at + HEADERS + 4)
        if stop < 0:
            if len(self._buffer) - at > HEADERS + 4:
                refuse(f"the headers of a part are longer than {HEADERS} bytes")
            return None
        self._parts += 1
        if self._parts > PARTS:
            refuse(f"it has more than {PARTS} parts")
        raw = self._buffer[at:stop]
        if raw.startswith(self._mark) or b"\r\n" + self._mark in raw:
            refuse("its boundary stands within the headers of a part")
        return Head(self._start, self._base + stop + 4, raw)


class Part:
    """One part: its headers as they came, and its data, to be read before the next part is asked for."""

    __slots__ = ("after", "body", "content_type", "data", "end", "filename", "headers", "name", "raw", "start")

    def __init__(self, head: Head, body: Body) -> None:
        self.raw = head.raw
        self.start = head.start  # offsets in the whole body: of its delimiter,
        self.data = head.data  # of its data,
        self.end = -1  # of the data's end (once it has come),
        self.after = -1  # and of the next delimiter
        self.headers = _headers(head.raw)
        self.name, self.filename = _disposition(self.headers)
        self.content_type = _only(self.headers, b"content-type")
        encoding = (_only(self.headers, b"content-transfer-encoding") or "binary").lower()
        if encoding not in ("7bit", "8bit", "binary"):  # RFC 7578 §4.7: deprecated, and undone by some readers only
            _unsupported(f"a part's Content-Transfer-Encoding {encoding[:32]!r} is not read here; send it as it is")
        self.body = body

    def __repr__(self) -> str:
        return f"Part({self.name!r}, {self.content_type}, from {self.data} to {self.end})"


class _Data(Body):
    """The data of one part, pulled from the body in which it stands."""

    __slots__ = ("_source", "length", "part")

    def __init__(self, source: _Source) -> None:
        self._source: _Source | None = source
        self.part: Part | None = None
        self.length = None

    def now(self) -> None:
        """Never here."""
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        source = self._source
        if source is None:
            raise BodyConsumed("the part was read, or the next one asked for")
        self._source = None
        while source.part_now is self.part:
            event = await source.next()
            if not isinstance(event, Data):
                source.ended(event)
                return
            yield event.piece
        raise BodyConsumed("the next part was asked for")

    def leave(self) -> None:
        """Let nobody begin to read any more."""
        self._source = None


class _Source:
    """The events of one body, one at a time."""

    def __init__(self, body: Body, boundary: bytes) -> None:
        self._pieces = aiter(body)
        self._splitter = Splitter(boundary)
        self._events: Iterator[Event] = iter(())
        self.part_now: Part | None = None
        self._over = False

    async def next(self) -> Event | None:
        while True:
            event = next(self._events, None)
            if event is not None or self._over:
                return event
            piece = await anext(self._pieces, None)
            if piece is None:
                self._over = True
                self._splitter.finish()
                return None
            self._events = self._splitter.feed(piece)

    def ended(self, event: Event | None) -> None:
        if isinstance(event, End) and self.part_now is not None:
            self.part_now.end, self.part_now.after = event
            self.part_now = None

    async def part(self) -> Part | None:
        """The next part, whatever is left of the one before."""
        while (event := await self.next()) is not None:
            if isinstance(event, Head):
                data = _Data(self)
                self.part_now = data.part = Part(event, data)
                return self.part_now
            self.ended(event)
        return None

    async def aclose(self) -> None:
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()


async def parts(body: Body, content_type: str | None) -> AsyncIterator[Part]:
    """The parts of a multipart body, in order. Raises Rejected for what is malformed or not read alike by all.

    A part's data is `part.body`: pull it, `read(limit)` it, or `keep(memory=..., limit=...)` it and read that, before
    the next part is asked for; what is not read is passed over. `part.end` is known then.
    """
    source = _Source(body, boundary(content_type))
    try:
        while (part := await source.part()) is not None:
            yield part
            if isinstance(part.body, _Data):
                part.body.leave()
    finally:
        await source.aclose()


def boundary(content_type: str | None) -> bytes:
    """The boundary that a content type names. Raises Rejected."""
    kind, found = parameters(content_type or "")
    if kind != "multipart/form-data":
        _unsupported("a body in parts is read as multipart/form-data only")
    mark = found.get("boundary", b"")
    if not _BOUNDARY.fullmatch(mark):
        refuse("its Content-Type names no boundary of 1 to 70 plain characters")
    return mark


def parameters(value: str) -> tuple[str, dict[str, bytes]]:
    """A content type and its parameters, both names in lower case. Raises Rejected for one given twice."""
    raw = value.encode("utf-8", "surrogateescape")
    kind = raw.partition(b";")[0]
    return kind.strip(b" \t").lower().decode("ascii", "replace"), _pairs(raw[len(kind) :], "Content-Type")


def refuse(why: str) -> NoReturn:
    """Refuse a multipart body."""
    raise Rejected(f"The multipart body can't be read: {why}.")


def _unsupported(why: str) -> NoReturn:
    raise Rejected(f"The multipart body can't be read: {why}.", status=415, code="unsupported_encoding")


def _headers(raw: bytes) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for line in raw.split(b"\r\n"):
        header = _HEADER.fullmatch(line)
        if header is None:
            refuse("a header of a part is malformed")
        found.append((header[1], header[2].strip(b" \t")))
    return tuple(found)


def _only(headers: tuple[tuple[bytes, bytes], ...], name: bytes) -> str | None:
    values = [value for key, value in headers if key.lower() == name]
    if len(values) > 1:
        refuse(f"a part has {name.decode()} twice")
    return values[0].decode("utf-8", "surrogateescape") if values else None


def _disposition(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[str, str | None]:
    value = (_only(headers, b"content-disposition") or "").encode("utf-8", "surrogateescape")
    kind = value.partition(b";")[0]
    found = _pairs(value[len(kind) :], "Content-Disposition")
    if kind.strip().lower() != b"form-data" or "name" not in found or "name*" in found:
        refuse('a part is not form-data with one plain name (Content-Disposition: form-data; name="...")')
    name = _unescaped(found["name"])
    if b"\\" in _ESCAPE.sub(b"", found["name"]):  # 'mod\el' is model to one reader and not to the other
        refuse("the name of a part holds a backslash")
    filename = _unescaped(found["filename"]) if "filename" in found else None
    if "filename*" in found:
        extended = _EXTENDED.fullmatch(found["filename*"])
        if extended is None:
            refuse("a part's filename* is malformed")
        filename = unquote_to_bytes(extended[1])
    try:
        return name.decode(), None if filename is None else filename.decode("utf-8", "replace")
    except UnicodeDecodeError:
        refuse("the name of a part is not UTF-8")


def _unescaped(quoted: bytes) -> bytes:
    return _ESCAPE.sub(rb"\1", quoted)


def _pairs(raw: bytes, where: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    at = 0
    while at < len(raw):
        pair = _PARAMETER.match(raw, at)
        if pair is None:
            if not raw[at:].strip(b" \t;"):
                break
            refuse(f"a {where} is malformed")
        name = pair[1].decode().lower()
        if name in found:
            refuse(f"a {where} has {name!r} twice")
        found[name] = pair[3] if pair[2] is None else pair[2]
        at = pair.end()
    return found
