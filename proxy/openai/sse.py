"""Server-sent events, piece by piece: which bytes are whose data. No line is ever held, as one may be megabytes."""

from __future__ import annotations

from typing import Protocol

LONGEST_NAME = 256  # of an event; a longer one is cut
_LF, _CR, _SPACE = b"\n\r "
_FIELD = 8  # more than "event": a longer field name is nobody's


class Hearing(Protocol):
    """Who is told of the data of each event; several lines of it come joined by a line feed, as the standard says."""

    def data(self, data: bytes, at: int, end: int, base: int) -> None: ...
    def event(self, name: str) -> None: ...


class Lines:
    """A stream of events. Comments, unknown fields and events without data are nothing."""

    __slots__ = ("_after_cr", "_event", "_field", "_has_data", "_hear", "_in_value", "_name", "whole")

    def __init__(self, hear: Hearing) -> None:
        self._hear = hear
        self._after_cr = False  # an LF that comes next belongs to the end of the last line
        self._field = b""  # its name, as much as has come
        self._in_value = 0  # 0: in the name; 1: a space may come that is not the value's; 2: in the value
        self._name = b""
        self._event = b""
        self._has_data = False
        self.whole = 0  # the offset behind the last empty line: what comes there begins anew

    @property
    def open(self) -> bool:
        """Whether an event has begun that no empty line has ended."""
        return self._has_data or bool(self._field) or self._in_value > 0

    @property
    def in_data(self) -> bool:
        """Whether it stands in the middle of a line of data."""
        return self._in_value == 2 and self._field == b"data"

    def feed(self, chunk: bytes, at: int, end: int, base: int) -> None:
        """Look at chunk[at:end]; `base` is the offset of chunk[0] in the stream."""
        feed_at = chunk.find(b"\n", at, end)
        return_at = chunk.find(b"\r", at, end)
        while at < end:
            if self._after_cr:
                self._after_cr = False
                if chunk[at] == _LF:
                    at += 1
                    continue
            if 0 <= feed_at < at:
                feed_at = chunk.find(b"\n", at, end)
            if 0 <= return_at < at:
                return_at = chunk.find(b"\r", at, end)
            stop = feed_at if feed_at >= 0 else end
            if 0 <= return_at < stop:
                stop = return_at
            if stop > at:
                self._some(chunk, at, stop, base)
            if stop == end:
                return
            self._after_cr = chunk[stop] == _CR
            if not self._field and not self._in_value:
                self.whole = base + stop + 1
            self._line()
            at = stop + 1

    def close(self) -> None:
        """No more will come. An event that no empty line ended is told of all the same: some leave it out."""
        if self._field or self._in_value:
            self._line()
        self._line()

    def _some(self, chunk: bytes, at: int, stop: int, base: int) -> None:
        """Some of a line."""
        if not self._in_value:
            colon = chunk.find(b":", at, stop)
            name = chunk[at : min(stop if colon < 0 else colon, at + _FIELD)]
            self._field = (self._field + name)[:_FIELD]
            if colon < 0:
                return
            self._in_value = 1
            self._begin(self._field)
            at = colon + 1
        if self._in_value == 1 and at < stop:
            self._in_value = 2
            if chunk[at] == _SPACE:
                at += 1
        if at == stop:
            return
        if self._field == b"data":
            self._hear.data(chunk, at, stop, base)
        elif self._field == b"event":
            self._name += chunk[at : min(stop, at + LONGEST_NAME - len(self._name))]

    def _begin(self, field: bytes) -> None:
        """The name of a field is known."""
        if field == b"data":
            if self._has_data:
                self._hear.data(b"\n", 0, 1, 0)
            self._has_data = True
        elif field == b"event":
            self._name = b""

    def _line(self) -> None:
        """A line has ended."""
        field, self._field = self._field, b""
        in_value, self._in_value = self._in_value, 0
        if not in_value and field:
            self._begin(field)
        if field == b"event":
            self._event = self._name
        elif not field and not in_value:
            name, self._event = self._event, b""
            if self._has_data:
                self._has_data = False
                self._hear.event(name.decode("utf-8", "replace"))
