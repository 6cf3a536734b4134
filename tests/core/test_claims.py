"""Claims: gathered, settled for certain, and never held by those who left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.core.claims import Claims
from proxy.model.quota import LEASE, Line, Tallied, Tally
from proxy.model.store import StoreError
from proxy.store.memory import Memory
from proxy.store.sqlite import SQLiteStore
from proxy.testkit import TurnedClock

REQUESTS = Line("key:a|requests|60000", 5, window=60_000)
AT_ONCE = Line("key:a|concurrent", 2)
TIMEOUT = 0.2


class Log:
    """What was logged, by name."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **details: object) -> None:
        self.events.append(event)

    warning = error = info


class Hindered:
    """A store that can be kept from answering, before it has done what was asked or after."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store
        self.calls: list[Tally] = []
        self.before: Callable[[], object] | None = None
        self.after: asyncio.Event | None = None  # set by who wants the answer to go on
        self.stands = 0.0  # seconds that the loop does, while its thread answers

    async def tally(self, asked: Tally) -> Tallied:
        self.calls.append(asked)
        if self.before is not None:
            self.before()
        answer = await self._store.tally(asked)
        if self.after is not None:
            await self.after.wait()
        return await self._stood(answer) if self.stands else answer

    async def _stood(self, answer: Tallied) -> Tallied:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Tallied] = loop.create_future()

        def stand() -> None:
            loop.call_soon_threadsafe(told.set_result, answer)
            time.sleep(self.stands)

        loop.call_soon(stand)
        return await told


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def store(tmp_path: Path, clock: TurnedClock) -> AsyncIterator[Hindered]:
    real = SQLiteStore(tmp_path / "framegate.db", clock)
    yield Hindered(real)
    await real.aclose()


@pytest.fixture
async def claims(store: Hindered, clock: TurnedClock, log: Log) -> AsyncIterator[Claims]:
    made = Claims(store, clock, log, timeout=TIMEOUT)
    yield made
    store.before = store.after = None
    await made.aclose()


async def levels(claims: Claims) -> tuple[int, ...]:
    return (await claims.claim("", (REQUESTS, AT_ONCE), (0, 0))).levels


def failing() -> None:
    raise StoreError("The store is away.")


async def test_what_is_asked_at_one_moment_is_one_step_of_the_store(claims: Claims, store: Hindered) -> None:
    taken = await asyncio.gather(*[claims.claim(str(i), (REQUESTS,), (1,)) for i in range(40)])
    assert [one.taken for one in taken] == [True] * 5 + [False] * 35
    assert len(store.calls) <= 2


async def test_what_was_used_stays_and_the_slot_comes_back(claims: Claims) -> None:
    await claims.claim("1", (REQUESTS, AT_ONCE), (1, 1))
    claims.settle("1", (REQUESTS, AT_ONCE), (1, 0))
    assert await levels(claims) == (1, 0)


@pytest.mark.parametrize("passes", range(6))
async def test_who_is_cancelled_holds_nothing(claims: Claims, passes: int) -> None:
    """Cancelled before it is asked, while the store is at work, and in the very moment of the answer."""
    asking = asyncio.ensure_future(claims.claim("1", (REQUESTS, AT_ONCE), (1, 1)))
    if passes == 5:
        await levels(claims)  # asked behind it: its own answer is there, and it has not run since
    else:
        for _ in range(passes):
            await asyncio.sleep(0)
    asking.cancel()
    answers = await asyncio.gather(asking, return_exceptions=True)
    if isinstance(answers[0], asyncio.CancelledError):
        assert await levels(claims) == (0, 0)
    else:
        claims.settle("1", (REQUESTS, AT_ONCE), (0, 0))


async def test_an_answer_that_came_while_the_loop_stood_still_counts(claims: Claims, store: Hindered, log: Log) -> None:
    # Seen on a busy machine: the store had answered after 0.1 s, the loop stood for 1.8, and the request was refused.
    assert (await claims.claim("one", (REQUESTS,), (1,))).taken
    store.stands = 2 * TIMEOUT
    assert (await claims.claim("two", (REQUESTS,), (1,))).levels == (2,)
    assert log.events == []


async def test_nobody_waits_longer_than_the_timeout_and_nothing_stays_held(
    claims: Claims, store: Hindered, log: Log
) -> None:
    store.after = asyncio.Event()
    began = asyncio.get_running_loop().time()
    first = asyncio.ensure_future(claims.claim("1", (REQUESTS, AT_ONCE), (1, 1)))
    await asyncio.sleep(TIMEOUT / 2)
    second = asyncio.ensure_future(claims.claim("2", (REQUESTS, AT_ONCE), (1, 1)))
    for error in await asyncio.gather(first, second, return_exceptions=True):
        assert isinstance(error, StoreError)
    assert asyncio.get_running_loop().time() - began < TIMEOUT * 1.9
    store.after = None
    assert await levels(claims) == (0, 0)  # the first was done, and its answer came too late
    assert log.events == ["store_failing", "store_back"]


async def test_what_was_used_is_settled_once_the_store_is_back(
    claims: Claims, store: Hindered, clock: TurnedClock
) -> None:
    await claims.claim("1", (REQUESTS, AT_ONCE), (1, 1))
    store.before = failing
    claims.settle("1", (REQUESTS, AT_ONCE), (1, 0))
    for _ in range(3):
        with pytest.raises(StoreError):
            await claims.claim("2", (REQUESTS, AT_ONCE), (1, 1))
    store.before = None
    assert await levels(claims) == (1, 0)


async def test_a_settlement_whose_answer_was_lost_is_counted_once(claims: Claims, store: Hindered) -> None:
    await claims.claim("1", (REQUESTS, AT_ONCE), (2, 1))
    store.after = asyncio.Event()
    claims.settle("1", (REQUESTS, AT_ONCE), (1, 0))
    with pytest.raises(StoreError):
        await claims.claim("2", (REQUESTS, AT_ONCE), (1, 1))
    store.after = None
    assert await levels(claims) == (1, 0)


async def test_a_long_request_keeps_its_slot_and_a_dead_process_does_not(
    claims: Claims, store: Hindered, clock: TurnedClock, tmp_path: Path, log: Log
) -> None:
    await claims.claim("1", (AT_ONCE,), (1,))
    dying = Claims(SQLiteStore(tmp_path / "framegate.db", clock), clock, log, timeout=TIMEOUT)
    await dying.claim("1", (AT_ONCE,), (1,))
    assert dying._pulse is not None
    dying._pulse.cancel()  # as if it had been killed
    other = Claims(SQLiteStore(tmp_path / "framegate.db", clock), clock, log, timeout=TIMEOUT)
    for seconds in (LEASE * 0.3, LEASE * 0.3, LEASE * 0.3):
        before = len(store.calls)
        clock.turn(seconds)
        while len(store.calls) == before:
            await asyncio.sleep(0)
        assert (await other.claim("", (AT_ONCE,), (0,))).levels == (2,)
    for _ in range(9):
        before = len(store.calls)
        clock.turn(LEASE * 0.3)
        while len(store.calls) == before:
            await asyncio.sleep(0)
        assert (await other.claim("", (AT_ONCE,), (0,))).levels == (1,)
    for one in (dying, other):
        await one.aclose()
        await one._store.aclose()  # type: ignore[attr-defined]


async def test_what_is_settled_last_is_settled_before_it_closes(store: Hindered, clock: TurnedClock, log: Log) -> None:
    first = Claims(store, clock, log, timeout=TIMEOUT)
    await first.claim("1", (REQUESTS, AT_ONCE), (1, 1))
    first.settle("1", (REQUESTS, AT_ONCE), (1, 0))
    await first.aclose()
    with pytest.raises(StoreError):
        await first.claim("2", (REQUESTS,), (1,))
    second = Claims(store, clock, log, timeout=TIMEOUT)
    assert await levels(second) == (1, 0)
    await second.aclose()


async def test_what_could_not_be_settled_is_told(store: Hindered, clock: TurnedClock, log: Log) -> None:
    claims = Claims(store, clock, log, timeout=TIMEOUT)
    await claims.claim("1", (REQUESTS, AT_ONCE), (1, 1))
    store.before = failing
    claims.settle("1", (REQUESTS, AT_ONCE), (1, 0))
    await claims.aclose()
    assert log.events == ["store_failing", "quota_not_settled"]


async def test_the_memory_of_a_process_counts_alike(clock: TurnedClock, log: Log) -> None:
    claims = Claims(Memory(clock), clock, log, timeout=TIMEOUT)
    taken = [await claims.claim(str(i), (REQUESTS, AT_ONCE), (1, 1)) for i in range(3)]
    assert [one.taken for one in taken] == [True, True, False]
    claims.settle("0", (REQUESTS, AT_ONCE), (1, 0))
    claims.settle("1", (REQUESTS, AT_ONCE), (0, 0))
    assert await levels(claims) == (1, 0)
    clock.turn(62)
    assert await levels(claims) == (0, 0)
    await claims.aclose()
