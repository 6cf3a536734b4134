"""Every shape of an answer, at every cut: the pictures, what it says of itself, the verdict and when it is known."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from proxy.openai.scan import Image, Scanner

from . import shapes_images, shapes_talk
from .agreement import Heard, hear
from .answers import single
from .shape import Seen, Shape

TABLES = (
    shapes_images.images,
    shapes_images.image_streams,
    shapes_images.failures,
    shapes_talk.responses,
    shapes_talk.response_streams,
    shapes_talk.chats,
)


def shapes(size: int) -> dict[str, Shape]:
    """All answers, with pictures of that many bytes."""
    return {name: shape for table in TABLES for name, shape in table(size).items()}


SHAPES = shapes(40)
NEAR = 4096  # bytes within which the verdict of an ordinary answer is known
LARGE = shapes(200_000)


def seen(image: Image, heard: Heard) -> Seen:
    what = image.url or hashlib.sha256(heard.pieces.get(image, b"")).hexdigest()
    return Seen(what, str(image.kind), image.index, image.form, image.partial, image.item, image.sniffed)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_sees_what_is_there(shape: Shape) -> None:
    heard = hear(shape.kind, [shape.data])
    scanner = heard.scanner
    assert [seen(image, heard) for image in heard.images] == shape.images
    assert all(image.bad is None and image.plausible for image in heard.images)
    assert (scanner.verdict, scanner.complete) == (shape.verdict, shape.complete)
    assert scanner.partials == sum(image.kind == "partial" for image in shape.images)
    assert scanner.pictures == sum(image.kind == "final" for image in shape.images)
    names: dict[str, Any] = {"usage": None, "tool_usage": None, "svg_usage": None, "error": None, "finish": []}
    expected = names | shape.facts
    assert {name: getattr(scanner.facts, name) for name in expected} == expected


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_sees_the_same_at_every_cut(shape: Shape) -> None:
    data = shape.data
    expected = hear(shape.kind, [data]).summary()
    assert hear(shape.kind, single(data)).summary() == expected
    for at in range(1, len(data)):
        assert hear(shape.kind, [data[:at], data[at:]]).summary() == expected, at


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("take", [False, True])
def test_knows_the_verdict_at_the_byte_that_shows_it(shape: Shape, take: bool) -> None:
    scanner = Scanner(shape.kind, (lambda image: True) if take else None)
    known: int | None = None
    for at, piece in enumerate(single(shape.data)):
        scanner.feed(piece)
        if known is None and scanner.verdict is not None:
            known = at + 1
    assert known == shape.known_at()
    for at in (known - 1, known) if known else (len(shape.data),):
        scanner = Scanner(shape.kind)
        scanner.feed(shape.data[:at])
        assert scanner.verdict == (shape.verdict if at == known else None)


def _ordinary(shape: Shape) -> bool:
    """It holds a picture, and says what it is before it shows it."""
    known = shape.known_at()
    return shape.verdict == "image" and known is not None and not shape.data[:known].endswith((b"}", b"\n"))


@pytest.mark.parametrize("name", [name for name, shape in LARGE.items() if _ordinary(shape)])
def test_knows_the_verdict_of_an_ordinary_answer_within_its_first_bytes(name: str) -> None:
    shape = LARGE[name]
    scanner = Scanner(shape.kind)
    begin = 0
    if any(image.kind == "partial" for image in shape.images):  # then it counts from the event of the final one
        known = shape.known_at()
        assert known is not None
        begin = shape.data.rindex(b"\n\n", 0, known) + 2
        scanner.feed(shape.data[:begin])
        assert scanner.verdict is None
    scanner.feed(shape.data[begin : begin + NEAR])
    assert scanner.verdict == "image"


def test_there_are_enough_ordinary_answers() -> None:
    assert sum(map(_ordinary, LARGE.values())) >= 25
