from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.settings import Reader
from proxy.model.limit import Budget, Limits, Rate, Window


def read(raw: Any) -> tuple[Any, list[str]]:
    reader = Reader(Path.cwd(), {})
    limits = reader.table(Limits, raw, "limits")
    return limits, [str(complaint) for complaint in reader.complaints]


def test_reads_all_limits_of_a_table() -> None:
    limits, complaints = read(
        {
            "requests": "20 / 10s",
            "images": ["20 / 1m", "500 / 1d"],
            "tokens": "100k / 1m",
            "concurrent": 5,
            "budget": "25 USD / month",
        }
    )
    assert complaints == []
    assert limits == Limits(
        requests=(Rate(20, Window(10.0)),),
        images=(Rate(20, Window(60.0)), Rate(500, Window(86400.0))),
        tokens=(Rate(100_000, Window(60.0)),),
        concurrent=5,
        budget=(Budget(Decimal(25), Window(calendar="month")),),
    )


def test_a_day_is_the_calendars_and_1d_rolls() -> None:
    assert Rate.parse("5/day").window == Window(calendar="day")
    assert Rate.parse("5/1d").window == Window(seconds=86400.0)


@pytest.mark.parametrize(("text", "count"), [("20/1s", 20), ("1.5k / 1s", 1500), ("2M/1s", 2_000_000)])
def test_counts_in_thousands_and_millions(text: str, count: int) -> None:
    assert Rate.parse(text).count == count


def test_keeps_cents_exact() -> None:
    budget = Budget.parse("0.10 USD / week")
    assert (budget.usd, budget.nano) == (Decimal("0.10"), 100_000_000)
    assert Budget.parse("9007199 USD / month").nano < 2**53


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"requests": "20"}, """requests: '20' is not a limit such as "20 / 10s" or "500 / day\""""),
        ({"requests": 20}, 'requests: expected a limit such as "20 / 10s" or "500 / day", found the number 20'),
        ({"requests": "20 / hour"}, "requests: 'hour' is not a window: write 10s, 1m or 30d (rolling), or day, week"),
        ({"requests": "20 / 0s"}, "requests: '0s' is not a window"),
        ({"requests": "20 / 10"}, "requests: '10' is not a window"),
        ({"requests": "many / 1m"}, "'many' is not a number such as 20, 100k or 2M"),
        ({"requests": "-1 / 1m"}, "'-1' is not a number"),
        ({"requests": "1.5 / 1m"}, "1.5 is not a whole number"),
        ({"requests": "0 / 1m"}, "'0 / 1m' would refuse everything; leave a limit out to have none"),
        ({"images": ["20 / 1m", "x"]}, "images[1]: 'x' is not a limit"),
        ({"concurrent": 0}, "limits: concurrent must be at least 1"),
        ({"concurrent": "5 / 1m"}, 'concurrent: expected a whole number, found the text "5 / 1m"'),
        ({"budget": "25 EUR / month"}, "prices are in USD, so budgets are too"),
        ({"budget": "25 / month"}, "prices are in USD"),
        (
            {"budget": "9007200 USD / month"},
            "'9007200 USD / month' is more than can be counted, which is 9,007,199 USD",
        ),
        ({"budget": "999999999999 USD / day"}, "is more than can be counted"),
        ({"budget": "$25 / month"}, "'$25' is not an amount such as 25 USD"),
        ({"request": "20 / 1m"}, "limits.request: no such setting; did you mean 'requests'?"),
    ],
)
def test_says_what_is_wrong_with_a_limit(raw: dict[str, Any], said: str) -> None:
    _, [complaint] = read(raw)
    assert said in complaint


def test_no_limits_are_false() -> None:
    assert not Limits()
    assert Limits(concurrent=1)


@settings(deadline=None)
@given(st.text())
def test_never_raises_anything_but_a_value_error(text: str) -> None:
    for kind in (Rate, Budget, Window):
        with suppress(ValueError):
            assert isinstance(kind.parse(text), kind)
