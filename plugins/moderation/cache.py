"""What was found out a short while ago, so that it is not asked again; all of it goes in time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from proxy.api import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRIES = 10_000  # verdicts of some 1.2 KB each: 12 MB when it is full


class Cache(Generic[K, V]):
    """At most `entries` values, each believed for `seconds` from when it was put there."""

    __slots__ = ("_clock", "_entries", "_kept", "_seconds")

    def __init__(self, clock: Clock, *, seconds: float, entries: int = ENTRIES) -> None:
        if seconds <= 0 or entries < 1:
            raise ValueError("a cache that keeps nothing is no cache; leave it out")
        self._clock = clock
        self._seconds = seconds
        self._entries = entries
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """What stands there, if it is still believed."""
        found = self._kept.get(key)
        if found is None:
            return None
        until, value = found
        if self._clock.now() >= until:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep it; what was not used for longest makes room."""
        self._kept[key] = (self._clock.now() + self._seconds, value)
        self._kept.move_to_end(key)
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)
