"""What an answer's head says of its body, and the scanner that fits, fed as the body flows. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from ..model.coding import INFLATED, Inflater, Undecodable
from ..model.message import Headers
from ..model.reading import Verdict
from .scan import Event, Facts, Scanner
from .scan_images import Taking
from .scan_meaning import WORDS, Take

Label = Literal["json", "sse", "text"]

_NOTHING = Facts()
_JSON = b"{["
_BLANK = b" \t\r\n"
_EVENTS = (b"data:", b"event:", b":")  # how a stream begins that calls itself text
_LINES = b"\r\n"


def label(headers: Headers) -> Label | None:
    """What the body calls itself; None for what is never scanned. Text may be JSON: some upstreams say no more."""
    media = (headers.get("Content-Type") or "text/plain").partition(";")[0].strip().lower()
    if media == "text/event-stream":
        return "sse"
    if media == "application/json" or media.endswith("+json"):
        return "json"
    return "text" if media.startswith("text/") else None


def coding(headers: Headers) -> str | None:
    """The coding that the body came in, in lower case; None for none."""
    if "Content-Encoding" not in headers:
        return None
    words = [word.strip() for line in headers.getall("Content-Encoding") for word in line.lower().split(",")]
    return ", ".join(word for word in words if word not in ("", "identity")) or None


class Reader:
    """One answer's reader. It never raises: what it can't read it does not know, and `broken` says why."""

    __slots__ = ("_coding", "_inflater", "_label", "_scanner", "_skipped", "_status", "_take", "broken", "ended")

    def __init__(self, status: int, label: Label | None, coding: str | None, take: Take | None = None) -> None:
        self._status = status
        self._coding = coding
        self._label: Label | None = label if coding is None or coding in INFLATED else None
        self._inflater = Inflater(coding) if coding is not None and self._label is not None else None
        self._take = take
        self._scanner: Scanner | None = None
        self._skipped = 0  # bytes of white space before the first that tells what it is
        self.ended = False
        self.broken = None if self._label is not None else "it is neither JSON nor a stream of events"
        if label is not None and self._label is None:
            self.broken = "it came in a coding that nobody asked for"

    def late(self, take: Take, data: bytes) -> Sequence[Event] | None:
        """Have images decoded from now on; what there is to say of those so far. `data` is all that came.

        None: that takes a reader that begins anew.
        """
        return self._scanner.late(take, data) if self._scanner is not None and self._inflater is None else None

    def again(self, take: Take) -> Reader:
        """A reader of the same answer that begins anew and has images decoded."""
        return Reader(self._status, self._label, self._coding, take)

    @property
    def known(self) -> Verdict | None:
        """The verdict, as soon as it can be told."""
        if self._status >= 400:
            return "error"
        if not 200 <= self._status < 300:
            return "unknown"
        verdict = self._scanner.verdict if self._scanner is not None else None
        if verdict is not None:  # of a stream that broke off the scanner knows no better
            return "unknown" if verdict == "none" and self.broken is not None else verdict
        return "unknown" if self._label is None or self.ended else None

    @property
    def partials(self) -> int:
        """How many partial images have come."""
        return self._scanner.partials if self._scanner is not None else 0

    @property
    def pictures(self) -> int:
        """How many final images have come."""
        return self._scanner.pictures if self._scanner is not None else 0

    @property
    def facts(self) -> Facts:
        """What the answer has said of itself so far."""
        return self._scanner.facts if self._scanner is not None else _NOTHING

    @property
    def said(self) -> dict[str, str]:
        """The small words among them."""
        facts = self.facts
        return {word: text for word in WORDS if (text := getattr(facts, word)) is not None}

    @property
    def complete(self) -> bool:
        """Whether it came to its end and all of it could be read."""
        return self.ended and self.broken is None and self._scanner is not None and self._scanner.complete

    @property
    def safe(self) -> int:
        """The offset before which nothing can become part of a member that holds an image."""
        return self._scanner.safe if self._scanner is not None else self._skipped

    @property
    def whole(self) -> int:
        """The offset behind the last event that has come whole; 0 where it is no stream."""
        return self._scanner.whole if self._scanner is not None else 0

    def plain(self, data: bytes) -> Iterable[bytes]:
        """The next bytes without their coding, in steps that are to be given to `scan` one by one."""
        if self._inflater is None:
            return (data,) if self._label is not None else ()
        return self._inflated(self._inflater, data)

    def _inflated(self, inflater: Inflater, data: bytes) -> Iterable[bytes]:
        try:
            yield from inflater.feed(data)
        except Undecodable as why:
            self._give_up(str(why))

    def scan(self, data: bytes) -> Sequence[Event]:
        """Look at the next bytes; what there is to say of images."""
        scanner = self._scanner
        if scanner is None:
            if self._label is None:
                return ()
            rest = data.lstrip(_LINES if self._label == "sse" else _BLANK)
            self._skipped += len(data) - len(rest)
            if not rest:
                return ()
            is_json = rest[0] in _JSON
            if self._label == "text" and rest.startswith(_EVENTS):
                self._label = "sse"
            if self._label == "text" and not is_json:
                self._give_up("it is text")
                return ()
            # Some answer JSON to who asked for a stream, and call it one.
            scanner = self._scanner = Scanner("sse" if self._label == "sse" and not is_json else "json", self._take)
            scanner.offset = self._skipped
            data = rest
        return scanner.feed(data)

    def look(self, data: bytes) -> None:
        """Look at the next bytes as they came, where nobody takes images."""
        if self._inflater is None:
            self.scan(data)
        else:
            for plain in self.plain(data):
                self.scan(plain)

    def midst(self) -> Taking | None:
        """The picture in the middle of which it stands: its `skim` may take the next bytes, and `skip` hears."""
        return self._scanner.midst() if self._scanner is not None and self._inflater is None else None

    def skip(self, size: int) -> None:
        """So many bytes need not be looked at."""
        if self._scanner is not None:
            self._scanner.offset += size

    def end(self, *, cut: bool = False) -> Sequence[Event]:
        """No more will come; `cut`: it broke off. What images were open is settled."""
        if self.ended:
            return ()
        self.ended = True
        if self._inflater is not None and not cut:
            try:
                self._inflater.close()
            except Undecodable as why:
                self.broken = self.broken or str(why)
        if cut:
            self.broken = self.broken or "it was cut off"
        scanner = self._scanner
        if scanner is None:
            self.broken = self.broken or "nothing came"
            return ()
        events = scanner.close()
        self.broken = self.broken or scanner.broken
        return events

    def _give_up(self, why: str) -> None:
        """Read no further; what was seen stays. An image that is open is cut when the answer ends."""
        self.broken = self.broken or why
        self._label = self._inflater = None
