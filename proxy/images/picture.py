"""What a file shows of the picture in it: its sort, by its first bytes, and its width and height."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple
from xml.parsers import expat

from ..model.images import ImageType, NotAnImage
from ..openai.pictures import sniff

HEAD = 2**16  # bytes in which an SVG's root must begin; behind a licence and a DTD it does
SEGMENTS = 4096  # of a JPEG before its frame; a colour profile takes some hundred at the most
# Markers that begin a frame (ITU T.81, table B.1), and those that stand alone.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
SVG = ("svg", "http://www.w3.org/2000/svg svg")
PIXELS = re.compile(r"\s*(\d{1,7}(?:\.\d+)?)(?:px)?\s*", re.ASCII)
ReadAt = Callable[[int, int], bytes]  # bytes from there on, so many or as many as there are


class Sight(NamedTuple):
    """What sort of picture it is, and its size in pixels, where it says so."""

    type: ImageType
    width: int | None
    height: int | None


def look(read: ReadAt) -> Sight:
    """The picture in a file, by its bytes alone. Raises NotAnImage."""
    head = read(0, 32)
    sort = sniff(head)
    found: tuple[int, int] | None = None
    if sort == "png" and len(head) > 23 and head[8:16] == b"\0\0\0\x0dIHDR":
        found = _big(head[16:20]), _big(head[20:24])
    elif sort == "gif" and len(head) > 9:
        found = _little(head[6:8]), _little(head[8:10])
    elif sort == "webp":
        found = _webp(head)
    elif sort == "jpeg":
        found = _jpeg(read)
    if sort is not None and found is not None and all(found):
        return Sight(sort, *found)
    if sort in (None, "svg") and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _svg(read(0, HEAD))
    if sort is not None and sort != "svg":
        raise NotAnImage(f"What came begins like a {sort} picture, but its head is cut off or broken.")
    raise NotAnImage("What came is no picture in PNG, JPEG, WebP, GIF or SVG.")


def _big(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _webp(head: bytes) -> tuple[int, int] | None:
    """The size in each of its three sorts (RFC 9649 §2.5-2.7)."""
    if len(head) < 30:
        return None
    if head[12:16] == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF
    if head[12:16] == b"VP8L" and head[20] == 0x2F:
        bits = _little(head[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8X":
        return _little(head[24:27]) + 1, _little(head[27:30]) + 1
    return None


def _jpeg(read: ReadAt) -> tuple[int, int] | None:
    """The size in the first frame, found by going from segment to segment."""
    at = 2
    for _ in range(SEGMENTS):
        raw = read(at, 9)
        if len(raw) < 9 or raw[0] != 0xFF:
            return None
        marker = raw[1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in FRAMES:
            return _big(raw[7:9]), _big(raw[5:7])
        elif marker in ALONE:
            at += 2
        elif marker in (0xD9, 0xDA) or _big(raw[2:4]) < 2:  # the picture's data or its end, and no frame before
            return None
        else:
            at += 2 + _big(raw[2:4])
    return None


def _svg(head: bytes) -> Sight:
    """The size that the root element says. Only so much of the document is read as it takes to get there."""
    roots: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate(namespace_separator=" ")

    def begin(name: str, attributes: dict[str, str]) -> None:
        if not roots:
            roots.append((name, attributes))

    parser.StartElementHandler = begin
    with suppress(expat.ExpatError, ValueError, LookupError):  # broken, before its root or behind; an unknown encoding
        parser.Parse(head, False)
    if not roots or roots[0][0] not in SVG:
        raise NotAnImage("What came is no picture in PNG, JPEG, WebP, GIF or SVG.")
    attributes = roots[0][1]
    width, height = (PIXELS.fullmatch(attributes.get(side, "")) for side in ("width", "height"))
    if width and height:
        return Sight("svg", round(float(width[1])), round(float(height[1])))
    view = re.split(r"[\s,]+", attributes.get("viewBox", "").strip())
    sides = [PIXELS.fullmatch(one) for one in view[2:]]
    if len(view) == 4 and sides[0] and sides[1]:
        return Sight("svg", round(float(sides[0][1])), round(float(sides[1][1])))
    return Sight("svg", None, None)
