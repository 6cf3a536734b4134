"""Types of settings that are more than text or numbers: durations, sizes, secrets."""

from __future__ import annotations

import re
from typing import Annotated, NoReturn, TypeVar

T = TypeVar("T")

Duration = Annotated[float, "duration"]
"""Seconds, written with a unit: "2s", "500ms", "10m", "24h", "30d"."""

Size = Annotated[int, "size"]
"""Bytes, written with a unit: "64KiB", "10MB", "1GiB"."""

Several = Annotated[tuple[T, ...], "several"]
"""One or a list of them in the file; always a tuple in the program."""

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Secret:
    """A secret that repr, str, format and pickle hide; `reveal()` is the one way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for the one place that must send it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def duration(text: str) -> float:
    """Seconds in a duration; raises ValueError with words for the operator."""
    return _scaled(text, SECONDS, 'a duration such as "500ms", "20s", "10m", "24h" or "30d"')


def size(text: str) -> int:
    """Bytes in a size; raises ValueError with words for the operator."""
    return int(_scaled(text, BYTES, 'a size such as "64KiB", "10MB" or "1GiB"'))


def _scaled(text: str, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text.strip(), re.ASCII)
    if not found or found[2] not in units:
        raise ValueError(f"{text!r} is not {wanted}")
    return float(found[1]) * units[found[2]]
