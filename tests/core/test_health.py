"""Who is left alone, for how long, and who finds out that it is well again."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.core.credential import Credential
from proxy.core.health import Health
from proxy.model.exchange import Attempt
from proxy.model.failure import Bench
from proxy.model.health import Capability
from proxy.model.values import Secret
from proxy.testkit import TurnedClock
from proxy.testkit.watch import LogKept


class Still(TurnedClock):
    """Stands still unless it is turned."""

    def now(self) -> float:
        return 1000.0 + self._ahead


def made(store: Any = None, clock: TurnedClock | None = None) -> tuple[Health, TurnedClock, LogKept]:
    clock = clock or Still()
    log = LogKept()
    return Health(store, clock, log), clock, log


def by(upstream: str, credential: str = "") -> Attempt:
    return Attempt(upstream, credential=credential)


async def test_a_straggler_of_another_sort_does_not_make_the_next_pause_shorter() -> None:
    health, clock, _ = made()
    for _ in range(5):
        health.failed(by("a"), "image", "breaker")
    for pause in (5, 10):
        assert pause <= health.standing("a", "image").wait <= pause * 1.1
        clock.turn(pause * 1.1)
        assert health.enter("a", "image")
        health.failed(by("a"), "image", "breaker")
    health.failed(by("a"), "image", "retry_after")  # asked before the pause began
    clock.turn(22)
    assert health.enter("a", "image")
    health.failed(by("a"), "image", "breaker")
    assert 40 <= health.standing("a", "image").wait <= 44


async def test_a_limit_that_was_told_holds_as_long_as_told_and_then_lets_one_in() -> None:
    health, clock, _ = made()
    health.failed(by("a"), "image", "retry_after", retry_after=20)
    standing = health.standing("a", "image")
    assert (standing.usable, standing.firm, standing.why) == (False, True, "rate_limit") and 20 <= standing.wait <= 22
    assert health.standing("a", "text").usable, "pictures are limited, not words"
    clock.turn(22)
    assert health.enter("a", "image") and not health.enter("a", "image"), "one finds out for all"
    health.passed(by("a"), "image", 0.1)
    assert health.enter("a", "image") and health.enter("a", "image")


async def test_a_limit_without_a_time_is_guessed_and_longer_each_time() -> None:
    health, clock, _ = made()
    waits = []
    for _ in range(8):
        health.failed(by("a"), "image", "retry_after")
        standing = health.standing("a", "image")
        assert not standing.firm
        waits.append(standing.wait)
        clock.turn(standing.wait)
        assert health.enter("a", "image")
    for wait, least in zip(waits, (1, 2, 4, 8, 16, 32, 60, 60), strict=True):
        assert least <= wait <= least * 1.1 + 1e-6


async def test_a_time_that_is_junk_counts_as_none() -> None:
    health, _, _ = made()
    health.failed(by("a"), "image", "retry_after", retry_after=86400.0, cooldown_max=600)
    assert health.standing("a", "image").wait <= 1.1 and not health.standing("a", "image").firm


async def test_a_breaker_opens_after_five_in_a_row_and_after_half_of_many() -> None:
    health, clock, log = made()
    for number in range(5):
        assert health.standing("a", "text").usable, number
        health.failed(by("a"), "text", "breaker")
    assert health.standing("a", "text").why == "breaker"
    for number in range(11):
        attempt = by("b")
        health.passed(attempt, "text", 0.1) if number % 2 else health.failed(attempt, "text", "breaker")
    assert health.standing("b", "text").why == "breaker"
    clock.turn(31)
    for _ in range(4):
        health.failed(by("c"), "text", "breaker")
    clock.turn(31)
    health.passed(by("c"), "text", 0.1)
    for _ in range(4):
        health.failed(by("c"), "text", "breaker")
    assert health.standing("c", "text").usable, "what is long ago is forgotten"
    assert [line["upstream"] for line in log.lines if line["event"] == "upstream_benched"] == ["a", "b"]


async def test_a_probe_that_fails_makes_the_next_pause_longer() -> None:
    health, clock, _ = made()
    for _ in range(5):
        health.failed(by("a"), "text", "breaker")
    waits = []
    for _ in range(6):
        waits.append(health.standing("a", "text").wait)
        clock.turn(waits[-1])
        assert health.enter("a", "text") and not health.enter("a", "text")
        health.failed(by("a"), "text", "breaker")
    assert [round(wait / 1.05) for wait in waits] == pytest.approx([5, 10, 20, 40, 60, 60], rel=0.06)


async def test_a_probe_that_nobody_waited_for_is_given_back_and_one_that_is_lost_comes_back() -> None:
    health, clock, _ = made()
    for _ in range(5):
        health.failed(by("a"), "text", "breaker")
    clock.turn(6)
    assert health.enter("a", "text") and not health.enter("a", "text")
    health.left(by("a"), "text")
    assert health.enter("a", "text") and not health.enter("a", "text")
    clock.turn(61)
    assert health.enter("a", "text")


async def test_a_guess_keeps_nobody_out_when_there_is_no_other() -> None:
    health, _, _ = made()
    for _ in range(5):
        health.failed(by("a"), "text", "breaker")
    assert not health.enter("a", "text") and health.enter("a", "text", last=True)


async def test_a_dead_key_is_dead_for_everything_and_the_next_is_used() -> None:
    health, _, log = made()
    health.pool("a", ("1", "2"))
    attempt = by("a", "1")
    health.failed(attempt, "image", "auth")
    assert health.another(attempt, "image") and health.another(attempt, "text")
    assert {health.choose("a", ("1", "2"), "text", start) for start in range(4)} == {1}
    assert health.standing("a", "text").usable
    health.failed(by("a", "2"), "text", "auth")
    assert not health.standing("a", "image").usable and not health.another(attempt, "image")
    assert [line["event"] for line in log.lines] == ["upstream_credential_refused"] * 2


async def test_a_callers_own_key_benches_nobody_else() -> None:
    health, _, _ = made()
    health.pool("a", ("1",))
    health.failed(by("a", "caller:ann"), "image", "balance")
    assert health.standing("a", "image").usable and not health.another(by("a", "caller:ann"), "image")


async def test_what_is_slow_counts_more_than_what_is_fast_and_one_sample_never_decides() -> None:
    health, clock, _ = made()
    for _ in range(50):
        clock.turn(1)
        for upstream, seconds in (("fast", 0.1), ("slow", 5.0)):
            health.enter(upstream, "text")
            health.passed(by(upstream), "text", seconds)
    fast, slow = health.latency("fast", "text"), health.latency("slow", "text")
    assert fast < 0.3 and slow > 4
    health.enter("fast", "text")
    health.passed(by("fast"), "text", 5.0)
    assert health.latency("fast", "text") < 2
    health.enter("fast", "text")
    assert health.latency("fast", "text") > 2 * fast, "one that has work in hand is slower for the next"


# --- whatever happens


class Anything(RuleBasedStateMachine):
    """Any order of calls: pauses only get longer, at most one probe is out, what is well is let in."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Still()
        self.health = Health(None, self.clock, LogKept())  # type: ignore[arg-type] # nothing is shared
        self.probing = False
        self.until = 0.0

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.clock.turn(seconds)

    @rule(bench=st.sampled_from(["retry_after", "breaker"]), told=st.one_of(st.none(), st.floats(0, 700)))
    def one_that_was_under_way_fails(self, bench: Bench, told: float | None) -> None:
        before = self.health.standing("a", "text")
        now = self.clock.now()
        self.health.failed(by("a"), "text", bench, retry_after=told)
        after = self.health.standing("a", "text")
        if not before.usable and before.wait and not self.probing:
            assert after.wait >= before.wait - 1e-6, "a pause only gets longer"
        if not after.usable:
            self.probing = False
            self.until = now + after.wait

    @precondition(lambda self: not self.probing)
    @rule()
    def one_goes_in(self) -> None:
        standing = self.health.standing("a", "text")
        entered = self.health.enter("a", "text")
        assert entered == standing.usable
        place = self.health._places.get(("a", "", "text"))
        self.probing = entered and place is not None and bool(place.probing)
        if self.probing:
            assert not self.health.enter("a", "text"), "one probe at a time"

    @precondition(lambda self: self.probing)
    @rule(well=st.booleans())
    def the_probe_ends(self, well: bool) -> None:
        if well:
            self.health.passed(by("a"), "text", 0.1)
            assert self.health.standing("a", "text").usable and self.health.enter("a", "text")
        else:
            self.health.left(by("a"), "text")
        self.probing = False

    @invariant()
    def the_last_is_never_kept_out_by_a_guess(self) -> None:
        capability: Capability = "text"
        if not self.probing:
            assert self.health.enter("a", capability, last=True)
            self.health.left(by("a"), capability)


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_the_record_is_json_without_secrets() -> None:
    health, _, _ = made()
    health.failed(by("a", "1"), "text", "auth")
    (shown,) = health.snapshot()
    assert orjson.dumps(shown) and set(shown) == {"upstream", "credential", "capability", "why", "seconds"}


