"""Faults told beforehand: which request is to meet which, in what order, how often."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .faults import FINE, Chosen, choose


@dataclass(slots=True)
class Told:
    """Faults for the requests that match: one each, in order, the whole row `left` times (None: for ever)."""

    row: tuple[Chosen | None, ...]  # None: a genuine answer
    left: int | None
    match: re.Pattern[str] | None
    model: str | None
    _at: int = field(default=0)

    def fits(self, line: str) -> bool:
        """Whether it is for requests of that method and path."""
        return self.match is None or self.match.fullmatch(line) is not None

    @property
    def next(self) -> Chosen | None:
        """What the next request meets."""
        return self.row[self._at]

    def take(self) -> Chosen | None:
        """Gives it out."""
        chosen = self.row[self._at]
        self._at += 1
        if self._at == len(self.row):
            self._at = 0
            if self.left is not None:
                self.left -= 1
        return chosen


class Script:
    """All that was told; the first that fits is taken."""

    def __init__(self) -> None:
        self._told: list[Told] = []

    @property
    def asks_for_models(self) -> bool:
        """Whether a request's model must be known."""
        return any(told.model is not None for told in self._told)

    def tell(
        self, row: Sequence[str], *, times: int | None = 1, match: str | None = None, model: str | None = None
    ) -> None:
        """Adds one; ValueError says in words what is wrong with it."""
        if not row:
            raise ValueError("no fault was named")
        if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
            raise ValueError(f"times is a whole number from 1, or null for ever, not {times!r}")
        chosen = tuple(None if name == FINE else choose(name) for name in row)
        if model is not None and any(one is not None and one.fault.early for one in chosen):
            raise ValueError("early-refusal comes before the body is read: it can't depend on the model")
        self._told.append(Told(chosen, times, _pattern(match), model))

    def early(self, method: str, path: str) -> Chosen | None:
        """The fault of this request, if it is one that comes before the body."""
        line = f"{method} {path}"
        for told in self._told:
            if told.fits(line):
                found = told.next
                if told.model is None and found is not None and found.fault.early:
                    return self._take(told)
                if told.model is None:
                    return None
        return None

    def take(self, method: str, path: str, model: str | None) -> Chosen | None:
        """The fault of this request, or None when it is to be answered as ever."""
        if not self._told:
            return None
        line = f"{method} {path}"
        told = next((one for one in self._told if one.fits(line) and one.model in (None, model)), None)
        return None if told is None else self._take(told)

    def clear(self) -> None:
        """Forgets all."""
        self._told.clear()

    def _take(self, told: Told) -> Chosen | None:
        chosen = told.take()
        if told.left == 0:
            self._told.remove(told)
        return chosen


def _pattern(match: str | None) -> re.Pattern[str] | None:
    """`POST /v1/images/*`; the star stands for anything, slashes too."""
    if match is None:
        return None
    method, space, path = match.partition(" ")
    if not space or not method or not path.startswith(("/", "*")):
        raise ValueError(f'match is a method and a path, as in "POST /v1/images/*", not {match!r}')
    return re.compile(f"{method} {path}".replace("*", "\0").translate(_ESCAPES).replace("\0", ".*"), re.DOTALL)


_ESCAPES = {ord(sign): f"\\{sign}" for sign in ".^$+?{}[]\\|()#"}
