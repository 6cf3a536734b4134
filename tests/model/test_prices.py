from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.api import Share, nano
from proxy.model.prices import Price, price_of

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("usd", "expected"),
    [("0.053", 53_000_000), ("0", 0), ("1", 10**9), ("0.0000000011", 2), ("9007199", 9_007_199 * 10**9)],
)
def test_money_is_whole_nano_usd_rounded_up(usd: str, expected: int) -> None:
    assert nano(Decimal(usd)) == expected


BY_QUALITY = Price({"": {"low": 6, "medium": 53, "high": 211}})
BY_SIZE = Price({"1024x1024": {"low": 9, "high": 133}, "1536x1024": {"": 200}, "": {"high": 250, "low": 7}})
SIZES_ALONE = Price({"1024x1024": {"": 5}, "2048x2048": {"": 8}})


@pytest.mark.parametrize(
    ("price", "size", "quality", "expected"),
    [
        (BY_QUALITY, None, "low", 6),
        (BY_QUALITY, "1024x1024", "medium", 53),
        (BY_QUALITY, None, None, 211),
        (BY_QUALITY, None, "auto", 211),
        (BY_QUALITY, None, "ultra", 211),
        (Price({"": {"": 40, "high": 211}}), None, "low", 40),
        (Price({"": {"": 40, "high": 211}}), None, "auto", 211),
        (BY_SIZE, "1024x1024", "low", 9),
        (BY_SIZE, "1024x1024", "medium", 133),
        (BY_SIZE, "1536x1024", "low", 200),
        (BY_SIZE, "640x480", "low", 7),
        (BY_SIZE, "auto", "low", 200),
        (BY_SIZE, None, None, 250),
        (SIZES_ALONE, "1024x1024", "high", 5),
        (SIZES_ALONE, "4096x4096", "high", 8),
        (Price(text_in=1), None, None, None),
    ],
)
def test_what_is_left_open_counts_as_the_dearest(
    price: Price, size: str | None, quality: str | None, expected: int | None
) -> None:
    assert price.image(size, quality) == expected


def test_tokens_of_pictures_cost_what_others_do_unless_they_have_a_price() -> None:
    share = Share("m", text_in=MILLION, image_in=2 * MILLION, text_out=3 * MILLION, image_out=4 * MILLION)
    assert Price(text_in=1, text_out=10).tokens(share) == 1 + 2 + 30 + 40
    assert Price(text_in=1, image_in=100, text_out=10, image_out=1000).tokens(share) == 1 + 200 + 30 + 4000
    assert Price(text_in=1).tokens(share) is None
    assert Price(text_in=1).tokens(share._replace(text_out=0, image_out=0)) == 3


@given(*[st.integers(0, 10**9)] * 4, *[st.integers(0, 10**15)] * 2)
def test_a_fraction_of_a_nano_usd_is_never_dropped(a: int, b: int, c: int, d: int, come: int, gone: int) -> None:
    exact = Decimal((a + b) * come + (c + d) * gone) / MILLION
    cost = Price(text_in=come, text_out=gone).tokens(Share("m", a, b, c, d))
    assert cost is not None and exact <= cost < exact + 1


def test_an_exact_name_goes_before_a_glob_and_a_long_glob_before_a_short() -> None:
    prices = {name: Price(text_in=at) for at, name in enumerate(("*", "gpt-image-2", "gpt-*", "gpt-image-*"))}
    found = [price_of(prices, name) for name in ("gpt-image-2", "gpt-image-2.5", "gpt-5", "flux", "")]
    assert [price and price.text_in for price in found] == [1, 3, 2, 0, 0]
    assert price_of({"gpt-5": Price()}, "gpt-5-mini") is None
