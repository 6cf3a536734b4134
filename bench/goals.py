"""What we hold ourselves to, in one place: each goal is a limit on one figure of one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOISE = 0.97  # below that, fewer MB/s than low's is more than noise


@dataclass(frozen=True)
class Goal:
    """`figure` of `row` in `workload`, over that of `against` where one is named, and its limit."""

    workload: str
    row: str
    figure: str
    limit: float
    against: str | None = None
    least: bool = False  # the limit is the least that will do, else the most
    full: bool = False  # says something in the full run only

    @property
    def words(self) -> str:
        """The goal in one line."""
        over = f" x {self.against}" if self.against else ""
        sign = ">=" if self.least else "<="
        return f"{self.workload}: {self.row}, {self.figure} {sign} {self.limit:g}{over}"


PASSED = ("empty", "keys")
GOALS = (
    Goal("small JSON", "empty", "cpu_us", 0.40, "low"),
    Goal("small JSON", "empty, log", "cpu_us", 0.52, "low"),
    Goal("small JSON", "keys", "cpu_us", 0.46, "low"),
    Goal("small JSON", "keys, log", "cpu_us", 0.58, "low"),
    Goal("small JSON", "keys", "rps", 130, "LiteLLM", least=True),
    Goal("small JSON", "keys", "rps", 16, "Portkey", least=True),
    *(
        goal
        for size in ("image 1.5 MB", "image 8 MB")
        for goal in (
            *(Goal(size, row, "cpu_us", 0.75, "low") for row in PASSED),
            *(Goal(size, row, "peak_mb", 60) for row in PASSED),
            *(Goal(size, row, "mb_s", NOISE, "low", least=True) for row in PASSED),
            Goal(size, "looked", "cpu_us", 1.0, "low"),
        )
    ),
    Goal("small JSON", "images", "cpu_us", 1.25, "low"),
    *(
        goal
        for size in ("rehosted 1.5 MB", "rehosted 8 MB")
        for goal in (
            Goal(size, "images", "mb_s", 3, "naive", least=True),
            Goal(size, "images", "cpu_us", 0.35, "naive"),
        )
    ),
    *(Goal(size, "framegate", "mb_s", 0.6, "nginx", least=True) for size in ("files 1.5 MB", "files 8 MB")),
    *(Goal("held", row, "answered", 5000, least=True, full=True) for row in PASSED),
    *(Goal("held", row, "kib_each", 18, full=True) for row in PASSED),
    *(Goal("held", row, "slowest_s", 12, full=True) for row in PASSED),
    *(Goal("SSE, 100 events", row, "later_ms", 0.3) for row in PASSED),
    Goal("start", "empty", "start_s", 0.25),
    Goal("start", "empty", "idle_mb", 45),
    Goal("start", "images", "start_s", 0.5),
    Goal("start", "images", "idle_mb", 75),
)


def judged(result: Mapping[str, Any], goals: tuple[Goal, ...] = GOALS) -> list[dict[str, Any]]:
    """Each goal with what was seen; `passed` is None where that was not measured, or in a way that says nothing."""
    workloads = {workload["name"]: workload["rows"] for workload in result["workloads"]}
    found = []
    for goal in goals:
        row = workloads.get(goal.workload, {}).get(goal.row)
        seen = None if row is None or (goal.full and result["quick"]) else _seen(goal, row)
        passed = None
        if seen is not None:
            passed = seen >= goal.limit if goal.least else seen <= goal.limit
        found.append({"goal": goal.words, "seen": seen, "passed": passed})
    return found


def _seen(goal: Goal, row: Mapping[str, Any]) -> float | None:
    figures = row["x"].get(goal.against, {}) if goal.against else row["figures"]
    spread = figures.get(goal.figure)
    return None if spread is None else float(spread["median"])
