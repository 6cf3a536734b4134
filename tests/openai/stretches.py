"""What a change of one field may touch: where fields stand in a document, and the stretch that differs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every path in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ([path] if path else []) + [one for key, held in inner for one in paths(held, (*path, key))]


def holder(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path[:-1]:
        document = document[step]
    return document


def one_stretch(before: bytes, after: bytes, new: bytes) -> list[bytes]:
    """What may have stood where `new` stands, if that alone was changed."""
    gone, rest = len(before) - len(after) + len(new), len(after) - len(new)
    if gone < 0 or rest < 0:
        return []
    first = rest - _same(rest, lambda size: before[len(before) - size :] == after[len(after) - size :])
    last = _same(rest, lambda size: before[:size] == after[:size])
    return [before[at : at + gone] for at in range(first, last + 1) if after[at:].startswith(new)]


def _same(most: int, holds: Callable[[int], bool]) -> int:
    """The greatest size up to `most` for which it holds, as it does for all below."""
    return bisect_left(range(1, most + 1), True, key=lambda size: not holds(size))
