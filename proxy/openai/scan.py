"""An answer of OpenAI's shape, looked at while it flows by: pictures, usage, errors, and whether it holds a picture.

    scanner = Scanner("json")                # or "sse", by what the answer says it is
    for chunk in answer:
        for event in scanner.feed(chunk):    # begun, piece, ended, settled: each with its Image
            ...
    scanner.close()
    scanner.verdict, scanner.facts.usage

It does no I/O, holds a few KiB, never raises whatever comes, and says the same however the answer is cut. The bytes
themselves go another way. Offsets count from the first byte of the answer.

* An image is `begun` when its text begins and its form is known, `ended` at its closing quote (offsets, `bad`,
  `canonical`), `settled` when nothing more will be known of it (kind, item, declared). Kind may be known earlier:
  members come in any order. What was begun is always ended and settled, with `bad` set if the answer broke off.
* `take` says which images are to be decoded; these have `piece` events with the bytes. Without it text is skipped.
* `verdict` is None while it is open, and stays once given: the first evidence decides. A partial image is none.
* Who rewrites may let go of the bytes before `safe`: what lies behind may turn out to belong to an image's member.
"""

from __future__ import annotations

from typing import Literal

from .scan_images import Image, Taking
from .scan_meaning import Event, Facts, Meaning, Take, Verdict
from .scan_walk import Walk
from .sse import Lines

__all__ = ["Event", "Facts", "Image", "Scanner", "Verdict"]

_BOM = b"\xef\xbb\xbf"
_DONE = b"[DONE]"


class Scanner:
    """One answer. `broken` says in words why some of it could not be read."""

    __slots__ = ("_bom", "_closed", "_documents", "_done", "_head", "_lines", "_meaning", "_walk", "broken", "offset")

    def __init__(self, kind: Literal["json", "sse"], take: Take | None = None) -> None:
        self.offset = 0  # bytes seen
        self.broken: str | None = None
        self._lines = Lines(self) if kind == "sse" else None
        self._meaning = Meaning(take, stream=kind == "sse")
        self._walk: Walk = self._meaning.walk
        self._bom = 0  # bytes of a byte order mark seen; 3: the document may begin
        self._head = b""  # of the data of an event
        self._documents = 0  # events that said something
        self._done = False  # what follows [DONE] is read by nobody
        self._closed = False

    @property
    def verdict(self) -> Verdict | None:
        """Whether the answer holds a final image; None while that is open."""
        return self._meaning.verdict

    @property
    def facts(self) -> Facts:
        """What the answer has said of itself so far."""
        return self._meaning.facts

    @property
    def partials(self) -> int:
        """How many partial images have come."""
        return self._meaning.partials

    @property
    def pictures(self) -> int:
        """How many final images have come."""
        return self._meaning.pictures

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end and all of it could be read."""
        return self._closed and self.broken is None

    @property
    def safe(self) -> int:
        """The offset before which nothing can become part of a member that holds an image."""
        walk, meaning = self._walk.held, self._meaning.held
        held = walk if meaning is None else meaning if walk is None else min(walk, meaning)
        return self.offset if held is None else held

    @property
    def whole(self) -> int:
        """The offset behind the last event that has come whole; 0 where it is no stream."""
        return self._lines.whole if self._lines is not None else 0

    def feed(self, chunk: bytes | bytearray | memoryview) -> list[Event]:
        """Look at the next bytes; what there is to say of images."""
        events = self._meaning.fresh()
        if self._closed:
            return events
        data = chunk if type(chunk) is bytes else bytes(chunk)
        at, end = 0, len(data)
        while self._bom < 3 and at < end:
            if data[at] != _BOM[self._bom]:
                self._no_bom()
            else:
                at += 1
                self._bom += 1
        self._look(data, at, end, self.offset)
        self.offset += end
        return events

    def late(self, take: Take, data: bytes) -> list[Event] | None:
        """Have images decoded from now on; what there is to say of those so far. `data` is all that came.

        None: what came has to be looked at anew, by another scanner.
        """
        return self._meaning.late(take, data) if self.broken is None and not self._closed else None

    def midst(self) -> Taking | None:
        """The picture in the middle of which it stands, if only more of that can come, or its end.

        What its `skim` takes of the next bytes is not fed: `offset` goes on by it.
        """
        return self._meaning.midst() if self._lines is None or self._lines.in_data else None

    def close(self) -> list[Event]:
        """The answer has ended; what was open is settled."""
        events = self._meaning.fresh()
        if self._closed:
            return events
        if self._bom < 3:
            self._no_bom()
        if self._lines is not None:
            self._lines.close()
        elif self.broken is None:
            self._walk.close()
            self._notice()
        self._closed = True
        if self._lines is not None and not (self._documents or self._done):
            self.broken = self.broken or "nothing came"
        self._meaning.conclude(unknown=self.broken is not None)
        return events

    def _no_bom(self) -> None:
        seen, self._bom = self._bom, 3
        self._look(_BOM, 0, seen, 0)

    def _look(self, data: bytes, at: int, end: int, base: int) -> None:
        if self._lines is not None:
            self._lines.feed(data, at, end, base)
        elif self.broken is None:
            self._walk.feed(data, at, end, base)
            self._notice()

    def _notice(self) -> None:
        """A document that broke says nothing more."""
        if self._walk.broken is not None:
            self.broken = self._walk.broken
            self._meaning.cut("")
            self._meaning.conclude(unknown=True)

    def data(self, data: bytes, at: int, end: int, base: int) -> None:
        """Some data of an event."""
        if self._done:
            return
        if len(self._head) < len(_DONE):
            self._head += data[at : min(end, at + len(_DONE) - len(self._head))]
        self._meaning.event = self.whole
        self._walk.feed(data, at, end, base)

    def event(self, name: str) -> None:
        """An event is whole."""
        head, self._head = self._head, b""
        if self._done:
            return
        walk, meaning = self._walk, self._meaning
        if head == _DONE:
            self._done = True
            meaning.conclude(unknown=self.broken is not None)
        elif not walk.empty:
            walk.close()
            if walk.broken is not None:
                self.broken = self.broken or f"an event is not JSON: {walk.broken}"
                meaning.cut(name)
            else:
                self._documents += 1
                meaning.dispatched(name)
            if name == "error":
                meaning.failed()
        walk.restart()
