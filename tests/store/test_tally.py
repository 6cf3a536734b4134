"""Limits in every store: what fits is taken, what does not takes nothing, and what is held comes back."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.model.quota import LEASE, Claim, Claimed, Line, Settle, Tally
from proxy.model.store import Store
from proxy.store.tally import Counter, claimed, ends, moment, settled
from proxy.testkit import TurnedClock

from .conftest import Open

MINUTE = 60_000
IMAGES = Line("key:a images 1m", 5, window=MINUTE)
AT_ONCE = Line("key:a concurrent", 2)


async def claim(store: Store, id: str, *asked: tuple[Line, int], holder: str = "one") -> Claimed:
    lines, amounts = zip(*asked, strict=True)
    answer = (await store.tally(Tally(holder, [Claim(id, lines, amounts)]))).answers[0]
    assert answer is not None
    return answer


async def settle(store: Store, id: str, *used: tuple[Line, int], holder: str = "one") -> None:
    lines, amounts = zip(*used, strict=True)
    assert (await store.tally(Tally(holder, [Settle(id, lines, amounts)]))).answers == [None]


async def level(store: Store, line: Line) -> int:
    """What counts now."""
    return (await claim(store, "", (line, 0))).levels[0]


async def test_takes_as_much_as_fits_and_not_one_more(store: Store) -> None:
    assert await claim(store, "1", (IMAGES, 3)) == (True, (3,), (0,), pytest.approx((MINUTE + 500,), abs=500))
    refused = await claim(store, "2", (IMAGES, 3))
    assert (refused.taken, refused.levels) == (False, (3,))
    assert 0 < refused.waits[0] <= MINUTE + 1000
    assert (await claim(store, "3", (IMAGES, 2))).levels == (5,)


async def test_takes_of_all_limits_or_of_none(store: Store) -> None:
    await claim(store, "1", (AT_ONCE, 2))
    refused = await claim(store, "2", (IMAGES, 1), (AT_ONCE, 1))
    assert refused == (False, (0, 2), (0, -1), (0, -1))
    assert await level(store, IMAGES) == 0


async def test_to_look_takes_nothing(store: Store) -> None:
    assert (await claim(store, "", (IMAGES, 5))).taken is False
    assert await level(store, IMAGES) == 0


async def test_what_is_too_much_for_ever_is_not_waited_for(store: Store) -> None:
    assert (await claim(store, "1", (IMAGES, 6))).waits == (-1,)


async def test_the_wait_that_is_told_is_the_wait(store: Store, clock: TurnedClock) -> None:
    await claim(store, "1", (IMAGES, 2))
    clock.turn(20)
    await claim(store, "2", (IMAGES, 3))
    refused = await claim(store, "3", (IMAGES, 2))
    assert 39_000 <= refused.waits[0] <= 41_000
    clock.turn(refused.waits[0] / 1000 - 0.9)
    assert (await claim(store, "4", (IMAGES, 2))).taken is False
    clock.turn(0.9)
    assert (await claim(store, "5", (IMAGES, 2))).taken


async def test_what_was_used_stays_and_the_rest_comes_back(store: Store) -> None:
    await claim(store, "1", (IMAGES, 4), (AT_ONCE, 1))
    await settle(store, "1", (IMAGES, 1), (AT_ONCE, 0))
    assert (await level(store, IMAGES), await level(store, AT_ONCE)) == (1, 0)


async def test_more_can_have_been_used_than_was_taken(store: Store) -> None:
    await claim(store, "1", (IMAGES, 4))
    await settle(store, "1", (IMAGES, 9))
    assert await level(store, IMAGES) == 9
    assert (await claim(store, "2", (IMAGES, 1))).taken is False


async def test_what_was_used_counts_from_when_it_was_taken(store: Store, clock: TurnedClock) -> None:
    await claim(store, "1", (IMAGES, 5), (AT_ONCE, 1))
    clock.turn(50)
    await settle(store, "1", (IMAGES, 5), (AT_ONCE, 0))
    clock.turn(8)
    assert await level(store, IMAGES) == 5
    clock.turn(3.5)
    assert await level(store, IMAGES) == 0


async def test_to_ask_again_changes_nothing(store: Store) -> None:
    first = await claim(store, "1", (IMAGES, 3))
    again = await claim(store, "1", (IMAGES, 3))
    assert (again.taken, again.levels) == (True, first.levels)
    await settle(store, "1", (IMAGES, 2))
    await settle(store, "1", (IMAGES, 2))
    assert await level(store, IMAGES) == 2


async def test_a_settlement_of_what_nobody_claimed_is_counted(store: Store) -> None:
    await settle(store, "1", (IMAGES, 2), (AT_ONCE, 1))
    assert (await level(store, IMAGES), await level(store, AT_ONCE)) == (2, 0)
    await settle(store, "2", (IMAGES, 0), (AT_ONCE, 0))
    assert await level(store, IMAGES) == 2


async def test_each_of_a_batch_sees_those_before_it(store: Store) -> None:
    asked = [
        Claim("1", [IMAGES], [3]),
        Claim("2", [IMAGES], [3]),
        Settle("1", [IMAGES], [1]),
        Claim("3", [IMAGES], [3]),
    ]
    answers = (await store.tally(Tally("one", asked))).answers
    assert [None if one is None else one.taken for one in answers] == [True, False, None, True]


async def test_a_dead_process_gives_all_back(opened: Open, clock: TurnedClock) -> None:
    living, dying = await opened(), await opened()
    await claim(dying, "1", (IMAGES, 4), (AT_ONCE, 2), holder="dying")
    await settle(dying, "1", (IMAGES, 1), (AT_ONCE, 0), holder="dying")
    await claim(dying, "2", (IMAGES, 4), (AT_ONCE, 2), holder="dying")
    clock.turn(LEASE - 1)
    assert (await level(living, IMAGES), await level(living, AT_ONCE)) == (5, 2)
    clock.turn(1.2)
    assert (await level(living, IMAGES), await level(living, AT_ONCE)) == (1, 0)


async def test_who_is_heard_of_keeps_what_it_holds(opened: Open, clock: TurnedClock) -> None:
    living, other = await opened(), await opened()
    await claim(living, "1", (AT_ONCE, 2))
    for _ in range(8):
        clock.turn(LEASE / 2)
        await living.tally(Tally("one", []))
        assert await level(other, AT_ONCE) == 2


async def test_what_was_used_under_a_lease_that_ran_out_is_counted(opened: Open, clock: TurnedClock) -> None:
    stalled, other = await opened(), await opened()
    await claim(stalled, "1", (IMAGES, 4), (AT_ONCE, 1), holder="stalled")
    clock.turn(LEASE + 1)
    assert await level(other, IMAGES) == 0
    await settle(stalled, "1", (IMAGES, 3), (AT_ONCE, 0), holder="stalled")
    await settle(stalled, "1", (IMAGES, 3), (AT_ONCE, 0), holder="stalled")
    assert (await level(other, IMAGES), await level(other, AT_ONCE)) == (3, 0)


async def test_a_period_is_counted_until_it_is_over(store: Store, clock: TurnedClock) -> None:
    until = int(clock.wall() * 1000) + 3_600_000
    budget = Line("key:a budget 2026-11", 1000, until=until)
    await claim(store, "1", (budget, 900))
    assert await claim(store, "2", (budget, 200)) == (False, (900,), (-1,), (-1,))
    clock.turn(3599)
    assert await level(store, budget) == 900


async def test_processes_at_once_never_take_more_than_there_is(opened: Open) -> None:
    doors = [await opened() for _ in range(3)]
    line = Line("all requests 1m", 50, window=MINUTE)
    taken = await asyncio.gather(
        *[claim(doors[i % 3], str(i), (line, 1), holder=f"process {i % 3}") for i in range(150)]
    )
    assert sum(one.taken for one in taken) == 50
    assert await level(doors[0], line) == 50


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
async def test_a_clock_that_steps_neither_opens_nor_freezes(store: Store, clock: TurnedClock, step: float) -> None:
    line = Line("key:b images 1m", 5, window=MINUTE)
    first = await store.tally(Tally("one", [Claim("1", [line], [5])]))
    clock.step(step)
    asked = await store.tally(Tally("one", [Claim("2", [line], [1])], expected=first.now + 10))
    assert asked.answers[0] is not None
    assert not asked.answers[0].taken
    clock.turn(62)
    asked = await store.tally(Tally("one", [Claim("3", [line], [5])], expected=asked.now + 62_000))
    assert asked.answers[0] is not None
    assert asked.answers[0].taken


async def test_a_clock_that_was_set_back_while_nobody_ran_goes_on_from_where_it_was(
    store: Store, clock: TurnedClock
) -> None:
    await claim(store, "1", (IMAGES, 5))
    clock.step(-7200)
    assert not (await claim(store, "2", (IMAGES, 1))).taken
    clock.turn(62)
    assert (await claim(store, "3", (IMAGES, 5))).taken


# --- the arithmetic alone


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ceiling=st.integers(1, 12),
    window=st.sampled_from((1, 50, 999, 10_000, MINUTE)),
    load=st.lists(st.tuples(st.floats(0, 1.5), st.integers(1, 12), st.floats(0, 1)), max_size=80),
)
def test_in_no_window_is_more_used_than_the_limit(
    ceiling: int, window: int, load: list[tuple[float, int, float]]
) -> None:
    line = Line("a", ceiling, window=window)
    counter, now, used = Counter(), 1_000_000, []
    for pause, amount, share in load:
        now += int(pause * window / 3)
        counter.look(line, now)
        answer, cells = claimed([counter], [line], [amount], now, "one", take=True)
        if answer.taken:
            kept = int(amount * share)
            settled([counter], cells, [amount], [kept], now)
            used.append((now, kept))
        elif amount <= ceiling:
            assert answer.waits[0] > 0
            later = Counter(dict(counter.cells))
            later.look(line, now + answer.waits[0])
            assert later.wait(amount, line, now + answer.waits[0]) == 0
            later = Counter(dict(counter.cells))
            later.look(line, now + answer.waits[0] - 1)
            assert later.wait(amount, line, now + answer.waits[0] - 1) > 0
        else:
            assert answer.waits == (-1,)
    for start, _ in used:
        assert sum(amount for at, amount in used if start <= at < start + window) <= ceiling


@given(now=st.integers(0, 2**42), window=st.integers(1, 10**9))
def test_an_amount_counts_for_its_window_and_a_piece_at_the_most(now: int, window: int) -> None:
    until = ends(Line("a", 1, window=window), now)
    assert window < until - now <= window + max(1, window // 60)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(-(10**9), 10**9)), max_size=30))
def test_time_never_runs_back_and_passes_as_it_does_for_those_who_ask(steps: list[tuple[int, int]]) -> None:
    wall, last, shift = 1_700_000_000_000, 0, 0
    last, shift = moment(wall, last, shift, None)
    for passed, step in steps:
        wall += passed + step
        expected = last + passed
        now, shift = moment(wall, last, shift, expected)
        assert now >= last
        assert abs(now - expected) <= 2000
        last = now
