"""Limits as they are written everywhere: `"20 / 10s"`, `"500 / 1d"`, `"25 USD / month"`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, ClassVar, Literal, get_args

from .prices import nano
from .quota import MOST
from .values import SECONDS, Several, duration

Calendar = Literal["day", "week", "month"]
SCALE = {"": 1, "k": 1000, "M": 1_000_000}


@dataclass(frozen=True, slots=True)
class Window:
    """The time a limit looks at: rolling `seconds`, or the calendar's day, week or month."""

    seconds: float | None = None
    calendar: Calendar | None = None

    @classmethod
    def parse(cls, text: str) -> Window:
        """A window from "10s", "30d" (rolling) or "day", "week", "month" (the calendar's)."""
        for calendar in get_args(Calendar):
            if text == calendar:
                return cls(calendar=calendar)
        try:
            seconds = duration(text)
        except ValueError:
            seconds = 0.0
        if seconds <= 0:
            raise ValueError(f"'{text}' is not a window: write 10s, 1m or 30d (rolling), or day, week or month")
        return cls(seconds=seconds)

    def __str__(self) -> str:
        if self.seconds is None:
            return str(self.calendar)
        for unit, seconds in reversed(SECONDS.items()):
            if self.seconds >= seconds and self.seconds % seconds == 0:
                return f"{self.seconds / seconds:g}{unit}"
        return f"{self.seconds * 1000:g}ms"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a window."""

    count: int
    window: Window
    wanted: ClassVar[str] = 'a limit such as "20 / 10s" or "500 / day"'

    @classmethod
    def parse(cls, text: str) -> Rate:
        """A rate from "20 / 10s" or "100k / 1m"."""
        amount, window = _halves(text, cls.wanted)
        found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)([kM]?)", amount, re.ASCII)
        if not found:
            raise ValueError(f"'{text}' is not {cls.wanted}: '{amount}' is not a number such as 20, 100k or 2M")
        count = Decimal(found[1]) * SCALE[found[2]]
        if count != int(count):
            raise ValueError(f"'{text}' is not {cls.wanted}: {amount} is not a whole number")
        if count == 0:
            raise ValueError(f"'{text}' would refuse everything; leave a limit out to have none")
        return cls(int(count), Window.parse(window))

    def __str__(self) -> str:
        return f"{self.count} / {self.window}"


@dataclass(frozen=True, slots=True)
class Budget:
    """So much money in a window."""

    usd: Decimal
    window: Window
    wanted: ClassVar[str] = 'a budget such as "25 USD / month"'

    @property
    def nano(self) -> int:
        """The amount in nano-USD, in which money is counted."""
        return nano(self.usd)

    @classmethod
    def parse(cls, text: str) -> Budget:
        """A budget from "25 USD / month"."""
        amount, window = _halves(text, cls.wanted)
        found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([A-Za-z]*)", amount, re.ASCII)
        if not found:
            raise ValueError(f"'{text}' is not {cls.wanted}: '{amount}' is not an amount such as 25 USD")
        if found[2] != "USD":
            raise ValueError(f"'{text}' is not {cls.wanted}: prices are in USD, so budgets are too")
        usd = Decimal(found[1])
        if usd == 0:
            raise ValueError(f"'{text}' would refuse everything; leave a budget out to have none")
        if nano(usd) > MOST:
            raise ValueError(f"'{text}' is more than can be counted, which is {MOST // nano(Decimal(1)):,} USD")
        return cls(usd, Window.parse(window))

    def __str__(self) -> str:
        return f"{self.usd:f} USD / {self.window}"


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits that count together. Those not given do not limit."""

    requests: Several[Rate] = ()
    images: Several[Rate] = ()
    tokens: Several[Rate] = ()
    concurrent: int | None = None
    budget: Several[Budget] = ()

    def __post_init__(self) -> None:
        if self.concurrent is not None and self.concurrent < 1:
            raise ValueError("concurrent must be at least 1; leave a limit out to have none")

    @classmethod
    def read(cls, table: Mapping[str, object]) -> Limits:
        """Limits from such a table as `written` gives. Raises ValueError for what is not one, or not known here."""
        kinds: dict[str, type[Rate] | type[Budget]] = {
            "requests": Rate,
            "images": Rate,
            "tokens": Rate,
            "budget": Budget,
        }
        read: dict[str, Any] = {}
        for name, value in table.items():
            several = value if isinstance(value, list | tuple) else [value]
            if name == "concurrent" and type(value) is int:
                read[name] = value
            elif name in kinds and all(isinstance(one, str) for one in several):
                read[name] = tuple([kinds[name].parse(str(one)) for one in several])
            else:
                raise ValueError(f"there is no limit {name} = {value!r}")
        return cls(**read)

    def written(self) -> dict[str, Any]:
        """The same as text and numbers, as it stands in the config: {"images": ["20 / 1m"], "concurrent": 5}."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value if isinstance(value, int) else [str(one) for one in value]
            for name, value in given.items()
            if value
        }

    def __bool__(self) -> bool:
        return bool(self.requests or self.images or self.tokens or self.concurrent or self.budget)


NO_LIMITS = Limits()


def _halves(text: str, wanted: str) -> tuple[str, str]:
    amount, slash, window = text.partition("/")
    if not slash or not amount.strip() or not window.strip():
        raise ValueError(f"'{text}' is not {wanted}")
    return amount.strip(), window.strip()
