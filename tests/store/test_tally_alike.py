"""Redis counts as the arithmetic in Python does, to the millisecond, whatever is asked and however clocks step."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.model.quota import LEASE, MOST, Claim, Claimed, Line, Settle, Tallied, Tally
from proxy.model.redis import RedisAt, RedisUrl
from proxy.store.redis import RedisStore
from proxy.store.tally import Cell, Counter, claimed, moment, settled
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
        self.claims: dict[tuple[str, str], tuple[Sequence[Line], Sequence[Cell], Sequence[int]]] = {}
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
                lines, cells, took = self.claims.pop(key)
                settled(self._look(lines, now), cells, took, [0] * len(lines), now)
        answers = [self._one(one, asked.holder, now) for one in asked.asked]
        self.settled.difference_update(self.known.get(asked.holder, ()))
        self.known[asked.holder] = [(asked.holder, one.id) for one in asked.asked if isinstance(one, Settle)]
        return Tallied(now, answers)

    def _look(self, lines: Sequence[Line], now: int) -> list[Counter]:
        counters = [self.counters.setdefault(line.counter, Counter()) for line in lines]
        for counter, line in zip(counters, lines, strict=True):
            counter.look(line, now)
        return counters

    def _one(self, asked: Claim | Settle, holder: str, now: int) -> Claimed | None:
        key = (holder, asked.id)
        counters = self._look(asked.lines, now)
        if isinstance(asked, Claim):
            if key in self.claims or key in self.settled:
                zeros = [0] * len(asked.lines)
                return claimed(counters, asked.lines, zeros, now, holder, take=False)[0]._replace(taken=True)
            answer, cells = claimed(counters, asked.lines, asked.amounts, now, holder, take=bool(asked.id))
            if answer.taken:
                self.claims[key] = asked.lines, cells, asked.amounts
            return answer
        if key not in self.settled:
            self.settled.add(key)
            _, place, took = self.claims.pop(key, ((), None, ()))
            settled(counters, place, took, asked.used, now)
        return None


LINES = (
    Line("minute", 10, window=60_000),
    Line("second", 5, window=1000),
    Line("odd", 7, window=59),
    Line("slots", 3),
    Line("month", 20, until=START + 5000),
    Line("past", 20, until=1),
    Line("huge", MOST // 3, window=3_600_000),
)
HUGE = st.integers(0, 4) | st.sampled_from([MOST // 64, MOST // 64 - 1])  # no sum of all is past what is exact
IDS = "abcde"

# How far the wall clock goes, how far the process's own says it went (None: it says nothing), and who asks.
TURNS = st.integers(0, 2000) | st.sampled_from([0, 1, 58, 9_999, 10_000, 10_001, 61_000, 3_700_000, -5000, -3_600_000])
STEPS = st.tuples(TURNS, st.none() | st.integers(0, 3000), st.sampled_from("xyz"))
Step = tuple[int, int | None, str, list[Claim | Settle]]


@st.composite
def runs(draw: st.DrawFn) -> list[Step]:
    """What is asked, step by step; whoever settles names the lines of the claim."""
    lines = {id: draw(st.lists(st.sampled_from(LINES), max_size=4, unique=True)) for id in IDS}

    def ask() -> Claim | Settle:
        id = draw(st.sampled_from(["", *IDS]))
        chosen = lines[id or "a"]
        amounts = [draw(HUGE if line.counter == "huge" else st.integers(0, 4)) for line in chosen]
        return Settle(id, chosen, amounts) if id and draw(st.booleans()) else Claim(id, chosen, amounts)

    return [(*draw(STEPS), [ask() for _ in range(draw(st.integers(0, 6)))]) for _ in range(draw(st.integers(1, 8)))]


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


LOOK = Claim("", LINES, [1] * len(LINES))
HELD = Claim("a", [LINES[3], LINES[0]], [2, 9])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([(0, None, "x", [HELD]), (10_000, None, "y", [LOOK]), (1, None, "x", [Settle("a", HELD.lines, [1, 1]), LOOK])])
@example([(0, None, "x", [HELD, HELD, LOOK]), (0, None, "x", [Settle("a", HELD.lines, [9, 30]), HELD, LOOK])])
@example([(0, None, "x", [Settle("a", HELD.lines, [0, 0])]), (0, None, "x", [HELD, LOOK])])
@given(runs())
def test_counts_as_the_arithmetic_does(
    shared_server: RedisServer,
    runner: asyncio.Runner,
    steps: list[Step],
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
