"""Which limits hold for a request, and by which counters."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.claims import Claims
from proxy.core.quota import Quotas, bounds, period
from proxy.core.settings import Reader
from proxy.model.limit import NO_LIMITS, Calendar, Limits
from proxy.model.slots import Caller
from proxy.store.memory import Memory
from proxy.testkit import TurnedClock

NOW = datetime(2026, 11, 21, 14, 30, tzinfo=UTC)


def limits(**raw: Any) -> Limits:
    reader = Reader(Path.cwd(), {})
    read = reader.table(Limits, raw, "limits")
    assert not reader.complaints
    assert isinstance(read, Limits)
    return read


class Silent:
    def info(self, event: str, **details: object) -> None: ...

    warning = error = info


def quotas(clock: TurnedClock, **given: Any) -> Quotas:
    claims = Claims(Memory(clock), clock, Silent(), timeout=1)
    return Quotas(claims, claims, clock, **given)


def test_a_limit_becomes_a_counter() -> None:
    given = limits(
        requests="20 / 10s", images=["5 / 1m", "500 / day"], tokens="2k / 1m", concurrent=3, budget="1.5 USD / month"
    )
    made = list(bounds("key", "web", given, NOW))
    assert [(one.line.counter, one.line.ceiling, one.line.window, one.resource, one.limit) for one in made] == [
        ("key:web|requests|10000", 20, 10_000, "requests", "20 / 10s"),
        ("key:web|images|60000", 5, 60_000, "images", "5 / 1m"),
        ("key:web|images|day 2026-11-21", 500, 0, "images", "500 / day"),
        ("key:web|tokens|60000", 2000, 60_000, "tokens", "2000 / 1m"),
        ("key:web|concurrent", 3, 0, "concurrent", "3"),
        ("key:web|budget|month 2026-11-01", 1_500_000_000, 0, "budget", "1.5 USD / month"),
    ]
    month = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    assert (made[-1].until, made[-1].line.until) == (month, month * 1000)


@pytest.mark.parametrize(
    ("calendar", "label", "end"),
    [("day", "2026-11-21", "2026-11-22"), ("week", "2026-11-16", "2026-11-23"), ("month", "2026-11-01", "2026-12-01")],
)
def test_a_period_ends_with_the_calendar(calendar: Calendar, label: str, end: str) -> None:
    assert period(calendar, NOW) == (label, datetime.fromisoformat(end).replace(tzinfo=UTC).timestamp())


def test_days_are_those_of_the_zone_and_not_always_of_24_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    label, end = period("day", datetime(2026, 10, 24, 22, 30, tzinfo=UTC).astimezone(berlin))
    assert label == "2026-10-25"
    assert end - datetime(2026, 10, 24, 22, 0, tzinfo=UTC).timestamp() == 25 * 3600


@given(
    moment=st.datetimes(
        datetime(2020, 1, 1),
        datetime(2090, 1, 1),
        timezones=st.sampled_from((UTC, ZoneInfo("Asia/Kolkata"), ZoneInfo("America/New_York"))),
    ),
    calendar=st.sampled_from(("day", "week", "month")),
)
def test_every_moment_is_in_one_period(moment: datetime, calendar: Calendar) -> None:
    label, end = period(calendar, moment)
    assert end > moment.timestamp()
    following, later = period(calendar, datetime.fromtimestamp(end, moment.tzinfo))
    assert following > label
    assert later > end


def test_all_limits_that_hold_are_found() -> None:
    book = quotas(
        TurnedClock(),
        groups={"marketing": limits(budget="5 USD / day")},
        models={"gpt-image-*": limits(images="9 / 1m"), "dall-e-*": limits(images="1 / 1m")},
        routes={"* /v1/*": limits(requests="99 / 1m")},
    )
    caller = Caller("web", "marketing", limits=limits(concurrent=2))
    found = book.bounds(caller, "* /v1/*", ("gpt-image-2",), own=("key", "quota/web", limits(images="4 / 1m")))
    assert [(one.scope, one.resource, one.limit) for one in found.all] == [
        ("key", "images", "4 / 1m"),
        ("key", "concurrent", "2"),
        ("group", "budget", "5 USD / day"),
        ("route", "requests", "99 / 1m"),
        ("model", "images", "9 / 1m"),
    ]
    assert book.by_model
    assert not quotas(TurnedClock(), models={"gpt-*": NO_LIMITS}).by_model
    only = book.bounds(caller, "* /v1/*", (), own=("all", "quota", limits(images="4 / 1m")), shared=False)
    assert [one.scope for one in only.all] == ["all"]
    assert not book.bounds(None, "GET /v1/models", ())


def test_of_one_counter_the_tightest_holds() -> None:
    book = quotas(TurnedClock())
    found = book.bounds(Caller("web", limits=limits(images=["9 / 1m", "4 / 1m", "7 / 60s"])), "", ())
    assert [one.line.ceiling for one in found.all] == [4]


def test_what_is_remembered_is_right_when_a_key_or_the_month_changes() -> None:
    clock = TurnedClock()
    book = quotas(clock)
    before = book.bounds(Caller("web", limits=limits(budget="1 USD / month")), "", ())
    assert book.bounds(Caller("web", limits=limits(requests="1 / 1m")), "", ()).resources == ("requests",)
    caller = Caller("web", limits=limits(budget="1 USD / month"))
    clock.turn(before.all[0].until - clock.wall() + 1)
    after = book.bounds(caller, "", ())
    assert after.lines[0].counter != before.lines[0].counter
    assert book.bounds(caller, "", ()) is after
