"""A JSON document walked piece by piece in constant memory. It knows places in a document, not what they mean.

It reads what `json.loads` reads, but lets control characters in strings and invalid UTF-8 pass, as it never looks at
them: long strings are skipped at the speed of `bytes.find`. Places are found by their path alone, so a key that looks
like ours elsewhere, or inside a string, is nothing.
"""

from __future__ import annotations

import json
import re
from typing import Protocol

import orjson

from .scan_places import Place

DEEPEST = 128  # orjson stops at 1024; no answer known goes beyond a dozen
LONGEST_KEY = 128  # as written: six bytes a character when all are escaped
LONGEST_SCALAR = 64  # once its runs of digits are folded


class Hearing(Protocol):
    """Who is told what stands at the places. Offsets are those of the stream."""

    def opened(self, place: Place) -> None: ...
    def closed(self, place: Place) -> None: ...
    def value(self, place: Place, value: object) -> None: ...
    def begun(self, place: Place, key: int, quote: int) -> None: ...
    def text(self, data: bytes, at: int, end: int, offset: int, escaped: bool) -> None: ...
    def ended(self, quote: int) -> None: ...
    def doubled(self, place: Place) -> None: ...


class _Unread:
    """What stands for a value that is there but too long to keep, or that orjson does not read."""


UNREAD = _Unread()

_VALUE, _ITEM, _MEMBER, _FIRST, _COLON, _NEXT, _STRING, _SCALAR, _END, _BROKEN = range(10)
_S = rb"[ \t\r\n]*+"
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?"
_WORD = rb"true|false|null|NaN|-?Infinity"
_SPACE = re.compile(_S)
_KEY = re.compile(_S + rb'"([^"\\]{0,64}+)"' + _S + rb":")
# A value that is whole in this piece, and the comma behind it.
_SHORT = re.compile(_S + rb'("[^"\\]{0,512}+"|(?:' + _NUMBER + rb"|" + _WORD + rb")(?=[ \t\r\n,\]}]))(" + _S + rb",)?+")
_RUN = re.compile(rb"[-+.0-9A-Za-z]*+")
_WHOLE = re.compile(_NUMBER + rb"|" + _WORD)
_DIGITS = re.compile(rb"([0-9]{2})[0-9]+")
_DIGIT = rb"[0-9a-fA-F]"
# No choice and no count behind a branch's first byte: before Python 3.11.5 a possessive group that gives up in one ends
# where that was tried, not where it had begun (gh-106052), and half an escape would be taken for a whole one.
_REST = re.compile(rb'(?:\\["\\/bfnrt]|\\u' + _DIGIT * 4 + rb'|[^"\\]++)*+')
_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?")
_QUOTE, _BACKSLASH, _COMMA = b'",\\'[0], b"\\"[0], b","[0]
_BRACE, _BRACKET, _UNBRACE, _UNBRACKET = b"{[}]"
_STARTS = frozenset(b"-0123456789tfnNI")


class _Level:
    """An object or array that is open."""

    __slots__ = ("child", "index", "is_object", "place", "seen")

    def __init__(self, place: Place | None, is_object: bool) -> None:
        self.place = place
        self.is_object = is_object
        self.index = -1  # of the item that is being read
        self.child: Place | None = None  # the place of the value that is being read
        self.seen: set[str] | None = None  # the members met that have a place: bounded by the table


