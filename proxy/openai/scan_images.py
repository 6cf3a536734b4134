"""One picture found in an answer, and the reading of the string that holds it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from .pictures import SNIFFED, Base64, Piece, Sniffed, sniff
from .scan_walk import common_escapes, unquoted

Kind = Literal["final", "partial", "repeated", "other"]
Form = Literal["base64", "url", "text"]

HEAD = 256  # bytes of a data: URI before its comma
LONGEST_URL = 8192  # signed ones have some hundred
PLAUSIBLE = 16  # characters of base64 that are believed to begin a picture
SAMPLE = (SNIFFED + 2) // 3 * 4

_PIECE = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|.)|[^\\]{1,256}+", re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ALPHABET = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_LETTERS = re.compile(rb"[A-Za-z0-9+/]*")
_DATA = b"data:"
_LINK = re.compile(rb"(?i:https?://).|/.", re.DOTALL)
_BARE = bytes.maketrans(b"-_", b"+/")
_SPACE = b" \t\r\n"
_SIMPLE = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_BACKSLASH = b"\\"[0]


@dataclass(slots=True, eq=False)
class Image:
    """A picture, as far as it is known: more comes until it is settled.

    document[quote:end + 1] is the string with its quotes, document[start:end] the text of the picture in it (behind
    the comma of a data: URI), document[key:quote] the member's name and colon.
    """

    path: str  # data[0].b64_json
    key: int
    quote: int
    form: Form = "base64"  # "text": a data: URI that is not base64
    kind: Kind | None = None  # "repeated": an earlier final one again; "other": no picture after all
    index: int | None = None  # in its list, else the output_index that was told
    partial: int | None = None  # the number of a partial one
    item: str | None = None  # the id of its output item
    start: int = -1
    end: int = -1
    media: str | None = None  # as a data: URI has it
    url: str | None = None
    sniffed: Sniffed | None = None
    plausible: bool = False  # it begins as a picture does
    bad: str | None = None  # why it can't be read, as far as it was
    canonical: bool | None = None  # the bytes in base64 are the text to the letter, so far; None: not decoded
    length: int = 0  # bytes decoded
    event: int = 0  # where the event begins in which it stands
    null: int | None = None  # where a member `url` of the same object begins whose value is null
    declared: dict[str, Any] = field(default_factory=dict)  # what stands beside it: output_format, size, usage ...


class Taking:
    """The string of one picture, as it flows."""

    __slots__ = ("_decoder", "_escaped", "_head", "_raw", "_sample", "_some", "_url", "image", "known", "take")

    def __init__(self, image: Image, *, url: bool) -> None:
        self.image = image
        self.known = False  # what form it has; until then it is to be fed to `know`
        self.take = False  # the bytes are wanted
        self._url = url  # the name of the member promises a URL
        self._head = b""  # the beginning with its escapes read, until the form is known
        self._raw = bytearray()  # a URL, as written
        self._escaped = False
        self._some = False
        self._sample: bytes | None = b""  # the first characters of base64; None: looked at
        self._decoder = Base64()

    def know(self, data: bytes, at: int, end: int, offset: int) -> int:
        """Read on until the form is known; what is left of data begins at the number returned."""
        for found in _PIECE.finditer(data, at, end):
            begin, after = found.span()
            self._raw += data[begin:after]
            before = len(self._head)
            if data[begin] == _BACKSLASH:
                self._escaped = True
                self._head += _plain(found)
            else:
                self._head += data[begin:after]
            if self._head[:5].lower() == _DATA:
                comma = self._head.find(b",")
                if 0 <= comma <= HEAD:
                    if data[begin] != _BACKSLASH:
                        after = begin + comma + 1 - before
                    self._form(comma)
                    self.image.start = offset + after - at
                    return after
                if len(self._head) > HEAD:
                    self._form(-1)
                    return after
                continue
            if not _DATA.startswith(self._head.lower()):
                self._form(-1)
                return after
        return end

    def _form(self, comma: int) -> None:
        """The form is known. What is in the head and belongs to the text comes out of `begin`."""
        image = self.image
        self.known = True
        image.start = image.quote + 1
        if self._head[:5].lower() != _DATA:
            image.form = "url" if self._url else "base64"
            return
        head, self._head = self._head, b""
        self._escaped = False
        image.form = "text"
        if comma < 0:
            image.bad = "a data: URI without a comma"
            return
        media, *words = head[5:comma].decode("latin-1").lower().split(";")
        image.media = media.strip() or None
        if "base64" in (word.strip() for word in words):
            image.form = "base64"

    def know_now(self) -> bool:
        """Make out the form of a short string that has ended; False when it is empty."""
        if self._head:
            self._form(-1)
        return self.known

    def begin(self) -> bytes:
        """Read what came before the form was known; the bytes that it decodes to."""
        head, self._head = self._head, b""
        if self.image.form == "base64":
            return self._base64(head, self._escaped)
        return b""

    def text(self, data: bytes, at: int, end: int, escaped: bool) -> bytes:
        """Read on; the bytes that it decodes to, where they are wanted."""
        form = self.image.form
        if form == "base64":
            if self._sample is None and (not self.take or self._decoder.bad is not None):
                return b""
            if escaped and data.find(b"\\", at, end) >= 0:  # not only in what went before
                return self._base64(_unescaped(data[at:end]), True)
            return self._base64(memoryview(data)[at:end], False)
        self._some = True
        if form == "url" and len(self._raw) <= LONGEST_URL:
            self._raw += data[at : min(end, at + LONGEST_URL)]
        return b""

    def skim(self, text: bytes | memoryview) -> list[bytes] | None:
        """Read on where all of it is base64 as it has been so far; else None, and nothing is read."""
        if not _LETTERS.fullmatch(text[-3:]):  # these may wait to be decoded, and an end of the string would stand here
            return None
        found = self._decoder.plainly(memoryview(text))
        if found is not None:
            self.image.length = self._decoder.length
        return found

    def late(self, text: memoryview) -> list[bytes] | None:
        """Want the bytes after all, where that is all of the text so far; None where they can't be had any more."""
        if self._sample is not None or (found := self.skim(text)) is None:
            return None
        self.take = self.image.canonical = True
        return found

    @property
    def skims(self) -> bool:
        """Whether it stands in base64 that is wanted, of which nothing is left to be found out."""
        return self.take and self._sample is None and self.image.canonical is True

    @property
    def rest(self) -> bytes:
        """What has come of the text and is in none of the bytes yet: fewer than four characters."""
        return self._decoder.rest

    def end(self, quote: int) -> bytes:
        """The string has ended; the last bytes."""
        image = self.image
        rest = b""
        image.end = quote
        if image.form == "url":
            self._finish_url()
        elif image.form == "text":
            image.plausible = self._some and image.bad is None
        else:
            self._look(True)
            if self.take:
                rest += self._decoder.close()
                image.length = self._decoder.length
                image.bad = self._decoder.bad
                image.canonical = self._decoder.canonical and image.bad is None
            if not image.plausible and image.bad is None:
                image.bad = "it does not begin as base64 does"
        return rest

    def cut(self) -> None:
        """No more will come, and the string has not ended."""
        self.image.bad = "it was cut off"
        self.image.canonical = False if self.take else None
        self.image.length = self._decoder.length

    def _base64(self, text: Piece, escaped: bool) -> bytes:
        if self._sample is not None:
            self._sample += bytes(text[:HEAD]).translate(_BARE, _SPACE)
            if len(self._sample) < SAMPLE and len(text) > HEAD:
                self._sample += bytes(text[HEAD:]).translate(_BARE, _SPACE)[:SAMPLE]
            self._look(False)
        if not self.take:
            return b""
        decoder = self._decoder
        if escaped:
            decoder.canonical = False
        found = decoder.feed(text)
        self.image.canonical = decoder.canonical and decoder.bad is None
        self.image.length = decoder.length
        return found

    def _look(self, ended: bool) -> None:
        """See by its first characters whether it may be a picture, and of what type."""
        sample = self._sample
        if sample is None:
            return
        if len(sample) >= PLAUSIBLE:
            self.image.plausible = _ALPHABET.fullmatch(sample[:PLAUSIBLE]) is not None
        if not ended and len(sample) < SAMPLE:
            return
        decoder = Base64()
        decoded = decoder.feed(sample[:SAMPLE]) + (decoder.close() if ended else b"")
        if len(sample) < PLAUSIBLE:
            self.image.plausible = bool(decoded) and decoder.bad is None
        self.image.sniffed = sniff(decoded)
        self._sample = None

    def _finish_url(self) -> None:
        image = self.image
        if len(self._raw) > LONGEST_URL:
            image.bad = f"a URL of more than {LONGEST_URL} bytes"
            image.plausible = _LINK.match(_unescaped(bytes(self._raw[:HEAD]))) is not None
            return
        try:
            url = unquoted(bytes(self._raw))
            text = url.encode()  # half a surrogate pair can't be
        except ValueError:
            image.bad = "a URL that is not UTF-8"
            return
        image.url = url
        image.plausible = _LINK.match(text) is not None


def _plain(escape: re.Match[bytes]) -> bytes:
    """What an escape stands for, where it could stand in base64 or a URI; else a byte that can't."""
    raw = escape[0]
    if raw[1:2] != b"u":
        return _SIMPLE.get(raw[1:], raw[1:])
    code = int(raw[2:], 16)
    return bytes((code,)) if code < 128 else b"\xff"


def _unescaped(text: bytes) -> bytes:
    if common_escapes(text, 0, len(text)):
        return text.replace(b"\\/", b"/").replace(b"\\n", b"\n")
    return _ESCAPE.sub(_plain, text)
