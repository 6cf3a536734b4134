"""Puts a marker into each text, and a picture into each picture's place, of a request that a client has sent."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.openai.asking import MARK

from .pictures import LARGE, SIDE, picture

# With a stop: what comes behind it, when the parts of a message are read in one, must not make another word of it.
MARKER = " flag:violence."
_STEP = re.compile(r"[^.\[\]]+|\[(\d+)\]")
_FORMATS = {"image/jpeg": "JPEG", "image/webp": "WEBP"}
Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a marker is put: the number of a text, or of a picture, among those of the request; None: nowhere."""

    kind: str  # "text", "picture", "clean"
    number: int = -1
    path: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.path}".rstrip()


def places(line: Line) -> list[Place]:
    """Every place that this request has, and none."""
    found = [Place("clean")]
    found += [Place("text", number, path) for number, (path, _, _) in enumerate(line["expected"].get("texts", ()))]
    for number, image in enumerate(line["expected"].get("images", ())):
        if image[1] in ("inline", "upload"):
            found.append(Place("picture", number, image[0]))
    return found


def placed(line: Line, place: Place) -> bytes:
    """The request's body with real pictures in it, and the marker in that place."""
    multipart = (line["type"] or "").lower().startswith("multipart/")
    return _form(line, place) if multipart else _document(line, place)


def _picture(line: Line, number: int, place: Place, media: str | None) -> bytes:
    marked = ("violence",) if place == Place("picture", number, line["expected"]["images"][number][0]) else ()
    long = MARK in line["body"].encode("latin-1")
    return picture(_FORMATS.get(media or "", "PNG"), *marked, side=LARGE if long else SIDE)


# --- JSON


def _document(line: Line, place: Place) -> bytes:
    body: bytes = line["body"].encode("latin-1")
    expected = line["expected"]
    images = [one for one in expected.get("images", ()) if one[1] == "inline"]
    if place.kind == "clean" and not images:
        return body  # as it was recorded
    document = json.loads(body)
    for number, (path, source, *more) in enumerate(expected.get("images", ())):
        if source == "inline":
            encoded = base64.b64encode(_picture(line, number, place, more[1])).decode()
            _changed(document, path, lambda before, text=encoded: _head(before) + text)  # type: ignore[misc]
    if place.kind == "text":
        _changed(document, place.path, _marked)
    return json.dumps(document, indent=2 if b"\n  " in body else None, ensure_ascii=False).encode()


def _head(before: str) -> str:
    """What stands before the base64 of a data: URL, nothing where it is bare."""
    head, comma, _ = before.rpartition(",")
    return head + comma


def _marked(before: Any) -> Any:
    """A text with the marker behind it; a schema with a description that holds it."""
    return {**before, "description": MARKER} if isinstance(before, dict) else before + MARKER


def _changed(document: Any, path: str, change: Callable[[Any], Any]) -> None:
    *steps, last = [int(step[1]) if step[1] else step[0] for step in _STEP.finditer(path)]
    for step in steps:
        document = document[step]
    document[last] = change(document[last])


# --- forms


def _form(line: Line, place: Place) -> bytes:
    body: bytes = line["body"].encode("latin-1")
    boundary = re.search(r'boundary="?([^";]+)', line["type"])
    assert boundary is not None
    edge = b"--" + boundary[1].encode()
    before, *parts, after = body.split(edge)
    return edge.join([before, *_parts(line, place, parts), after])


def _parts(line: Line, place: Place, parts: Sequence[bytes]) -> list[bytes]:
    """The parts, those of pictures with real ones. Those of one name stand in the order in which they are expected."""
    waiting = [(number, image) for number, image in enumerate(line["expected"].get("images", ()))]
    made = []
    for part in parts:
        head, _, value = part.partition(b"\r\n\r\n")
        name = _named(head)
        found = next((one for one in waiting if one[1][0] == name and one[1][1] == "upload"), None)
        if found is not None and b"filename" in head:
            waiting.remove(found)
            value = _picture(line, found[0], place, found[1][3]) + b"\r\n"
        elif place.kind == "text" and name == place.path:
            value = value.removesuffix(b"\r\n") + MARKER.encode() + b"\r\n"
        made.append(head + b"\r\n\r\n" + value)
    return made


def _named(head: bytes) -> str:
    found = re.search(rb'[; ]name="?([^";\r]+)', head)
    assert found is not None
    return found[1].decode()
