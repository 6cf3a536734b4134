"""The protocol of the store: small records and counters that all processes and replicas share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .errors import ProxyError
from .quota import Tallied, Tally

SEALED = "sealed"  # the space of what plugins seal, each under its own name: a new master key seals all of it anew


@dataclass(frozen=True, slots=True)
class Add:
    """One step of a transaction on counters: add `amount`, but never over `ceiling`."""

    counter: str
    amount: int = 1
    ceiling: int | None = None
    ttl: float | None = None  # seconds from the counter's first add; None: for ever
    renew: bool = False  # whether this add starts the ttl anew


@dataclass(frozen=True, slots=True)
class Added:
    """What a transaction did: all of it, or nothing."""

    values: tuple[int, ...]  # each counter after the transaction; where it was refused, as it stands
    refused: int | None = None  # the first step whose ceiling was in the way

    @property
    def done(self) -> bool:
        """Whether it was done."""
        return self.refused is None


class StoreError(ProxyError):
    """The store could not answer in time, or at all."""

    status = 503
    type = "service_unavailable_error"
    code = "database_operation_failed"


class Store(Protocol):
    """Records by space and key, counters by name. Every call is atomic; StoreError says that nothing is known."""

    async def get(self, space: str, key: str) -> bytes | None:
        """The record, or None when there is none or its time is over."""

    async def put(self, space: str, key: str, value: bytes, *, ttl: float | None = None, new: bool = False) -> bool:
        """Write a record, for `ttl` seconds; with `new`, only where there is none. Whether it was written."""

    async def swap(self, space: str, key: str, old: bytes, new: bytes) -> bool:
        """Write over a record only where it still is `old`; its time goes on. Whether it was written."""

    async def delete(self, space: str, key: str) -> bool:
        """Take a record away; whether there was one."""

    async def items(self, space: str, *, after: str = "", limit: int = 1000) -> list[tuple[str, bytes]]:
        """The records of a space by key, from behind `after` on."""

    async def add(self, *steps: Add) -> Added:
        """Do all steps or none. A counter never falls below 0; one whose time is over counts as 0."""

    async def tally(self, asked: Tally) -> Tallied:
        """Take of limits and settle, in one step that others see whole. What a dead process holds is given back."""

    async def aclose(self) -> None:
        """Finish what is under way, then close."""
