"""Which fields an endpoint has and of what type: what every body is held against before anything is read from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .. import field
from ..refusal import Refusal


@dataclass(frozen=True, slots=True)
class Kind:
    """What a field may be, and OpenAI's words for it."""

    types: tuple[type, ...]
    words: str
    low: float | None = None
    high: float | None = None

    def between(self, low: float, high: float) -> Kind:
        """The same with bounds."""
        return Kind(self.types, self.words, low, high)


TEXT = Kind((str,), "a string")
FLAG = Kind((bool,), "a boolean")
WHOLE = Kind((int,), "an integer")
NUMBER = Kind((int, float), "a decimal")
LIST = Kind((list,), "an array")
OBJECT = Kind((dict,), "an object")
TEXT_OR_LIST = Kind((str, list), "one of a string or array")
TEXT_OR_OBJECT = Kind((str, dict), "one of a string or object")

Fields = Mapping[str, Kind]


def check(body: field.Body, fields: Fields, within: str = "") -> None:
    """Refuses the first field that isn't known, or isn't what it should be; null counts as absent."""
    for name, value in body.items():
        kind = fields.get(name)
        if kind is None:
            raise field.unknown(within + name)
        if value is not None:
            _one(within + name, value, kind)


def required(body: field.Body, name: str, kind: Kind, within: str = "") -> Any:
    """A field that must be there, of its type."""
    value = body.get(name)
    if value is None:
        raise field.missing(within + name)
    _one(within + name, value, kind)
    return value


def objects(values: list[Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The members of a list of objects, each with its name, such as `tools[0]`."""
    for at, value in enumerate(values):
        if not isinstance(value, dict):
            raise field.wrong_type(f"{name}[{at}]", "an object", value)
        yield f"{name}[{at}]", value


def empty(name: str) -> Refusal:
    """A list that must have a member and has none."""
    message = "empty array. Expected an array with minimum length 1, but got an empty array instead."
    return Refusal(f"Invalid '{name}': {message}", param=name, code="empty_array")


def too_long(name: str, most: int, count: int) -> Refusal:
    """A list with too many members."""
    message = f"Expected an array with maximum length {most}, but got an array with length {count} instead."
    return Refusal(f"Invalid '{name}': array too long. {message}", param=name, code="array_above_max_length")


def supported(value: str, allowed: tuple[str, ...], param: str) -> str:
    """One word out of a closed set, for a value that isn't a field of the body itself."""
    field.choice({param: value}, param, allowed, default="")
    return value


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Puts a name before the parameter of whatever is refused inside: `size` becomes `tools[0].size`."""
    try:
        yield
    except Refusal as exc:
        param = exc.error["param"]
        if not param:
            raise
        longer = f"{name}.{param}"
        message = (exc.error["message"] or "").replace(f"'{param}'", f"'{longer}'")
        raise Refusal(
            message, param=longer, code=exc.error["code"], status=exc.status, type=str(exc.error["type"])
        ) from exc


def _one(name: str, value: object, kind: Kind) -> None:
    right = isinstance(value, kind.types) and (not isinstance(value, bool) or bool in kind.types)
    if not right:
        raise field.wrong_type(name, kind.words, value)
    if not isinstance(value, (int, float)):
        return
    sort = kind.words.split()[-1]
    if kind.low is not None and value < kind.low:
        message = f"{sort} below minimum value. Expected a value >= {kind.low:g}, but got {value} instead."
        raise Refusal(f"Invalid '{name}': {message}", param=name, code=f"{sort}_below_min_value")
    if kind.high is not None and value > kind.high:
        message = f"{sort} above maximum value. Expected a value <= {kind.high:g}, but got {value} instead."
        raise Refusal(f"Invalid '{name}': {message}", param=name, code=f"{sort}_above_max_value")
