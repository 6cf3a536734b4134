"""What is to be done with a header, by its name, worked out once for each spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
REMEMBERED = 4096  # names; a client that makes up names can't grow it
LONGEST = 128  # bytes of a name that is remembered: no real one is longer, and a made-up one may have 16 KB


class Judged(dict[bytes, T], Generic[T]):
    """Raw header name -> verdict; `judge` is given the name in lower case."""

    def __init__(self, judge: Callable[[bytes], T]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, name: bytes) -> T:
        verdict = self._judge(name.lower())
        if len(name) <= LONGEST:
            if len(self) > REMEMBERED:
                self.clear()
            self[name] = verdict
        return verdict


LOWER: Judged[bytes] = Judged(lambda name: name)
