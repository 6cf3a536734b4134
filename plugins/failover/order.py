"""In what order upstreams are asked."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from typing import Literal

from proxy.api import Capability, Health

Strategy = Literal["priority", "weighted", "latency"]


class Order:
    """The upstreams of one route; which comes first may differ from request to request."""

    def __init__(
        self, names: Sequence[str], strategy: Strategy, weights: Mapping[str, int], sticky: bool, health: Health
    ) -> None:
        self.names = tuple(names)
        self._strategy = strategy
        self._weights = {name: weights.get(name, 1) for name in names}
        self._sticky = sticky
        self._health = health

    def of(self, capability: Capability, caller: str) -> tuple[str, ...]:
        """Every upstream once, the one to be asked first in front."""
        if len(self.names) == 1 or (self._strategy == "priority" and not self._sticky):
            return self.names
        if self._strategy == "latency":
            return self._fastest(capability)
        # The key of each is exponential with its weight as rate, so the smallest is drawn by weight (Efraimidis and
        # Spirakis 2006); by a hash of the caller in place of chance it is the same each time (rendezvous hashing).
        return tuple(sorted(self.names, key=lambda name: self._rank(name, caller)))

    def _rank(self, name: str, caller: str) -> tuple[bool, float]:
        weight = self._weights[name]
        if not weight:
            return True, 0.0  # only when nobody else can
        return False, -math.log(_share(name, caller) if self._sticky and caller else 1 - random.random()) / weight

    def _fastest(self, capability: Capability) -> tuple[str, ...]:
        """Of two that chance picks, the faster first: what is slow is still asked now and then, and never by all."""
        rest = list(self.names)
        random.shuffle(rest)
        latency = self._health.latency
        if latency(rest[1], capability) < latency(rest[0], capability):
            rest[0], rest[1] = rest[1], rest[0]
        return (rest[0], *sorted(rest[1:], key=lambda name: latency(name, capability)))


def _share(name: str, caller: str) -> float:
    digest = hashlib.blake2b(f"{name}\0{caller}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 1) / 2**64
