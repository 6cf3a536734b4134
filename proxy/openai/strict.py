"""Strict JSON of requests: what two readers could read differently is refused, and long base64 is not copied.

A request is judged here and read again upstream, by another parser. Those differ over keys given twice (first or last
wins), NaN, lone surrogates, a byte order mark and deep nesting; RFC 8259 §4 calls the first "unpredictable".
"""

from __future__ import annotations

import json
import re
import secrets
from itertools import islice
from typing import Any, NamedTuple, NoReturn

import orjson

from ..model.errors import Rejected

DEPTH = 128  # schemas of tools nest to a dozen; Python's own reader gives up near 1000, others at 100 or 512
VALUES = 2**19  # each is an object of Python's: 64 MB of "[]," would take a gigabyte. Embeddings allow 300,000 tokens
SMALL = 2**16  # up to here, reading a document whole is faster than looking for holes in it
LONG = 4096  # base64 of this length is an image or a file; a text has a space before that
STRIDE = 2**16  # how much of short strings is passed over at once; the matcher remembers each until it is done
SLICE = 2**18  # how much of a hole is looked at at once
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_"

_HEAD = re.compile(rb'((?i:data:[^"\\,\x00-\x20\x7f-\xff]{0,200};base64,)?)[A-Za-z0-9+/=_-]*+')
_TEXT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
# What is no string, and strings that are short and whole, many at once: one by one, 32 MB of '"",' took 24 seconds.
_PLAIN = re.compile(rb'[^"]*(?:"[^"\\]{0,%d}"[^"]*)*' % (LONG - 1))
_MARKS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{\[,]', re.DOTALL)
_SHAPE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)


class Hole(NamedTuple):
    """A long base64 string that was left where it is: its content begins at byte `start` of the body."""

    start: int
    length: int
    head: str  # "data:image/png;base64," if it is a data URL, else ""
    at: int  # where the word that stands for it begins in the skeleton
    word: str


class NotAHole(Exception):
    """What began as base64 goes on as something else: read the document again, with holes off."""


class Skeleton:
    """A document without its long base64, made from pieces cut anywhere.

    Each hole is replaced by a word that nobody could have written, so that the rest can be parsed as JSON.
    """

    def __init__(self, *, holes: bool = True) -> None:
        self.document = bytearray()
        self.holes: list[Hole] = []
        self.nonce = secrets.token_hex(16) if holes else ""
        self._state = "outside"
        self._rest = b""  # bytes whose meaning the next piece decides
        self._base = 0  # where they stand in the body
        self._hole: tuple[int, str] = (0, "")
        self._last = False

    def feed(self, data: bytes) -> None:
        """Take the next piece. Raises NotAHole."""
        if self._rest:
            data = self._rest + data
        at, end, out = 0, len(data), self.document
        while at < end:
            before = at, self._state
            if self._state == "outside":
                stop = _PLAIN.match(data, at, at + STRIDE).end()  # type: ignore[union-attr] # it matches nothing, too
                quote = data.find(b'"', stop)
                stop = end if quote < 0 else quote + 1
                out += data[at:stop]
                at = stop
                if quote >= 0:
                    self._state = "string" if self.nonce else "text"
            elif self._state == "string":
                self._decide(data, at)
            elif self._state == "hole":
                at = self._skip(data, at)
            else:
                stop = _TEXT.match(data, at).end()  # type: ignore[union-attr] # it matches nothing, too
                out += data[at:stop]
                at = stop
                if data[at : at + 1] == b'"':
                    out += b'"'
                    at += 1
                    self._state = "outside"
            if (at, self._state) == before:  # more must come before this can be told
                break
        self._rest = data[at:]
        self._base += at

    def finish(self) -> None:
        """There is no more."""
        self._last = True
        self.feed(b"")
        self.document += self._rest
        self._rest = b""

    def _decide(self, data: bytes, at: int) -> None:
        if data.find(b'"', at, at + LONG) >= 0:
            self._state = "text"
        elif len(data) - at >= LONG:
            head = _HEAD.fullmatch(data, at, at + LONG)
            self._state = "text" if head is None else "hole"
            if head is not None:
                self._hole = (self._base + at, head[1].decode())
        elif self._last:
            self._state = "text"

    def _skip(self, data: bytes, at: int) -> int:
        start, head = self._hole
        quote = data.find(b'"', at)
        stop = len(data) if quote < 0 else quote
        first = max(at, start + len(head) - self._base)
        for begin in range(first, stop, SLICE):
            if data[begin : min(begin + SLICE, stop)].translate(None, BASE64):
                raise NotAHole
        if quote >= 0:
            word = f"{self.nonce}-{len(self.holes)}"
            self.holes.append(Hole(start, self._base + stop - start, head, len(self.document), word))
            self.document += word.encode()
            self._state = "text"
        return stop

    def place(self, at: int) -> int:
        """Where in the body that byte of the skeleton stands."""
        shift = 0
        for hole in self.holes:
            if hole.at >= at:
                break
            shift += hole.length - len(hole.word)
        return at + shift


