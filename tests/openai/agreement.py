"""The scanner asked and compared with the plain reading."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Literal

from proxy.openai.pictures import sniff
from proxy.openai.scan import Facts, Image, Scanner

from . import answers, plain

Kind = Literal["json", "sse"]
WHATS = ("begun", "ended", "settled")


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
        images = [(asdict(image), self.pieces.get(image)) for image in self.images]
        for image, _ in images:
            if image["bad"]:  # how much of a bad one came depends on the cut
                image["length"] = None
        images = [(image, None if image["bad"] else piece) for image, piece in images]
        return (scanner.verdict, scanner.broken, asdict(scanner.facts), scanner.partials, images, self.order)


def hear(kind: Kind, pieces: Iterable[bytes], take: bool = True) -> Heard:
    """Scan an answer to its end."""
    scanner = Scanner(kind, (lambda image: True) if take else None)
    heard = Heard(scanner, [], {}, [])

    def note(events: Iterable[Any]) -> None:
        for event in events:
            if event.what == "piece":
                heard.pieces[event.image] = heard.pieces.get(event.image, b"") + event.data
                continue
            heard.order.append((event.what, event.image.path))
            if event.what == "begun":
                heard.images.append(event.image)

    for piece in pieces:
        note(scanner.feed(piece))
        assert scanner.safe <= scanner.offset
    note(scanner.close())
    begun, ended, settled = (sorted(path for one, path in heard.order if one == what) for what in WHATS)
    assert begun == ended == settled
    return heard


def agrees(kind: Kind, data: bytes, heard: Heard, small: bool) -> None:
    """Compare with the plain reading; an answer that is none must be known for it."""
    scanner = heard.scanner
    try:
        read = plain.document(data) if kind == "json" else plain.stream(data)
    except ValueError:
        assert not scanner.complete
        return
    assert scanner.complete == (not read.broken), scanner.broken
    if read.broken:
        return  # what an event says before it breaks counts for the scanner
    assert scanner.verdict == read.verdict
    if small:
        _same_facts(scanner.facts, read)
    assert [image.path for image in heard.images] == [found.path for found in read.images]
    for image in heard.images:
        _same(data, image, heard.pieces.get(image, b""), read)


def _same_facts(facts: Facts, read: plain.Read) -> None:
    for name in (*plain.WORDS, *plain.USAGES):
        if name in read.facts and len(str(read.facts[name])) < 250:
            assert getattr(facts, name) == read.facts[name], name
    assert facts.finish == [reason for reason in read.finish if len(reason) < 250][:16]
    assert facts.error == read.error
    assert read.doubled <= set(facts.doubled)


def _same(data: bytes, image: Image, decoded: bytes, read: plain.Read) -> None:
    text = json.loads(_text(data[image.quote : image.end + 1]), strict=False)
    found = [one for one in read.images if (one.path, one.text) == (image.path, text)]
    assert found
    assert (image.kind, image.item, image.partial, image.index) in [
        (one.kind, one.item, one.partial, one.index) for one in found
    ]
    assert image.plausible == plain.plausible(found[0])
    member = data[image.key : image.quote].decode()
    assert json.JSONDecoder().raw_decode(member)[0] == image.path.rpartition(".")[2]
    if image.form == "url":
        assert image.url == text or (image.bad == "a URL that is not UTF-8" and "\udcff" in text)
        return
    inner = plain.payload(text) if text[:5].lower() == "data:" else text
    assert (image.form == "base64") == (inner is not None)
    if inner is None:
        return
    raw = data[image.start : image.end]
    assert json.loads(_text(b'"%b"' % raw), strict=False) == inner
    right = plain.decoded(inner)
    if right is None:
        assert image.bad is not None and not image.canonical
        return
    assert decoded == right and image.length == len(right)
    assert (image.bad is None) == image.plausible or not right
    assert image.canonical == (raw == base64.b64encode(right) and image.bad is None) or not right
    if len(right) > 32:
        assert image.sniffed == sniff(right)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def try_one(rng: Random, cuts: int) -> None:
    """One answer, whole and in pieces, right or broken."""
    kind: Kind = rng.choice(("json", "sse"))
    data = answers.document(rng) if kind == "json" else answers.stream(rng)
    broken = rng.randrange(3) == 0
    if broken:
        data = answers.mutated(rng, data)
    whole = hear(kind, [data])
    agrees(kind, data, whole, small=not broken)  # invalid UTF-8 and NaN are not read in small values
    summary = whole.summary()
    for _ in range(cuts):
        assert hear(kind, answers.cut(rng, data)).summary() == summary
    untaken = hear(kind, [data], take=False).scanner
    assert (untaken.verdict, untaken.facts) == (whole.scanner.verdict, whole.scanner.facts)
