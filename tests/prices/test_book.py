from __future__ import annotations

import pytest

from proxy.api import Demand, PriceBook, Share, Used
from proxy.model.prices import Price
from proxy.prices.book import LONGEST, NAMES, ConfigBook

USD = 10**9
BOTH = Price({"": {"low": 6, "high": 211}}, text_in=5 * USD, image_out=30 * USD)
BOOK = ConfigBook(
    {
        "gpt-image-2": Price({"": {"low": 6_000_000, "medium": 53_000_000, "high": 211_000_000}}),
        "gpt-5*": Price(text_in=1_250_000_000, text_out=10 * USD),
        "both": BOTH,
        "free": Price({"": {"": 0}}, text_in=0, text_out=0),
    }
)
DRAWN = Share("gpt-image-2", text_in=10, image_out=1756, images=1, draws=True, quality="medium")


def demanded(*shares: Share) -> Demand:
    return Demand(1, 0, 0, shares)


def spent(*shares: Share) -> Used:
    return Used(1, 0, 0, shares)


def test_pictures_cost_what_the_config_says() -> None:
    book: PriceBook = BOOK
    assert book.most("gpt-image-2", demanded(DRAWN._replace(images=4))) == 212_000_000
    assert book.cost("gpt-image-2", spent(DRAWN._replace(images=3))) == 159_000_000
    assert book.cost("gpt-image-2", spent(DRAWN._replace(images=0))) == 0


def test_the_name_that_is_asked_for_stands_for_the_requests_own_model() -> None:
    assert BOOK.most("my-deployment", demanded(DRAWN)) is None
    assert BOOK.most("gpt-image-2", demanded(DRAWN._replace(model="my-deployment"))) == 53_000_000


def test_all_who_work_on_a_request_are_paid() -> None:
    speaks = Share("gpt-5.5", text_in=100, text_out=1000)
    assert BOOK.most("gpt-5.5", demanded(speaks, DRAWN)) == 125_000 + 10_000_000 + 53_000_000
    assert BOOK.most("gpt-5.5", demanded(speaks, DRAWN._replace(model="unknown"))) is None
    assert BOOK.most("gpt-5.5", demanded(speaks, Share("unknown", draws=True))) == 10_125_000
    assert BOOK.cost("gpt-5.5", spent(speaks, Share("unknown", draws=True))) == 10_125_000


def test_a_request_without_a_model_costs_nothing_and_an_unnamed_model_has_no_price() -> None:
    assert BOOK.most("", demanded()) == 0
    assert BOOK.most("", demanded(DRAWN._replace(model=None))) is None
    assert BOOK.most("free", demanded(DRAWN)) == 0


def test_a_price_by_the_picture_says_nothing_of_words() -> None:
    assert BOOK.most("gpt-image-2", demanded(Share("gpt-image-2", text_in=10, text_out=10))) is None


@pytest.mark.parametrize(("told", "cost"), [(True, 50 + 52_680), (False, 211)])
def test_usage_that_was_told_goes_before_pictures_and_the_dearer_is_held(told: bool, cost: int) -> None:
    share = Share("both", text_in=10, image_out=1756, images=1, draws=True, quality="high", told=told)
    book = ConfigBook({"both": Price(BOTH.images, text_in=5_000_000, image_out=30_000_000)})
    assert book.cost("both", spent(share)) == cost
    assert book.most("both", demanded(share)) == 50 + 52_680
    dear = ConfigBook({"both": Price({"": {"": USD}}, text_in=1, image_out=1)})
    assert dear.most("both", demanded(share)) == USD


def test_tokens_are_estimated_where_only_they_have_a_price() -> None:
    book = ConfigBook({"m": Price(text_in=5_000_000, image_out=30_000_000)})
    assert book.cost("m", spent(DRAWN)) == 50 + 52_680


def test_no_cost_is_beyond_counting() -> None:
    most = 2**53 - 1
    share = Share("m", text_out=most, images=most, draws=True)
    assert ConfigBook({"*": Price({"": {"": USD}}, text_out=USD)}).most("m", demanded(share, share)) == most


def test_names_that_callers_invent_are_not_remembered_without_end() -> None:
    book = ConfigBook({"m-*": Price(text_out=1)})
    for at in range(NAMES + 10):
        assert book.price(f"m-{at}") is not None
    assert book.price("m-" + "x" * LONGEST) is not None and len(book._known) == NAMES