class Walk:
    """One document. `broken` says in words why nothing more can be read of it."""

    def __init__(self, root: Place, hear: Hearing) -> None:
        self._root = root
        self._hear = hear
        self.restart()

    def restart(self) -> None:
        """Forget everything: another document begins."""
        self._state = _VALUE
        self._levels: list[_Level] = []
        self._child: Place | None = self._root
        self.broken: str | None = None
        self.held: int | None = None  # where the key stands whose value is still to come, if it may be taken
        self.kept_key: int | None = None  # where the key stands of the value that is told, if it might have been taken
        # The string that is being read.
        self._key: bytearray | None = None  # of a key; None: it is a value, or too long to be ours
        self._is_key = False
        self._taking = False
        self._escape = b""  # as much of an escape as has come
        self._scalar = b""
        # The value that is being kept.
        self._keeping: Place | None = None
        self._kept = bytearray()
        self._keep_depth = 0
        self._mark = 0

    @property
    def complete(self) -> bool:
        """Whether all of the document has come."""
        return self._state == _END

    @property
    def empty(self) -> bool:
        """Whether nothing but white space has come."""
        return self._state == _VALUE and not self._levels

    @property
    def in_text(self) -> bool:
        """Whether it stands in a string, and not in an escape."""
        return self._state == _STRING and not self._escape

    def path(self) -> str:
        """Where the walk stands: `data[0].b64_json`."""
        parts = []
        for level in self._levels:
            if level.is_object:
                parts.append(f".{level.child.name}" if level.child else ".?")
            else:
                parts.append(f"[{level.index}]")
        return "".join(parts).removeprefix(".")

    def index(self) -> int | None:
        """The number of the innermost array item that the walk stands in."""
        return next((level.index for level in reversed(self._levels) if not level.is_object), None)

    def feed(self, data: bytes, at: int, end: int, base: int) -> None:
        """Walk over data[at:end]; `base` is the offset of data[0] in the stream."""
        self._mark = at
        while at < end:
            state = self._state
            if state == _STRING:
                at = self._string(data, at, end, base)
            elif state == _SCALAR:
                at = self._more_scalar(data, at, end)
            elif state == _BROKEN:
                return
            else:
                at = self._token(data, at, end, base)
        if self._keeping is not None:
            self._keep(data, end)

    def close(self) -> None:
        """No more will come."""
        if self._state == _SCALAR:
            self._finish_scalar(b"", 0)
        if self._state not in (_END, _BROKEN):
            self._break("nothing came" if self.empty else "it was cut off")

    def _token(self, data: bytes, at: int, end: int, base: int) -> int:
        state = self._state
        if state in (_MEMBER, _FIRST):
            if found := _KEY.match(data, at, end):
                self.held = base + found.start(1) - 1
                self._named(found[1])
                self._state = _VALUE
                return found.end()
        elif state in (_VALUE, _ITEM):
            found = _SHORT.match(data, at, end)
            if found and self._levels and self._short(data, found):
                return found.end()
        at = _SPACE.match(data, at, end).end()  # type: ignore[union-attr]  # it matches nothing too
        if at == end:
            return end
        byte = data[at]
        if state in (_VALUE, _ITEM):
            if byte == _UNBRACKET and state == _ITEM:
                self._close(data, at + 1)
            else:
                return self._value(byte, data, at, base)
        elif state in (_MEMBER, _FIRST):
            if byte == _QUOTE:
                self.held = base + at if self._levels[-1].place is not None else None
                self._key = bytearray()
                self._is_key = True
                self._state = _STRING
            elif byte == _UNBRACE and state == _FIRST:
                self._close(data, at + 1)
            else:
                self._break("a member has no name")
        elif state == _COLON:
            self._state = _VALUE
            if byte != b":"[0]:
                self._break("a name has no value")
        elif state == _END:
            self._break("something follows the document")
        elif byte == _COMMA:
            self._state = _MEMBER if self._levels[-1].is_object else _VALUE
        elif byte == (_UNBRACE if self._levels[-1].is_object else _UNBRACKET):
            self._close(data, at + 1)
        else:
            self._break("a comma is missing")
        return at + 1

    def _short(self, data: bytes, found: re.Match[bytes]) -> bool:
        """A value that is whole and short; False where it must flow out piece by piece."""
        level = self._levels[-1]
        if self._keeping is None:
            place = self._child if level.is_object else level.place and level.place.items
            if place is not None:
                if place.take and data[found.start(1)] == _QUOTE:
                    return False
                if place.keep:
                    self.kept_key = self.held
                    self._hear.value(place, _read(found[1]) if found.end(1) - found.start(1) <= place.keep else UNREAD)
        self.held = None
        if not level.is_object:
            level.index += 1
        if found.end(2) < 0:
            self._state = _NEXT
        else:
            self._state = _MEMBER if level.is_object else _VALUE
        return True

    def _value(self, byte: int, data: bytes, at: int, base: int) -> int:
        """A value begins here."""
        place = self._child
        if self._levels:
            level = self._levels[-1]
            if not level.is_object:
                level.index += 1
                place = level.place.items if level.place is not None else None
                level.child = place
        if self._keeping is not None:
            place = None
        elif place is not None and place.keep and not (place.take and byte == _QUOTE):
            self._keeping, self._keep_depth, self._mark = place, len(self._levels), at
            self.kept_key = self.held
        if byte == _QUOTE:
            self._state = _STRING
            self._is_key = False
            self._taking = place is not None and bool(place.take)
            if place is not None and place.take:
                self._hear.begun(place, base + at if self.held is None else self.held, base + at)
        elif byte in (_BRACE, _BRACKET):
            self._open(place, byte == _BRACE)
        elif byte in _STARTS:
            self._state = _SCALAR
            self._scalar = b""
            if place is None or not place.take:
                self.held = None
            return at
        else:
            self._break("a value is missing")
        self.held = None
        return at + 1

    def _open(self, place: Place | None, is_object: bool) -> None:
        if len(self._levels) == DEEPEST:
            self._break(f"it is more than {DEEPEST} levels deep")
            return
        self._levels.append(_Level(place, is_object))
        self._state = _FIRST if is_object else _ITEM
        if is_object and place is not None and place.frame:
            self._hear.opened(place)

    def _close(self, data: bytes, after: int) -> None:
        level = self._levels.pop()
        if level.is_object and level.place is not None and level.place.frame:
            self._hear.closed(level.place)
        self._finish(data, after)

    def _finish(self, data: bytes, after: int) -> None:
        """A value ended before data[after]."""
        self._state = _NEXT if self._levels else _END
        if self._keeping is not None and len(self._levels) == self._keep_depth:
            place, self._keeping = self._keeping, None
            self._kept += data[self._mark : min(after, self._mark + place.keep + 1)]
            self._hear.value(place, _read(bytes(self._kept)) if len(self._kept) <= place.keep else UNREAD)
            self._kept.clear()

    def _keep(self, data: bytes, end: int) -> None:
        """Keep what has come of a value; one byte over the limit tells that it was too long."""
        assert self._keeping is not None
        room = self._keeping.keep + 1 - len(self._kept)
        self._kept += data[self._mark : min(end, self._mark + room)]

    def _named(self, name: bytes | None) -> None:
        """The name of a member has come."""
        level = self._levels[-1]
        place = None
        if level.place is not None and name is not None:
            place = level.place.members.get(name)
            if place is not None:
                if level.seen is None:
                    level.seen = {place.name}
                elif place.name in level.seen:
                    self._hear.doubled(place)
                else:
                    level.seen.add(place.name)
        self._child = level.child = place
        if place is None or not place.take:
            self.held = None

    def _string(self, data: bytes, at: int, end: int, base: int) -> int:
        if self._escape:
            at = self._more_escape(data, at, end, base)
            if at == end:
                return end
        quote = data.find(b'"', at, end)
        slash = data.find(b"\\", at, end if quote < 0 else quote)
        stop = end if quote < 0 else quote
        if slash >= 0 and not common_escapes(data, slash, stop):
            stop = _REST.match(data, slash, end).end()  # type: ignore[union-attr]  # it matches nothing too
        if stop > at:
            self._heard(data, at, stop, base, slash >= 0)
        if stop == end:
            return end
        if data[stop] == _BACKSLASH:
            if _CUT_ESCAPE.fullmatch(data, stop, end):
                self._escape = data[stop:end]
            else:
                self._break("a backslash before something that is no escape")
            return end
        self._unquote(data, stop, base)
        return stop + 1

    def _more_escape(self, data: bytes, at: int, end: int, base: int) -> int:
        """The rest of an escape that was cut in two."""
        size = len(self._escape)
        wanted = 6 if (self._escape + data[at : at + 1])[1:2] == b"u" else 2
        after = min(end, at + wanted - size)
        escape, self._escape = self._escape + data[at:after], b""
        if _CUT_ESCAPE.fullmatch(escape):
            self._escape = escape
            return end
        if not _ESCAPE.fullmatch(escape):
            self._break("a backslash before something that is no escape")
            return end
        self._heard(escape, 0, wanted, base + after - wanted, True)
        return after

    def _heard(self, data: bytes, at: int, end: int, base: int, escaped: bool) -> None:
        """Some of a string has come."""
        if not self._is_key:
            if self._taking:
                self._hear.text(data, at, end, base + at, escaped)
        elif self._key is not None:
            if len(self._key) + end - at > LONGEST_KEY:
                self._key = self.held = None
            else:
                self._key += data[at:end]

    def _unquote(self, data: bytes, quote: int, base: int) -> None:
        """A string has ended."""
        if self._is_key:
            self._state = _COLON
            self._named(None if self._key is None else _name(bytes(self._key)))
            return
        if self._taking:
            self._hear.ended(base + quote)
        self._finish(data, quote + 1)

    def _more_scalar(self, data: bytes, at: int, end: int) -> int:
        stop = _RUN.match(data, at, end).end()  # type: ignore[union-attr]  # it matches nothing too
        self._scalar += data[at:stop]
        if len(self._scalar) > LONGEST_SCALAR:
            # Two digits of a run stand for all of it, so that a number may be of any length.
            self._scalar = _DIGITS.sub(rb"\1", self._scalar)
            if len(self._scalar) > LONGEST_SCALAR:
                self._break("neither a number nor true, false or null")
                return end
        if stop < end:
            self._finish_scalar(data, stop)
        return stop

    def _finish_scalar(self, data: bytes, stop: int) -> None:
        self.held = None
        if _WHOLE.fullmatch(self._scalar):
            self._finish(data, stop)
        else:
            self._break("neither a number nor true, false or null")

    def _break(self, why: str) -> None:
        self._state = _BROKEN
        self.broken = why
        self.held = None
        self._keeping = None
        self._kept.clear()


def common_escapes(data: bytes, at: int, end: int) -> bool:
    """Whether every backslash of a part of a string begins one of the two escapes that are met by the thousand.

    PHP writes every slash of base64 with a backslash, others break lines; a count is faster than any look at each.
    """
    return data.count(b"\\", at, end) == data.count(b"\\/", at, end) + data.count(b"\\n", at, end)


def _name(raw: bytes) -> bytes | None:
    """A key with its escapes read; None when it can't be one of ours."""
    if _BACKSLASH not in raw:
        return raw
    try:
        return unquoted(raw).encode("ascii")
    except ValueError:
        return None


def unquoted(raw: bytes) -> str:
    """What stands between two quotes, with its escapes read. Raises ValueError where it is not UTF-8.

    Given bytes, `json.loads` takes them for UTF-16 when the second is zero.
    """
    return str(json.loads(f'"{raw.decode()}"', strict=False))


def _read(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:  # NaN, a lone surrogate, invalid UTF-8, a control character
        return UNREAD
