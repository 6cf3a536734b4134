"""Who waits before an upstream: in what order they are served, how long it takes, what the upstream teaches."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.core.outlook import Outlook
from proxy.core.queue import Line, Ticket
from proxy.core.waiting import REST, STEP, Eased
from proxy.model.quota import Bound, Bounds, Claimed
from proxy.model.quota import Line as Limit

MINUTE = 60_000
IMAGES = Bound(Limit("upstream:a|images|60000", 60, window=MINUTE), "images", "upstream", "60 / 1m", 0.0)
AT_ONCE = Bound(Limit("upstream:a|concurrent", 4), "concurrent", "upstream", "4", 0.0)


def ticket(caller: str = "", images: int = 1, due: float = 1e9) -> Ticket:
    return Ticket(caller, {"images": images}, due)


def stand(line: Line, *callers: str) -> list[Ticket]:
    tickets = [ticket(caller) for caller in callers]
    for one in tickets:
        line.join(one)
    return tickets


def served(line: Line) -> list[Ticket]:
    """All of them, as they come to the front."""
    found = []
    while (head := line.head) is not None:
        line.leave(head, served=True)
        found.append(head)
    return found


def test_callers_take_turns_and_each_in_the_order_in_which_it_came() -> None:
    line = Line()
    a, b, c, d, e, f = stand(line, "x", "x", "x", "y", "z", "y")
    assert list(line) == served(line) == [a, d, e, b, f, c]
    assert len(line) == 0


def test_who_was_served_lets_the_others_go_first_also_with_what_comes_later() -> None:
    line = Line()
    a, b = stand(line, "x", "x")
    line.leave(a, served=True)
    c, d = stand(line, "y", "x")
    assert served(line) == [b, c, d]
    (e,) = stand(line, "x")
    f, g = stand(line, "y", "x")
    line.leave(e, served=True)
    assert served(line) == [f, g]


def test_who_leaves_without_being_served_costs_its_caller_no_turn() -> None:
    line = Line()
    a, b, c = stand(line, "x", "x", "y")
    line.leave(a)
    assert b.woken.is_set()
    assert served(line) == [b, c]


def test_the_next_is_woken_and_nobody_else() -> None:
    line = Line()
    a, b, c = stand(line, "x", "y", "z")
    line.leave(b)
    assert not (a.woken.is_set() or c.woken.is_set())
    line.leave(a, served=True)
    assert c.woken.is_set()


def test_what_comes_back_wakes_only_who_waits_for_it() -> None:
    line = Line()
    (a,) = stand(line, "x")
    a.blocked = frozenset(("images",))
    line.nudge(["concurrent"])
    assert not a.woken.is_set()
    line.nudge(["concurrent", "images"])
    assert a.woken.is_set()
    a.woken.clear()
    a.blocked = None  # it is asking: what comes back just now may have come too late for its question
    line.nudge(["concurrent"])
    assert a.woken.is_set()


class Queueing(RuleBasedStateMachine):
    """Anybody comes, is served and leaves in any order; beside it, the same done plainly."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.plain: dict[str, deque[Ticket]] = {}
        self.since: dict[tuple[str, str], int] = {}  # how often one was served while another waited all the time
        self.came: Counter[str] = Counter()
        self.went: Counter[str] = Counter()

    @rule(caller=st.sampled_from("abcde"))
    def come(self, caller: str) -> None:
        one = ticket(caller)
        place = self.line.join(one)
        if not self.plain.get(caller):
            for other in "abcde":  # its wait begins: nobody owes it anything
                self.since[caller, other] = self.since[other, caller] = 0
        self.plain.setdefault(caller, deque()).append(one)
        self.came[caller] += 1
        assert list(self.line).index(one) == place - 1

    @precondition(lambda self: len(self.line))
    @rule()
    def serve(self) -> None:
        head = self.line.head
        assert head is not None
        following = list(self.line)[1:]
        self.line.leave(head, served=True)
        assert self.plain[head.caller].popleft() is head, "first in, first out"
        self.went[head.caller] += 1
        assert list(self.line) == following, "the order that was foretold is the order"
        for other, lane in self.plain.items():
            if lane and other != head.caller:
                self.since[other, head.caller] += 1
                self.since[head.caller, other] = 0
                assert self.since[other, head.caller] <= 1, f"{other} waits, and {head.caller} is served again"

    @precondition(lambda self: len(self.line))
    @rule(data=st.data())
    def give_up(self, data: Any) -> None:
        one = data.draw(st.sampled_from(list(self.line)))
        rest = [other for other in self.line if other.caller != one.caller]
        self.line.leave(one)
        self.plain[one.caller].remove(one)
        self.went[one.caller] += 1
        assert [other for other in self.line if other.caller != one.caller] == rest, "nobody else loses a place"

    @invariant()
    def nobody_is_lost_or_doubled(self) -> None:
        here = list(self.line)
        assert len(here) == len(set(here)) == len(self.line) == sum(map(len, self.plain.values()))
        assert {caller: len(lane) for caller, lane in self.plain.items()} == {
            caller: self.came[caller] - self.went[caller] for caller in self.plain
        }
        assert (self.line.head is None) == (not here)
        assert self.line.head is (here[0] if here else None)


TestQueueing = Queueing.TestCase
TestQueueing.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


# --- How long it will take


