"""Regular expressions looked for in a text, none of them for longer than it is given."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from typing import Any, Final

from . import folding
from .rule import Rule
from .rule_words import covered

EACH: Final = 0.02  # seconds that one expression has for 8,192 characters of one text
LONGEST: Final = 1.0  # and for a text of any length; nothing can call it back before


class TookTooLong(Exception):
    """An expression ran out of its time, or all of them out of theirs; or nobody waits any more."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule.place)
        self.rule = rule


class Patience:
    """How much time there is: for each text, and for all together where `total` seconds are given."""

    def __init__(self, total: float | None = None) -> None:
        self._until = None if total is None else time.monotonic() + total
        self.over = False  # set from elsewhere when nobody waits any more

    def until(self, text: str) -> float:
        """When a search of that text must be over; it has no time at all when nobody waits for it."""
        now = time.monotonic()
        end = now + (0.0 if self.over else min(LONGEST, EACH * (1 + len(text) // folding.SLICE)))
        return end if self._until is None else min(end, self._until)


def finds(rule: Rule, text: str, patience: Patience) -> bool:
    """Whether one of the rule's expressions is found in the text. Raises TookTooLong."""
    return any(_found(rule, pattern, text, patience) for pattern in rule.patterns)


def _found(rule: Rule, pattern: Any, text: str, patience: Patience) -> bool:
    at, words, until = 0, None, patience.until(text)
    while at <= len(text):
        left = until - time.monotonic()
        if left <= 0:
            raise TookTooLong(rule)
        try:
            found = pattern.search(text, at, timeout=left)
        except TimeoutError:
            raise TookTooLong(rule) from None
        if found is None or not rule.unless:
            return found is not None
        if words is None:
            words = _Placed(text)
        if not words.covered(rule, *found.span()):
            return True
        at = max(found.end(), at + 1)
    return False


class _Placed:
    """The words of a text with their places, to say whether what was found stands in a phrase that passes."""

    def __init__(self, text: str) -> None:
        places = list(folding.spans(text))
        self._starts = [start for start, _ in places]
        self._ends = [end for _, end in places]
        self._words = [folding.folded(text[start:end]) for start, end in places]

    def covered(self, rule: Rule, start: int, end: int) -> bool:
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        return first < last and covered(rule.unless, self._words, first, last)
