from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plugins.moderation.breaker import FAILURES, Breaker, Crowded
from plugins.moderation.verdict import Unavailable, Unreadable
from proxy.testkit import TurnedClock


class Log:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **details: Any) -> None:
        """Keep it."""
        self.lines.append((event, details))

    warning = error = info


class Backend:
    """A breaker, and what is asked behind it."""

    def __init__(self, jitter: float = 0.0) -> None:
        self.clock = TurnedClock()
        self.log = Log()
        self.breaker = Breaker("openai", self.clock, self.log, slow=4.5, jitter=lambda: jitter)
        self.asked = 0

    def ask(self, error: BaseException | None = None) -> None:
        """Ask it once; it answers, or fails like this."""
        with self.breaker.asking():
            self.asked += 1
            if error is not None:
                raise error

    def fail(self, times: int = FAILURES) -> None:
        """Ask it so often, in vain."""
        for _ in range(times):
            with pytest.raises(Unavailable, match=r"^answered 500$"):
                self.ask(Unavailable("answered 500"))

    def shut(self) -> bool:
        """Whether it is left alone."""
        before = self.asked
        try:
            self.ask()
        except Unavailable:
            return self.asked == before
        return False


def test_leaves_alone_what_has_failed_five_times_in_a_row() -> None:
    backend = Backend()
    backend.fail()
    with pytest.raises(Unavailable, match="left alone after 5 failures in a row, the last: answered 500"):
        backend.ask()
    assert backend.asked == 5
    assert backend.log.lines == [
        ("moderation_left_alone", {"backend": "openai", "failures": 5, "why": "answered 500", "seconds": 10.0})
    ]


def test_one_answer_between_failures_begins_the_count_anew() -> None:
    backend = Backend()
    backend.fail(4)
    backend.ask()
    backend.fail(4)
    assert not backend.shut() and backend.log.lines == []


def test_asks_again_after_the_pause_and_is_back_with_the_first_answer() -> None:
    backend = Backend()
    backend.fail()
    backend.clock.turn(9.9)
    assert backend.shut()
    backend.clock.turn(0.1)
    backend.ask()
    backend.fail(4)
    assert not backend.shut()
    assert [event for event, _ in backend.log.lines] == ["moderation_left_alone", "moderation_back"]


def test_a_probe_that_fails_begins_another_pause() -> None:
    backend = Backend()
    backend.fail()
    backend.clock.turn(10)
    backend.fail(1)
    backend.clock.turn(9)
    assert backend.shut()
    backend.clock.turn(1)
    assert not backend.shut()


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 10.0), (0.5, 11.25), (1.0, 12.5)])
def test_the_pause_is_up_to_a_quarter_longer(jitter: float, seconds: float) -> None:
    backend = Backend(jitter)
    backend.fail()
    backend.clock.turn(seconds - 0.1)
    assert backend.shut()
    backend.clock.turn(0.1)
    assert not backend.shut()


def test_sends_one_probe_at_a_time() -> None:
    backend = Backend()
    backend.fail()
    backend.clock.turn(10)
    with backend.breaker.asking():
        assert backend.shut()
    assert not backend.shut()


@pytest.mark.parametrize(
    "error",
    [
        Unreadable("no picture"),
        Crowded("the line before it is too long"),
        RuntimeError("a bug"),
        asyncio.CancelledError(),
    ],
    ids=["unreadable", "crowded", "bug", "cancelled"],
)
def test_what_says_nothing_of_the_backend_changes_nothing(error: BaseException) -> None:
    backend = Backend()
    for _ in range(2):
        backend.fail(2)
        with pytest.raises(type(error)):
            backend.ask(error)
    assert not backend.shut()
    backend.fail()
    backend.clock.turn(10)
    with pytest.raises(type(error)):
        backend.ask(error)  # a probe that tells nothing: the next may try
    assert not backend.shut()


def test_who_is_cut_off_by_the_deadline_has_failed() -> None:
    backend = Backend()
    for _ in range(FAILURES):
        with pytest.raises(asyncio.CancelledError), backend.breaker.asking():
            backend.clock.turn(4.5)
            raise asyncio.CancelledError
    with pytest.raises(Unavailable, match="the last: timed out"):
        backend.ask()


def test_who_fails_late_does_not_make_the_pause_longer() -> None:
    backend = Backend()
    with pytest.raises(Unavailable), backend.breaker.asking():
        backend.fail()
        backend.clock.turn(9)
        raise Unavailable("answered 500")
    backend.clock.turn(1)
    assert not backend.shut()


def test_an_answer_that_was_under_way_brings_it_back_at_once() -> None:
    backend = Backend()
    with backend.breaker.asking():
        backend.fail()
        assert backend.shut()
    assert not backend.shut()