# --- what was under way says nothing of how it is now


def asked(upstream: str, began: float) -> Attempt:
    return Attempt(upstream, began=began)


async def test_an_answer_to_what_was_asked_before_does_not_bring_it_back() -> None:
    health, _, _ = made()
    early = asked("a", perf_counter())
    for _ in range(5):
        health.failed(by("a"), "text", "breaker")
    health.passed(early, "text", 60.0)
    assert not health.standing("a", "text").usable


async def test_one_that_leaves_gives_back_no_probe_but_its_own() -> None:
    health, clock, _ = made()
    early = asked("a", perf_counter())
    for _ in range(5):
        health.failed(by("a"), "text", "breaker")
    clock.turn(6)
    assert health.enter("a", "text")
    health.left(early, "text")
    assert not health.enter("a", "text"), "the probe is still out"


async def test_pauses_of_one_sort_do_not_lengthen_those_of_another() -> None:
    health, clock, _ = made()
    for _ in range(6):
        health.failed(by("a"), "text", "retry_after")
        clock.turn(health.standing("a", "text").wait)
        assert health.enter("a", "text")
    health.failed(by("a"), "text", "breaker")
    assert 5 <= health.standing("a", "text").wait <= 5.5


def test_a_key_that_takes_the_place_of_another_has_another_id() -> None:
    def ids(key: str) -> tuple[str, ...]:
        health = Health(None, Still(), LogKept())  # type: ignore[arg-type] # nothing is shared
        Credential([Secret(key)], auth="bearer", headers={}, swaps=True, upstream="a", health=health)
        return tuple(health._pools["a"])

    assert ids("sk-one-0123456789") != ids("sk-two-0123456789")
    assert ids("sk-one-0123456789") == ids("sk-one-0123456789")
