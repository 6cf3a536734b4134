"""From samples to figures: medians, spreads, and ratios of what was measured in the same round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Figure -> what it is called in a table, and with how many decimals.
FIGURES = {
    "cpu_us": ("CPU µs", 1),
    "cpu_us_mb": ("CPU µs/MB", 1),
    "rps": ("requests/s", 0),
    "p50_ms": ("p50 ms", 2),
    "p99_ms": ("p99 ms", 2),
    "mb_s": ("MB/s", 0),
    "peak_mb": ("peak MB", 1),
    "alone_ms": ("p50 ms, 1 conn", 3),
    "added_ms": ("added ms", 3),
    "first_ms": ("first event ms", 3),
    "later_ms": ("later ms", 3),
    "kib_each": ("KiB each", 1),
    "slowest_s": ("slowest s", 2),
    "answered": ("answered", 0),
    "start_s": ("start s", 3),
    "idle_mb": ("idle MB", 1),
    "others": ("others %", 0),
}
ADDED = {"added_ms": "alone_ms", "later_ms": "first_ms"}  # over direct, round by round
COMPARED = ("cpu_us", "cpu_us_mb", "rps", "mb_s", "kib_each")
BASE = "low"
DIRECT = "direct"


@dataclass(frozen=True)
class Sample:
    """One measurement. With any failure it is void."""

    figures: Mapping[str, float]
    failures: Sequence[str] = ()


@dataclass(frozen=True)
class Spread:
    """A median, and how far the rounds lay apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Rounds:
    """All samples of one row in one workload, a round each."""

    samples: list[Sample] = field(default_factory=list)

    @property
    def void(self) -> str | None:
        """Why nothing is to be concluded from these: one failure in any round is enough."""
        return "; ".join(failure for sample in self.samples for failure in sample.failures) or None

    def values(self, figure: str) -> list[float]:
        """One for each round; none when void or when one round lacks it."""
        found = [sample.figures[figure] for sample in self.samples if figure in sample.figures]
        return found if len(found) == len(self.samples) and self.void is None else []


def ratios(row: Rounds, base: Rounds, figure: str) -> list[float]:
    """Row over base, each pair from one round."""
    return [a / b for a, b in zip(row.values(figure), base.values(figure), strict=False) if b]


def differences(row: Rounds, base: Rounds, figure: str) -> list[float]:
    """Row less base, each pair from one round."""
    return [a - b for a, b in zip(row.values(figure), base.values(figure), strict=False)]


def concluded(rows: Mapping[str, Rounds]) -> dict[str, dict[str, object]]:
    """What one workload showed, as it stands in the JSON."""
    found: dict[str, dict[str, object]] = {}
    for name, rounds in rows.items():
        figures = {figure: rounds.values(figure) for figure in FIGURES}
        if name != DIRECT and DIRECT in rows:
            figures |= {new: differences(rounds, rows[DIRECT], old) for new, old in ADDED.items()}
        against = {
            base: {figure: _spread(ratios(rounds, rows[base], figure)) for figure in COMPARED}
            for base in rows
            if base != name and base not in (DIRECT,)
        }
        found[name] = {
            "void": rounds.void,
            "figures": {figure: _spread(values) for figure, values in figures.items() if values},
            "x": {base: {k: v for k, v in each.items() if v} for base, each in against.items() if any(each.values())},
        }
    return found


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    spread = Spread.of(values)
    return {"median": _round(spread.median), "min": _round(spread.least), "max": _round(spread.most)}


def _round(value: float) -> float:
    """Four digits say all that a bench knows."""
    return 0.0 if value == 0 else round(value, max(0, 3 - math.floor(math.log10(abs(value)))))


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which that part of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
