"""Where a field stands in a JSON document: spans of bytes, found without reading values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import orjson

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)
_SCALAR = re.compile(rb"[^ \t\n\r,\]}]++")
_BLANK = re.compile(rb"[ \t\n\r]*+")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(0|[1-9][0-9]*)\]")

Step = str | int


class Member(NamedTuple):
    """A member of an object or an element of an array: `key ... value`, as offsets."""

    key: Step
    start: int  # of the key; in an array, of the value
    value: int
    end: int


class Place(NamedTuple):
    """Where a field stands, and what must go with it if it goes."""

    value: int
    end: int
    cut: tuple[int, int]


def steps(path: str) -> tuple[Step, ...]:
    """`tools[0].model` as ("tools", 0, "model"). Raises ValueError."""
    found: list[Step] = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or (at == 0) != (step[0][0] not in ".["):
            raise ValueError(f"{path!r} is no path such as 'model' or 'tools[0].model'")
        found.append(step[1] if step[2] is None else int(step[2]))
        at = step.end()
    if not found:
        raise ValueError("a path must not be empty")
    return tuple(found)


def skip(document: bytes, at: int) -> int:
    """The end of the value that begins there. The document must be valid JSON."""
    first = document[at]
    if first == 0x22:
        return _STRING.match(document, at).end()  # type: ignore[union-attr] # valid JSON
    if first not in b"{[":
        return _SCALAR.match(document, at).end()  # type: ignore[union-attr]
    depth = 0
    for found in _NEXT.finditer(document, at):
        byte = document[found.start()]
        if byte in b"{[":
            depth += 1
        elif byte != 0x22:
            depth -= 1
            if not depth:
                return found.end()
    raise ValueError("this is no valid JSON")


def blank(document: bytes, at: int) -> int:
    """The end of the white space that begins there."""
    return _BLANK.match(document, at).end()  # type: ignore[union-attr] # it matches nothing, too


def members(document: bytes, at: int) -> Iterator[Member]:
    """What stands in the object or array that begins there, in order; nothing for other values."""
    kind = document[at]
    if kind not in b"{[":
        return
    at = blank(document, at + 1)
    index = 0
    while document[at] not in b"}]":
        start = at
        key: Step = index
        if kind == 0x7B:
            at = skip(document, start)
            key = orjson.loads(document[start:at])
            at = blank(document, blank(document, at) + 1)  # over the colon
        end = skip(document, at)
        yield Member(key, start, at, end)
        index += 1
        at = blank(document, end)
        if document[at] == 0x2C:
            at = blank(document, at + 1)


def place(document: bytes, path: tuple[Step, ...]) -> Place | None:
    """Where the field of that path stands; None when there is none."""
    at = blank(document, 0)
    found: Place | None = None
    for step in path:
        found = _inside(document, at, step)
        if found is None:
            return None
        at = found.value
    return found


def container(document: bytes, path: tuple[Step, ...]) -> int | None:
    """Where the object that holds, or would hold, the field begins; None when there is no such object."""
    at = blank(document, 0)
    if len(path) > 1:
        above = place(document, path[:-1])
        if above is None:
            return None
        at = above.value
    return at if document[at : at + 1] == b"{" and isinstance(path[-1], str) else None


def _inside(document: bytes, at: int, step: Step) -> Place | None:
    if (document[at] == 0x7B) != isinstance(step, str):
        return None
    before: Member | None = None
    found: Member | None = None
    for member in members(document, at):
        if found is not None:
            return Place(found.value, found.end, (found.start, member.start))
        if member.key == step:
            found = member
        else:
            before = member
    if found is None:
        return None
    return Place(found.value, found.end, (before.end if before else found.start, found.end))
