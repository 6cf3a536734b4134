"""The scanner asked and compared with the plain reading."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

from proxy.openai.pictures import sniff
from proxy.openai.scan import Facts, Image, Scanner
from proxy.openai.scan_walk import DEEPEST

from . import answers, plain
from .answers import Dice

Kind = Literal["json", "sse"]
WHATS = ("begun", "ended", "settled")
SAID = [one.name for one in fields(Image) if one.name != "length"]


@dataclass
class Heard:
    """All that a scanner said of one answer."""

    scanner: Scanner
    images: list[Image]
    pieces: dict[Image, bytes]
    order: list[tuple[str, str]]

    def summary(self) -> object:
        """What must be the same however the answer is cut."""
        scanner = self.scanner
        images = []
        for image in self.images:
            said = [getattr(image, name) for name in SAID]
            if not image.bad:  # how much of a bad one came depends on the cut
                said += [image.length, self.pieces.get(image)]
            images.append(said)
        return (scanner.verdict, scanner.broken, scanner.facts, scanner.partials, scanner.pictures, images, self.order)


def hear(kind: Kind, pieces: Iterable[bytes], take: bool = True, *, late: int = 0, skim: bool = False) -> Heard:
    """Scan an answer to its end. `late`: images are taken after so many pieces; `skim`: what can goes straight."""

    def wanted(image: Image) -> bool:
        return True

    scanner = Scanner(kind, wanted if take and not late else None)
    heard = Heard(scanner, [], {}, [])
    came = b""

    def note(events: Iterable[Any]) -> None:
        for event in events:
            if event.what == "piece":
                heard.pieces[event.image] = heard.pieces.get(event.image, b"") + event.data
                continue
            heard.order.append((event.what, event.image.path))
            if event.what == "begun":
                heard.images.append(event.image)

    for number, piece in enumerate(pieces):
        if late and number == late:
            caught_up = scanner.late(wanted, came)
            if caught_up is None:
                scanner = heard.scanner = Scanner(kind, wanted)
                caught_up = scanner.feed(came)
            note(caught_up)
        midst = scanner.midst() if skim else None
        if midst is not None and (found := midst.skim(piece)) is not None:
            scanner.offset += len(piece)
            heard.pieces[midst.image] = heard.pieces.get(midst.image, b"") + b"".join(found)
        elif (events := scanner.feed(piece)) and number >= late:
            note(events)
        came += piece if number < late else b""
        assert scanner.safe <= scanner.offset
    note(scanner.close())
    if heard.order:
        begun, ended, settled = (sorted([path for one, path in heard.order if one == what]) for what in WHATS)
        assert begun == ended == settled
    return heard


def agrees(kind: Kind, data: bytes, heard: Heard, small: bool) -> bool:
    """Compare with the plain reading; False for an answer that is none, which must be known for it."""
    scanner = heard.scanner
    try:
        read = plain.document(data) if kind == "json" else plain.stream(data)
    except (ValueError, RecursionError):
        assert not scanner.complete
        return False
    if scanner.broken is not None and "levels deep" in scanner.broken:
        assert data.count(b"{") + data.count(b"[") > DEEPEST
        return False
    assert scanner.complete == (not read.broken), scanner.broken
    if read.broken:
        return False  # what an event says before it breaks counts for the scanner
    assert (scanner.verdict, scanner.pictures) == (read.verdict, read.pictures)
    if small:
        _same_facts(scanner.facts, read)
    assert [image.path for image in heard.images] == [found.path for found in read.images]
    for image in heard.images:
        _same(kind, data, image, heard.pieces.get(image, b""), read)
    return True


def _same_facts(facts: Facts, read: plain.Read) -> None:
    for name in (*plain.WORDS, *plain.USAGES):
        if name in read.facts and len(str(read.facts[name])) < 250:
            assert getattr(facts, name) == read.facts[name], name
    assert facts.finish == [reason for reason in read.finish if len(reason) < 250][:16]
    assert facts.error == read.error
    assert read.doubled <= set(facts.doubled)


def _same(kind: Kind, data: bytes, image: Image, decoded: bytes, read: plain.Read) -> None:
    text = json.loads(_text(kind, data[image.quote : image.end + 1]), strict=False)
    found = [one for one in read.images if (one.path, one.text) == (image.path, text)]
    assert found
    assert (image.kind, image.item, image.partial, image.index) in [
        (one.kind, one.item, one.partial, one.index) for one in found
    ]
    assert image.plausible == plain.plausible(found[0])
    member = data[image.key : image.quote].decode("utf-8", "surrogateescape")
    assert json.JSONDecoder().raw_decode(member)[0] == image.path.rpartition(".")[2]
    if image.form == "url":
        assert image.url == text or (image.bad == "a URL that is not UTF-8" and plain.NOT_UTF_8.search(text))
        return
    inner = plain.payload(text) if text[:5].lower() == "data:" else text
    assert (image.form == "base64") == (inner is not None)
    if inner is None:
        return
    raw = data[image.start : image.end]
    assert json.loads(_text(kind, b'"%b"' % raw), strict=False) == inner
    right = plain.decoded(inner)
    if right is None:
        assert image.bad is not None and not image.canonical
        return
    assert decoded == right and image.length == len(right)
    assert (image.bad is None) == image.plausible or not right
    assert image.canonical == (raw == base64.b64encode(right) and image.bad is None) or not right
    if len(right) > 32:
        assert image.sniffed == sniff(right)


def _text(kind: Kind, data: bytes) -> str:
    """What stands there; of an event's data that breaks its lines within a string, the lines joined."""
    text = data.decode("utf-8", "surrogateescape")
    if kind == "json":
        return text
    first, *more = re.split("\r\n|\n|\r", text)
    fields = [line.partition(":") for line in more]
    return "\n".join([first, *(value.removeprefix(" ") for key, _, value in fields if key == "data")])


@dataclass
class Tally:
    """What was tried, for a line at the end."""

    cases: int = 0
    read: int = 0  # that the plain reader reads, too
    images: int = 0
    pieces: int = 0
    bytes: int = 0


def try_two(seed: int, tally: Tally) -> None:
    """An answer, and the same with some bytes changed: to make one takes as long as to scan it twice."""
    rng = Dice(seed)
    kind: Kind = rng.choice(("json", "sse"))
    data = answers.document(rng) if kind == "json" else answers.stream(rng)
    _try(rng, kind, data, tally, right=True)
    _try(rng, kind, answers.mutated(rng, data), tally, right=False)


def _try(rng: Dice, kind: Kind, data: bytes, tally: Tally, *, right: bool) -> None:
    pieces = answers.cut(rng, data)
    # Invalid UTF-8 and NaN are not read in small values.
    whole, read = compare(kind, data, pieces, small=right, untaken=tally.cases % 4 == 0)
    tally.cases += 1
    tally.read += read
    tally.images += len(whole.images)
    tally.pieces += len(pieces)
    tally.bytes += len(data)


def compare(kind: Kind, data: bytes, pieces: list[bytes], *, small: bool, untaken: bool) -> tuple[Heard, bool]:
    """One answer against the plain reading; and once more in pieces, against the same whole."""
    whole = hear(kind, [data])
    read = agrees(kind, data, whole, small)
    assert hear(kind, pieces).summary() == whole.summary()
    assert hear(kind, pieces, late=len(pieces) // 2, skim=True).summary() == whole.summary()
    if untaken:
        scanner = hear(kind, [data], take=False).scanner
        for name in ("verdict", "facts", "pictures"):
            assert getattr(scanner, name) == getattr(whole.scanner, name)
    return whole, read