def outlook(bounds: Bounds, *, levels: tuple[int, ...], waits: tuple[int, ...], resets: tuple[int, ...]) -> Outlook:
    return Outlook(bounds, (1,) * len(levels), Claimed(False, levels, waits, resets), now=100.0, wall=1e9, held=12.0)


def test_a_burst_that_filled_the_window_comes_back_at_once_and_again_a_window_later() -> None:
    heard = outlook(Bounds([IMAGES]), levels=(60,), waits=(60_000,), resets=(60_000,))
    assert (heard.first, heard.untold, heard.blocked) == (160.0, False, {IMAGES.line.counter})
    assert [heard.at({"images": before}) for before in (0, 1, 59, 60, 119, 120)] == [160, 160, 160, 221, 221, 282]


def test_what_was_taken_evenly_comes_back_evenly() -> None:
    heard = outlook(Bounds([IMAGES]), levels=(60,), waits=(1_000,), resets=(61_000,))
    assert [heard.at({"images": before}) for before in (0, 1, 30, 59)] == pytest.approx([101, 102, 131, 160])


def test_what_others_hold_is_thought_to_come_back_evenly() -> None:
    heard = outlook(Bounds([AT_ONCE, IMAGES]), levels=(4, 10), waits=(-1, 0), resets=(-1, 60_000))
    assert heard.untold and heard.blocked == {AT_ONCE.line.counter}
    assert heard.first == pytest.approx(100 + 12 / 5)
    times = [heard.at({"concurrent": before, "images": before}) for before in range(9)]
    assert (
        times == sorted(times) and times[4] == pytest.approx(times[0] + 12) and times[8] == pytest.approx(times[0] + 24)
    )


def test_a_period_ends_when_it_ends() -> None:
    day = Bound(Limit("upstream:a|images|day 2026-11-21", 5, until=2_000), "images", "upstream", "5 / day", 1e9 + 3600)
    heard = outlook(Bounds([day]), levels=(5,), waits=(-1,), resets=(-1,))
    assert (heard.first, heard.at({"images": 1})) == (3700, 3700)
    assert heard.at({"images": 5}) == 3700 + 86400


def test_who_would_be_too_late_is_told_at_once_and_makes_room_for_those_behind() -> None:
    line = Line()
    tickets = [ticket(due=1e9), *[ticket(images=20, due=200 if i == 1 else 300) for i in range(5)]]
    for one in tickets:
        line.join(one)
    line.outlook = outlook(Bounds([IMAGES]), levels=(60,), waits=(60_000,), resets=(60_000,))
    assert line.dismiss(1000) == 200
    # 1 + 20 + 20 fit into the first minute, 20 + 20 into the second
    assert [one.late for one in tickets] == [None, None, None, None, None, None]
    tickets[3].due = 180
    tickets[4].due = 221
    assert line.dismiss(1000) == 200
    assert [one.late for one in tickets] == [None, None, None, 221, 221, None]
    assert [one.woken.is_set() for one in tickets] == [False, False, False, True, True, False]
    assert line.last == 221


def test_for_whom_there_is_no_room_is_told_at_once_and_all_callers_keep_the_same() -> None:
    line = Line()
    a, b, c, d, e = stand(line, "x", "x", "x", "y", "z")
    line.outlook = outlook(Bounds([IMAGES]), levels=(60,), waits=(60_000,), resets=(60_000,))
    line.dismiss(3)
    assert [one.crowded for one in (a, b, c, d, e)] == [False, True, True, False, False] and len(line) == 3


def test_one_who_comes_is_told_when_its_turn_will_be() -> None:
    line = Line()
    assert line.expected(ticket(), 1) is None
    for _ in range(60):
        line.join(ticket())
    line.outlook = outlook(Bounds([IMAGES]), levels=(60,), waits=(60_000,), resets=(60_000,))
    last, other = ticket(), ticket("b")
    assert line.expected(last, line.join(last)) == 221
    assert line.expected(other, line.join(other)) == 160, "it is the second: its caller has waited for nothing yet"


# --- What the upstream teaches


def test_a_refusal_lowers_the_limits_and_time_brings_them_back_in_steps() -> None:
    eased = Eased()
    assert (eased.share(10.0), eased.until) == (1.0, float("inf"))
    assert eased.refused(10.0, 9.0)
    assert (eased.share(10.0), eased.until) == (STEP, 10.0 + REST)
    assert not eased.refused(11.0, 9.9), "it was sent before: that is no news"
    assert eased.refused(12.0, 11.0)
    assert eased.share(12.0) == pytest.approx(STEP**2)
    assert eased.share(12.0 + REST) == STEP
    assert eased.share(12.0 + 2 * REST) == 1.0


def test_limits_are_not_lowered_for_ever() -> None:
    eased = Eased()
    for moment in range(100):
        eased.refused(moment / 10, moment / 10)
    assert 0.1 < eased.share(10.0) < 0.2


# --- When the line is full


def test_the_last_of_who_has_the_most_makes_room_for_who_has_less() -> None:
    line = Line()
    a, b, c, d, e = stand(line, "x", "x", "x", "y", "z")
    assert not line.squeeze("x")
    assert line.squeeze("w")
    assert (c.late is not None, c.woken.is_set(), len(line)) == (True, True, 4)
    assert not line.squeeze("y"), "it would have as many then as the other has left"
    assert line.squeeze("w") and b.late is not None
    assert not line.squeeze("w")
    for gone in (b, c):
        line.leave(gone)
    assert len(line) == 3
    assert served(line) == [a, d, e]
