"""Prices as the config gives them: USD as TOML's numbers, by picture or by million tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, ClassVar

from ..model.prices import Price, nano
from .settings import BAD, Reader
from .tables import model_name
from .words import at

PLACES = 9  # behind the point: a nano-USD
HIGHEST = 1_000_000  # USD; nothing costs that, and sums stay countable
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}|[0-9.]{1,4}K")


class Usd(int):
    """An amount of money in nano-USD."""

    wanted: ClassVar[str] = "an amount in USD such as 0.053"

    @classmethod
    def of_number(cls, number: Decimal) -> Usd:
        """The amount from a number in the file. Raises ValueError."""
        if not number.is_finite() or number < 0:
            raise ValueError(f"{number} is no price; write {cls.wanted}, or 0 for what costs nothing")
        if number > HIGHEST:
            raise ValueError(f"{str(number)[:30]} USD is more than a price can be, which is {HIGHEST:,}")
        if number != number.quantize(Decimal(1).scaleb(-PLACES)):
            raise ValueError(
                f"{str(number)[:30]} has more than {PLACES} places behind the point; nothing is counted as finely"
            )
        return cls(nano(number))


@dataclass(frozen=True, slots=True)
class Qualities:
    """One picture, by quality. `auto` and what is not given count as the dearest."""

    low: Usd | None = None
    medium: Usd | None = None
    high: Usd | None = None
    xhigh: Usd | None = None
    max: Usd | None = None
    standard: Usd | None = None
    hd: Usd | None = None
    per_image: Usd | None = None  # for qualities that are not given

    def row(self) -> dict[str, int]:
        """Those given, by the word in a request."""
        given = {field.name: getattr(self, field.name) for field in fields(Qualities)}
        return {"" if name == "per_image" else name: int(usd) for name, usd in given.items() if usd is not None}


@dataclass(frozen=True, slots=True)
class PriceTable(Qualities):
    """`[prices."GLOB"]`: what models cost whose name matches. A size, "1024x1024", holds qualities of its own."""

    input_per_mtok: Usd | None = None
    output_per_mtok: Usd | None = None
    image_input_per_mtok: Usd | None = None  # not given: input_per_mtok
    image_output_per_mtok: Usd | None = None  # not given: output_per_mtok


def prices(reader: Reader, raw: Mapping[str, Any]) -> dict[str, Price]:
    """The prices by name or glob; those that could not be read have been complained of."""
    found = {}
    for name, table in raw.items():
        price = _price(reader, name, table, at("prices", name))
        if price is not None:
            found[name] = price
    return found


def _price(reader: Reader, name: str, raw: object, where: str) -> Price | None:
    if not isinstance(raw, dict):
        example = f"{{ per_image = {raw} }}" if type(raw) in (int, Decimal) else "{ low = 0.006, high = 0.211 }"
        reader.complain(where, f"expected a table; write {at('', name)} = {example}")
        return None
    try:
        model_name("prices", name)
    except ValueError as exc:
        reader.complain(where, str(exc).removeprefix("prices: "))
        return None
    before = len(reader.complaints)
    images: dict[str, dict[str, int]] = {}
    rest = {}
    for key, value in raw.items():
        if _SIZE.fullmatch(key):
            images[key] = _of_size(reader, value, at(where, key))
        elif isinstance(value, dict):
            text = (
                f"a table stands only under a size such as \"1024x1024\"; is the name '{name}.{key}'? It needs quotes"
            )
            reader.complain(at(where, key), text)
        else:
            rest[key] = value
    table = reader.table(PriceTable, rest, where)
    if table is BAD or len(reader.complaints) > before:
        return None
    if row := table.row():
        images[""] = row
    price = Price(
        images,
        table.input_per_mtok,
        table.image_input_per_mtok,
        table.output_per_mtok,
        table.image_output_per_mtok,
    )
    if not images and not price.by_tokens:
        reader.complain(
            where, "says no price; give per_image, prices by quality, or input_per_mtok and output_per_mtok"
        )
        return None
    return price


def _of_size(reader: Reader, raw: object, where: str) -> dict[str, int]:
    if not isinstance(raw, dict):
        usd = reader.value(Usd, raw, where)
        return {} if usd is BAD else {"": int(usd)}
    table = reader.table(Qualities, raw, where)
    row: dict[str, int] = {} if table is BAD else table.row()
    if not raw:
        reader.complain(where, "says no price; give one by quality, as in { low = 0.006, high = 0.211 }")
    return row