def read(data: bytes, *, nonce: str = "") -> Any:
    """The value of a JSON document. Raises Rejected for what is no JSON, or not read alike by all."""
    if len(data) > VALUES and sum(map(data.count, (b",", b"{", b"["))) > VALUES and _values(data) > VALUES:
        _refuse(f"it holds more than {VALUES} values")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _SLOW
    if data.count(b"{") + data.count(b"[") > DEPTH and _depth(data) > DEPTH:
        _refuse(f"it is nested deeper than {DEPTH}")
    # As many colons after reading as before: no key was dropped. Those within strings are counted on both sides, as
    # long as no escape hides one; those of a value that was dropped only widen the gap.
    if value is _SLOW or (b"\\" in data and b"\\u" in data) or data.count(b":") != orjson.dumps(value).count(b":"):
        plain = _read(data)
        if value is _SLOW:
            _refuse("a character or a number is none")  # such as half a surrogate pair
        value = plain
    if nonce and re.search(nonce.encode() + rb'-[0-9]+"[ \t\r\n]*:', data):  # two such keys could be equal
        _refuse(f"a key is longer than {LONG} bytes")
    return value


def _read(data: bytes) -> Any:
    """The same with Python's own reader, which shows every key, and says what is wrong where."""
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        _refuse("it begins with a byte order mark")
    try:
        return _DECODER.decode(data.decode())
    except UnicodeDecodeError as exc:
        raise Rejected(f"The body is not valid JSON: byte {exc.start} is not UTF-8.") from None
    except RecursionError:
        _refuse(f"it is nested deeper than {DEPTH}")
    except json.JSONDecodeError as exc:
        raise Rejected(f"The body is not valid JSON: {exc.msg}, at character {exc.pos}.") from None
    except ValueError:
        _refuse("a number is too long")


def _pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(found)
    if len(made) != len(found):
        seen: set[str] = set()
        key = next(key for key, _ in found if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Rejected(f"The key {_short(key)} is given twice in one object; give it once.", param=key[:64])
    return made


def _constant(word: str) -> NoReturn:
    _refuse(f"{word} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)
_SLOW = object()


def _refuse(why: str) -> NoReturn:
    raise Rejected(f"The body is not valid JSON: {why}.") from None


def _values(data: bytes) -> int:
    """How many values there are, as far as it matters."""
    marks = (found for found in _MARKS.finditer(data) if data[found.start()] != 0x22)
    return sum(1 for _ in islice(marks, VALUES + 1))


def _depth(data: bytes) -> int:
    deepest = depth = 0
    for found in _SHAPE.finditer(data):
        if (byte := data[found.start()]) in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte != 0x22:
            depth -= 1
    return deepest


def _short(key: str) -> str:
    return json.dumps(key if len(key) <= 64 else key[:64] + "...")
