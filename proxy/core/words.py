"""Words about settings: addresses, what a value is, what was wanted; a possible secret is never repeated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ..model.values import Secret

SHOWN = 60  # characters of a wrong value that a complaint repeats
SECRET_FORM = '"env:NAME", "file:/path" or "secret:NAME"'
MARKED = {
    "duration": 'a duration such as "20s" or "10m"',
    "size": 'a size such as "64KiB" or "1GiB"',
    "plain too": f"text or a secret ({SECRET_FORM})",
}
SECRET_NAMES = frozenset(("api_key", "secret", "token", "headers", "credentials", "password"))
SECRET_ENDS = ("_key", "_token", "_secret", "_password")
SECRET_LOOK = re.compile(r"(?<![a-z0-9])sk-|bearer\s|://[^/\s]*@", re.IGNORECASE)


def at(where: str, key: str) -> str:
    """The address of a key in a table, quoted as TOML would have it."""
    name = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else '"' + key.replace('"', '\\"') + '"'
    return f"{where}.{name}" if where else name


def nearest(word: str, words: Iterable[str]) -> str:
    """A suggestion, or all that there is: `did you mean 'limits'?`."""
    words = sorted(words)
    if near := get_close_matches(word, words, 1):
        return f"did you mean '{near[0]}'?"
    return f"there are {', '.join(words)}" if words else "there are none"


def hidden(raw: object, where: str) -> bool:
    """Whether a complaint must not repeat this value: its address or its look says that it may be a secret."""
    for part in re.split(r"[.\[]", where.lower()):
        if part in SECRET_NAMES or part.endswith(SECRET_ENDS):
            return True
    return isinstance(raw, str) and SECRET_LOOK.search(raw) is not None


def found(raw: object, where: str) -> str:
    """A wrong value in words, shortened, and without itself where it may be a secret."""
    if isinstance(raw, dict):
        return "a table"
    if isinstance(raw, list):
        return "a list"
    if hidden(raw, where):
        return "a value that is not shown"
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, str):
        return f'the text "{raw if len(raw) <= SHOWN else raw[:SHOWN] + "..."}"'
    return f"the number {raw}" if isinstance(raw, int | float | Decimal) else f"the date or time {raw}"


def wanted(kind: Any) -> str:
    """What a setting of this type takes, in words."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        if "several" in args[1:]:
            return f"{wanted(get_args(args[0])[0])}, or a list of such"
        return MARKED.get(args[1]) or wanted(args[0])
    if origin in (Union, UnionType):
        return " or ".join(wanted(arg) for arg in args if arg is not NoneType)
    if origin is Literal:
        return " or ".join(f'"{arg}"' if isinstance(arg, str) else str(arg) for arg in args)
    if origin in (tuple, list):
        return f"a list, each item {wanted(args[0])}"
    if origin in (dict, Mapping):
        return "a table" if args[1] is Any or is_dataclass(args[1]) else f"a table, each value {wanted(args[1])}"
    plain: dict[Any, str] = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        Path: "a path",
        Secret: f"a secret ({SECRET_FORM})",
        Any: "anything",
    }
    return plain.get(kind) or str(getattr(kind, "wanted", "a table"))


def written(kind: Any, value: object) -> str:
    """A default as it would stand in the file."""
    if get_origin(kind) in (Union, UnionType):
        kind = next((arg for arg in get_args(kind) if get_origin(arg) is Annotated), kind)
    marks = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f'"{value:g}s"' if "duration" in marks else f'"{_bytes(int(value))}"' if "size" in marks else str(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(written(None, item) for item in value)}]"
    if isinstance(value, dict):
        items = ", ".join(f"{at('', key)} = {written(None, item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    return f'"{value}"'


def _bytes(count: int) -> str:
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count and count % one == 0:
            return f"{count // one}{unit}"
    return f"{count}B"
