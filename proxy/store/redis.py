"""Redis as the store that machines share: one script for each call, which is whole or not done at all.

Redis 6.2 or newer. All keys carry one hash tag, so that a script may touch any: in a cluster they lie on one shard.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from ..model.quota import MOST, Claim, Claimed, Settle, Tallied, Tally
from ..model.redis import RedisAt
from ..model.services import Clock
from ..model.store import Add, Added, StoreError
from .redis_link import Link, Script, chunks

HOUR = 3600.0  # seconds for which the store keeps in mind a claim that was settled, where an answer was lost
Row = tuple[int, str, int, Sequence[int]]  # what kind, its id, the place of its lines, and how much of each
GET, PUT, SWAP, DELETE, ITEMS, ADD, TALLY = map(Script, ("get", "put", "swap", "delete", "items", "add", "tally"))


class RedisStore:
    """A store for several machines. Time is the server's own."""

    def __init__(self, at: RedisAt, clock: Clock, *, testing: bool = False) -> None:
        self._link = Link(at)
        self._wall: Callable[[], float] | None = clock.wall if testing else None
        self._settled: dict[str, _Settled] = {}

    async def get(self, space: str, key: str) -> bytes | None:
        """The record, or None."""
        value: bytes | None = _of(key, await self._link.run(GET, self._now(), space, key))
        return value

    async def put(self, space: str, key: str, value: bytes, *, ttl: float | None = None, new: bool = False) -> bool:
        """Write a record; whether it was written."""
        return bool(_of(key, await self._link.run(PUT, self._now(), space, key, value, _ms(ttl), int(new))))

    async def swap(self, space: str, key: str, old: bytes, new: bytes) -> bool:
        """Write over a record only where it still is `old`."""
        return bool(_of(key, await self._link.run(SWAP, self._now(), space, key, old, new)))

    async def delete(self, space: str, key: str) -> bool:
        """Take a record away; whether there was one."""
        return bool(_of(key, await self._link.run(DELETE, self._now(), space, key)))

    async def items(self, space: str, *, after: str = "", limit: int = 1000) -> list[tuple[str, bytes]]:
        """The records of a space by key."""
        flat = _of(after, await self._link.run(ITEMS, self._now(), space, after, limit))
        return [(key.decode(), value) for key, value in chunks(flat)]

    async def add(self, *steps: Add) -> Added:
        """Do all steps or none."""
        flat: list[str | int] = []
        for step in steps:
            if not -MOST <= step.amount <= MOST:
                raise StoreError("A counter can't count that far.")
            ceiling = "" if step.ceiling is None else step.ceiling
            flat += (step.counter, step.amount, ceiling, _ms(step.ttl), int(step.renew))
        refused, *values = await self._link.run(ADD, self._now(), *flat)
        return Added(tuple(values), refused - 1 if refused else None)

    async def tally(self, asked: Tally) -> Tallied:
        """Take of limits and settle, all in one script."""
        settled = self._settled.get(asked.holder)
        if settled is None:
            settled = self._settled[asked.holder] = _Settled()
        forgotten = settled.known()
        expected = -1 if asked.expected is None else asked.expected
        payload = orjson.dumps((asked.holder, expected, forgotten, *_listed(asked.asked)))
        try:
            now, *answers = await self._link.run(TALLY, self._now(), payload)
        except BaseException:
            # Nobody knows whether it was done, or will be: it may still be on its way.
            settled.doubted(asked.asked)
            raise
        settled.answered(asked.asked, forgotten)
        return Tallied(now, [_claimed(answer) if answer else None for answer in answers])

    async def aclose(self) -> None:
        """Finish what is under way, then close."""
        await self._link.aclose()

    def _now(self) -> str | int:
        return "" if self._wall is None else int(self._wall() * 1000)


class _Settled:
    """Which settled claims of a holder the store may forget: those that nobody will ask for again.

    It keeps them, so that asked again after a lost answer they change nothing, and a claim that is overtaken by its own
    settlement takes nothing. Those in doubt it keeps for an hour.
    """

    __slots__ = ("_doubts", "_known", "_late")

    def __init__(self) -> None:
        self._known: dict[str, None] = {}
        self._doubts: dict[str, bool] = {}  # ids that were asked in vain, and whether they were settled since
        self._late: deque[tuple[float, str]] = deque()

    def known(self) -> list[str]:
        """Those that may be forgotten now."""
        while self._late and self._late[0][0] <= time.monotonic():
            _, id = self._late.popleft()
            if self._doubts.pop(id, False):
                self._known[id] = None
        return list(self._known)

    def doubted(self, asked: Sequence[Claim | Settle]) -> None:
        """No answer came."""
        due = time.monotonic() + HOUR
        for one in asked:
            if one.id and one.id not in self._doubts:
                self._doubts[one.id] = False
                self._late.append((due, one.id))

    def answered(self, asked: Sequence[Claim | Settle], forgotten: Sequence[str]) -> None:
        """The store answered, and has forgotten those."""
        for id in forgotten:
            self._known.pop(id, None)
        for one in asked:
            if one.__class__ is Settle:
                if one.id in self._doubts:
                    self._doubts[one.id] = True
                else:
                    self._known[one.id] = None


def _listed(asked: Sequence[Claim | Settle]) -> tuple[list[list[list[str | int]]], list[Row]]:
    """What is asked, and apart from it the lines, which of one caller's requests are the very same."""
    lines: list[list[list[str | int]]] = []
    places: dict[int, int] = {}
    rows: list[Row] = []
    for one in asked:
        place = places.get(id(one.lines))
        if place is None:
            lines.append([list(line) for line in one.lines])
            place = places[id(one.lines)] = len(lines)
        rows.append((1, one.id, place, one.amounts) if isinstance(one, Claim) else (2, one.id, place, one.used))
    return lines, rows


def _claimed(answer: list[int]) -> Claimed:
    n = len(answer) // 3
    return Claimed(
        answer[0] == 1, tuple(answer[1 : n + 1]), tuple(answer[n + 1 : 2 * n + 1]), tuple(answer[2 * n + 1 :])
    )


def _of(key: str, answer: list[Any]) -> Any:
    """What the answer says of that key."""
    if answer[0] != key.encode():
        raise StoreError("The store gave an answer to another question.")
    return answer[1]


def _ms(seconds: float | None) -> str | int:
    return "" if seconds is None else math.ceil(seconds * 1000)
