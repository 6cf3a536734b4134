"""Scores as backends tell them, checked: what is not plainly a verdict is none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .verdict import Scores, Unavailable

UNNAMED = "other"  # what is flagged without a word for what
MOST = 100  # categories of one verdict; OpenAI has thirteen
# They get to clients, headers, logs and audit rows.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _./:&-]{0,63}")


def name(value: Any) -> str:
    """A category's name."""
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise Unavailable("its answer names a category that is no name")
    return value


def score(value: Any) -> float:
    """A score from 0 to 1. (orjson reads neither NaN nor infinity.)"""
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise Unavailable("its answer holds a score that is none")
    return float(value)


def table(value: Any, what: str) -> dict[str, Any]:
    """An object with a sane number of members."""
    if not isinstance(value, dict) or len(value) > MOST:
        raise Unavailable(f"its answer lacks {what}")
    return value


def highest(all: Iterable[Scores]) -> Scores:
    """What several say together: of each category the highest score, and whatever one of them flags."""
    first, *rest = all
    if not rest:
        return first
    scores = dict(first.scores)
    flagged = set(first.flagged)
    for one in rest:
        flagged |= one.flagged
        for category, value in one.scores.items():
            if value > scores.get(category, -1.0):
                scores[category] = value
    return Scores(scores, frozenset(flagged))
