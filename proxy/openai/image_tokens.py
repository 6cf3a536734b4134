"""How many output tokens a picture takes, by model, size and quality: the price book's tables and formulas as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

from .quality import family

# Read as data: the floor above has the prices, and no code of it is wanted here.
_SEED = ("proxy.prices", "seed.toml")
_TABLES = {"1": "gpt-image-1.5", "2": "gpt-image-2", "2.5": "gpt-image-2.5"}  # by family
# For a model that nobody knows, the one whose words cost most: a guess must not be too low.
_UNKNOWN = "gpt-image-2"
_PARTIAL = 100  # where the book says nothing of a partial picture's price
_SIZE = re.compile(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})", re.ASCII)
# What `auto` chooses from, and the bounds within which sizes are free.
_AUTO = ((1024, 1024), (1024, 1536), (1536, 1024))
_EDGE, _AREA, _RATIO = 3840, 3840 * 2160, 3
_LONGEST = 512  # characters of all three words that are worth looking up, and remembering

Rows = Mapping[tuple[int, int], Mapping[str, int]]


class _Book(NamedTuple):
    tables: Mapping[str, Rows]
    factors: Mapping[str, Mapping[str, int]]
    named: Mapping[str, str]  # a model's table
    partial: Mapping[str, int]  # what each partial picture of a model takes besides


@cache
def load() -> _Book:
    """The tables and formulas; read once, in some 20 ms, so whoever has limits does it before."""
    import tomllib
    from importlib.resources import files

    seed: dict[str, Any] = tomllib.loads(files(_SEED[0]).joinpath(_SEED[1]).read_text(encoding="utf-8"))
    tables = {name: {_sides(size): row for size, row in rows.items()} for name, rows in seed["tokens"].items()}
    named, partial = {}, {}
    for entry in seed["model"]:
        for name in (entry["id"], *entry.get("aliases", ())):
            if "tokens_table" in entry:
                named[name] = entry["tokens_table"]
            if "partial_image_extra_tokens" in entry:
                partial[name] = entry["partial_image_extra_tokens"]
    factors = {name: formula["factors"] for name, formula in seed["formula"].items()}
    return _Book(tables, factors, named, partial)


def image_tokens(model: str | None, size: str | None, quality: str | None, partials: int = 0) -> int:
    """The most output tokens that one picture may take. What is left open, or not known, counts as the dearest."""
    if len(model or "") + len(size or "") + len(quality or "") > _LONGEST:
        model = size = quality = None
    each, partial = _tokens(model, size, quality)
    return each + partials * partial


@lru_cache(maxsize=1024)
def _tokens(model: str | None, size: str | None, quality: str | None) -> tuple[int, int]:
    book, name = load(), model or ""
    table = book.named.get(name) or _TABLES.get(family(name) or "") or _UNKNOWN
    rows, factors = book.tables[table], book.factors.get(table)
    words = set(factors or ()) or {word for row in rows.values() for word in row}
    qualities = (quality,) if quality in words else tuple(words)
    most = max(_one(rows, factors, sides, word) for sides in _wanted(rows, factors, size) for word in qualities)
    return most, book.partial.get(name, _PARTIAL)


def _wanted(rows: Rows, factors: Mapping[str, int] | None, size: str | None) -> tuple[tuple[int, int], ...]:
    if size is None or size == "auto":
        return _AUTO
    sides = _sides(size)
    if sides in rows or (factors and _free(*sides)):
        return (sides,)
    return tuple(rows)


def _sides(size: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(size)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _free(width: int, height: int) -> bool:
    long, short = max(width, height), min(width, height)
    return short > 0 and long <= min(_EDGE, _RATIO * short) and width * height <= _AREA


def _one(rows: Rows, factors: Mapping[str, int] | None, sides: tuple[int, int], quality: str) -> int:
    fixed = rows.get(sides, {}).get(quality)
    if fixed is not None:
        return int(fixed)
    if not factors:
        return max(max(row.values()) for row in rows.values())
    factor, (width, height) = factors[quality], sides
    long, short = max(sides), min(sides)
    lines = (2 * factor * short + long) // (2 * long)
    return -(-factor * lines * (2_000_000 + width * height) // 4_000_000)
