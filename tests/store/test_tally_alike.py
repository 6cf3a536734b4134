"""Redis counts as the arithmetic in Python does, to the millisecond, whatever is asked and however clocks step."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.model.quota import LEASE, MOST, Claim, Claimed, Line, Settle, Tallied, Tally
from proxy.model.redis import RedisAt, RedisUrl
from proxy.store.redis import RedisStore
from proxy.store.tally import USED, Cell, Counter, claimed, ends, moment
from proxy.testkit import TurnedClock

from ..redis_server import RedisServer

START = 1_790_000_000_123  # milliseconds since 1970
_prefixes = itertools.count()


class StoodClock(TurnedClock):
    """Shows what it was set to."""

    def __init__(self) -> None:
        super().__init__()
        self.ms = START

    def wall(self) -> float:
        return (self.ms + 0.5) / 1000  # what a float makes of a millisecond is cut off


class Plain:
    """The same as plain as it can be written."""

    def __init__(self) -> None:
        self.counters: dict[str, Counter] = {}
        self.claims: dict[tuple[str, str], list[tuple[str, Cell, int]]] = {}
        self.settled: set[tuple[str, str]] = set()
        self.known: dict[str, list[tuple[str, str]]] = {}  # settled, and the holder has the answer
        self.holders: dict[str, int] = {}
        self.last = self.shift = 0

    def tally(self, wall: int, asked: Tally) -> Tallied:
        now, self.shift = moment(wall, self.last, self.shift, asked.expected)
        self.last = now
        self.holders[asked.holder] = now + int(LEASE * 1000)
        for dead in [holder for holder, until in self.holders.items() if until <= now]:
            del self.holders[dead]
            for key in [key for key in self.claims if key[0] == dead]:
                self._restore(self.claims.pop(key))
        answers = [self._one(one, asked.holder, now) for one in asked.asked]
        self.settled.difference_update(self.known.get(asked.holder, ()))
        self.known[asked.holder] = [(asked.holder, one.id) for one in asked.asked if isinstance(one, Settle)]
        return Tallied(now, answers)

    def _one(self, asked: Claim | Settle, holder: str, now: int) -> Claimed | None:
        key = (holder, asked.id)
        counters = [self.counters.setdefault(line.counter, Counter()) for line in asked.lines]
        for counter in self.counters.values():
            counter.over(now)
        if isinstance(asked, Claim):
            known = key in self.claims or key in self.settled
            amounts = [0] * len(asked.amounts) if known else asked.amounts
            answer, took = claimed(counters, asked.lines, amounts, now, holder, take=bool(asked.id) and not known)
            if answer.taken:
                self.claims[key] = took
            return answer._replace(taken=answer.taken or known)
        if key in self.settled:
            return None
        self.settled.add(key)
        until = {line.counter: ends(line, now) for line in asked.lines}
        took = self.claims.pop(key, [])
        self._restore(took)
        until.update({name: cell[0] for name, cell, _ in took})
        for counter, line, used in zip(counters, asked.lines, asked.used, strict=True):
            if used and until[line.counter] > now:
                counter.add((until[line.counter], USED), used)
        return None

    def _restore(self, took: list[tuple[str, Cell, int]]) -> None:
        for name, cell, amount in took:
            self.counters[name].add(cell, -amount)


LINES = (
    Line("minute", 10, window=60_000),
    Line("second", 5, window=1000),
    Line("odd", 7, window=59),
    Line("slots", 3),
    Line("month", 20, until=START + 5000),
    Line("past", 20, until=1),
    Line("huge", MOST // 3, window=3_600_000),
)
AMOUNTS = st.integers(0, 4) | st.sampled_from([MOST // 64, MOST // 64 - 1])  # no sum of all is past what is exact
IDS = st.sampled_from(["a", "b", "c", "d", "e"])


@st.composite
def asks(draw: st.DrawFn) -> Claim | Settle:
    lines = draw(st.lists(st.sampled_from(LINES), max_size=4, unique=True))
    amounts = [draw(AMOUNTS if line.counter == "huge" else st.integers(0, 4)) for line in lines]
    if draw(st.booleans()):
        return Settle(draw(IDS), lines, amounts)
    return Claim(draw(IDS | st.just("")), lines, amounts)


# How far the wall clock goes, how far the process's own says it went (None: it says nothing), who asks, and what.
TURNS = st.integers(0, 2000) | st.sampled_from([0, 1, 58, 9_999, 10_000, 10_001, 61_000, 3_700_000, -5000, -3_600_000])
STEPS = st.lists(
    st.tuples(TURNS, st.none() | st.integers(0, 3000), st.sampled_from("xyz"), st.lists(asks(), max_size=6)),
    min_size=1,
    max_size=10,
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


LOOK = Claim("", LINES, [1] * len(LINES))
HELD = Claim("a", [LINES[3], LINES[0]], [2, 9])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([(0, None, "x", [HELD]), (10_000, None, "y", [LOOK]), (1, None, "x", [Settle("a", HELD.lines, [1, 1]), LOOK])])
@example([(0, None, "x", [HELD, HELD, LOOK]), (0, None, "x", [Settle("a", HELD.lines, [9, 30]), HELD, LOOK])])
@example([(0, None, "x", [Settle("a", HELD.lines, [0, 0])]), (0, None, "x", [HELD, LOOK])])
@given(STEPS)
def test_counts_as_the_arithmetic_does(
    shared_server: RedisServer,
    runner: asyncio.Runner,
    steps: list[tuple[int, int | None, str, list[Claim | Settle]]],
) -> None:
    async def main() -> None:
        clock, plain = StoodClock(), Plain()
        at = RedisAt(RedisUrl.parse(shared_server.url), prefix=f"alike{next(_prefixes)}", timeout=20.0)
        store = RedisStore(at, clock, testing=True)
        seen = None
        try:
            for turn, passed, holder, asked in steps:
                clock.ms += turn
                expected = None if passed is None or seen is None else seen + passed
                one = Tally(holder, [*asked, LOOK], expected)
                told = await store.tally(one)
                assert told == plain.tally(clock.ms, one)
                seen = told.now
        finally:
            await store.aclose()

    runner.run(main())
