"""`[prices]` as it is read, and what is said of budgets that nothing has a price for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.api import Plugin
from proxy.core import registry
from proxy.core.config import Config, ConfigError, load
from proxy.model.limit import NO_LIMITS, Limits
from proxy.model.prices import Price, price_of

DOCS = (Path(__file__).parent.parent.parent / "docs/configuration.md").read_text()
EXAMPLE = re.findall(r"```\w*\n(.*?)```", DOCS.partition("### `[prices]`")[2], re.DOTALL)[0]
ONE = '[upstreams.openai]\nbase_url = "https://api.openai.com/v1"\n'
MTOK = 10**9  # nano-USD for a USD
Read = Callable[[str], Config]


class Quota(Plugin):
    """Counts."""

    limits: Limits = NO_LIMITS
    unknown_price: str = "refuse"


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    monkeypatch.setattr(registry, "claims", dict)

    def from_text(text: str) -> Config:
        path = tmp_path / "framegate.toml"
        path.write_text(ONE + text)
        return load(path, {"SECRET": "s" * 40})

    return from_text


def complaints(read: Read, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value).splitlines()


def test_the_example_of_the_docs_is_exact(read: Read) -> None:
    prices = read(EXAMPLE.removeprefix(ONE)).prices
    assert prices["gpt-image-2"] == Price({"": {"low": 6_000_000, "medium": 53_000_000, "high": 211_000_000}})
    assert prices["gpt-image-1.5"].images["1024x1024"] == {"medium": 34_000_000, "high": 133_000_000}
    assert prices["flux-*"] == Price({"": {"": 40_000_000}})
    assert prices["gpt-5*"] == Price(text_in=1_250_000_000, text_out=10 * MTOK)
    assert prices["gpt-image-2.5-*"] == Price(text_in=5 * MTOK, image_in=8 * MTOK, image_out=30 * MTOK)
    assert prices["selfhosted-*"] == Price({"": {"": 0}}, text_in=0, text_out=0)
    found = price_of(prices, "gpt-image-1.5")
    assert found is not None and found.image("1536x1024", "low") == 200_000_000


def test_a_table_of_its_own_says_the_same(read: Read) -> None:
    table = '[prices."m"]\nper_image = 0.000000001\n[prices."m"."2K"]\nhigh = 1_0.5\n[prices.n]\n"1024x1024" = 4e-2\n'
    prices = read(table).prices
    assert prices["m"].images == {"2K": {"high": 10_500_000_000}, "": {"": 1}}
    assert prices["n"].images == {"1024x1024": {"": 40_000_000}}


def test_other_numbers_of_the_file_are_no_less_floats(read: Read) -> None:
    config = read('[prices]\nm = { low = 0.1 }\n[plugins.x]\nuse = "tests.core.test_price:Tenth"\ntenth = 0.1\n')
    assert config.plugins["x"].settings == {"tenth": 0.1}


class Tenth(Plugin):
    tenth: float


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('"gpt-image-2" = 0.04', "prices.gpt-image-2: expected a table; write gpt-image-2 = { per_image = 0.04 }"),
        ('"gpt-image-2" = "0.04"', "expected a table; write gpt-image-2 = { low = 0.006, high = 0.211 }"),
        ("m = {}", "prices.m: says no price; give per_image, prices by quality, or input_per_mtok"),
        ('m = { "1024x1024" = {} }', "prices.m.1024x1024: says no price; give one by quality"),
        ("m = { hihg = 0.2 }", "prices.m.hihg: no such setting; did you mean 'high'?"),
        ("m = { auto = 0.2 }", "prices.m.auto: no such setting"),
        ("m = { input_per_token = 0.2 }", "no such setting; did you mean 'input_per_mtok'?"),
        ('m = { "1024x1024" = { hihg = 0.2 } }', "prices.m.1024x1024.hihg: no such setting; did you mean 'high'?"),
        ('m = { low = "0.2" }', 'prices.m.low: expected an amount in USD such as 0.053, found the text "0.2"'),
        ("m = { low = true }", "prices.m.low: expected an amount in USD such as 0.053, found true"),
        ("m = { low = [0.1] }", "prices.m.low: expected an amount in USD such as 0.053, found a list"),
        (
            "m = { low = -0.1 }",
            "prices.m.low: -0.1 is no price; write an amount in USD such as 0.053, or 0 for what costs",
        ),
        ("m = { low = nan }", "prices.m.low: NaN is no price"),
        ("m = { low = inf }", "prices.m.low: Infinity is no price"),
        ("m = { low = 1000001 }", "prices.m.low: 1000001 USD is more than a price can be, which is 1,000,000"),
        ("m = { low = 1e400 }", "is more than a price can be"),
        ("m = { low = 0.0000000001 }", "has more than 9 places behind the point"),
        ("m = { low = 1e-400 }", "has more than 9 places behind the point"),
        ("gpt-4.1 = { low = 0.1 }", "is the name 'gpt-4.1'? It needs quotes"),
        ('"a b" = { low = 0.1 }', "prices.\"a b\": 'a b' is no name of a model"),
        ('"" = { low = 0.1 }', "is no name of a model"),
    ],
)
def test_says_what_is_wrong_with_a_price(read: Read, table: str, said: str) -> None:
    (complaint,) = complaints(read, f"[prices]\n{table}\n")
    assert said in complaint and len(complaint) < 250


def test_a_number_that_nothing_can_hold_is_one_complaint(read: Read) -> None:
    (complaint,) = complaints(read, "[prices]\nm = { low = 1e99999999999999999999 }\n")
    assert "not TOML that can be read" in complaint


VALUES = st.one_of(
    st.floats().map(lambda value: repr(value)), st.integers().map(str), st.sampled_from(['"x"', "{}", "[]", "true"])
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.dictionaries(st.sampled_from(["low", "per_image", "output_per_mtok", '"512x512"', "x"]), VALUES))
def test_a_table_is_read_or_refused_in_words(read: Read, table: dict[str, str]) -> None:
    text = ", ".join(f"{key} = {value}" for key, value in table.items())
    try:
        price = read(f"[prices]\nm = {{ {text} }}\n").prices["m"]
    except ConfigError:
        return
    assert all(type(amount) is int or amount >= 0 for row in price.images.values() for amount in row.values())


# --- Budgets without a price

COUNT = '[plugins.count]\nuse = "tests.core.test_price:Quota"\n'
ROUTE = '[[routes]]\nmatch = "* /v1/*"\nchain = ["count"]\n'
BUDGET = 'limits = { budget = "25 USD / month" }\n'
KEY = '[keys.a]\nsecret = "env:SECRET"\n'
PRICED = '[prices]\n"gpt-image-2" = { per_image = 0.04 }\n'


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (COUNT + BUDGET + ROUTE, "plugins.count.limits.budget"),
        (COUNT + ROUTE + BUDGET, "routes[0].limits.budget"),
        (COUNT + KEY + BUDGET + ROUTE, "keys.a.limits.budget"),
        (COUNT + "[groups.g]\n" + BUDGET + ROUTE, "groups.g.limits.budget"),
        (COUNT + '[models."gpt-*"]\n' + BUDGET + ROUTE, 'models."gpt-*".limits.budget'),
    ],
)
def test_a_budget_is_named_where_nothing_has_a_price(read: Read, text: str, where: str) -> None:
    (complaint,) = complaints(read, text)
    assert complaint.startswith(f"{where}: nothing has a price, so it would refuse all; add [prices] with")
    if "models" not in text:
        assert read(text + PRICED)
    assert read(text + '[prices]\n"*" = { per_image = 0.04 }\n')
    assert read(text.replace(COUNT, COUNT + 'unknown_price = "allow"\n'))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[models."gpt-5"]\n' + BUDGET, "models.gpt-5.limits.budget"),
        (KEY + 'models = ["gpt-image-2", "gpt-5"]\n' + BUDGET, "keys.a.models[1]"),
        (KEY + 'models = ["gpt-5"]\ngroup = "g"\n[groups.g]\n' + BUDGET, "keys.a.models[0]"),
        (
            KEY + 'models = ["gpt-5"]\n[plugins.count]\nuse = "tests.core.test_price:Quota"\n' + BUDGET,
            "keys.a.models[0]",
        ),
    ],
)
def test_a_model_that_a_budget_would_refuse_is_named(read: Read, text: str, where: str) -> None:
    rest = PRICED + ROUTE + ("" if "plugins" in text else COUNT)
    assert complaints(read, text + rest) == [
        f"{where}: 'gpt-5' has no price in [prices], so a budget would refuse it; write one, or 0 if it costs nothing"
    ]
    assert read(text + rest.replace("[prices]\n", '[prices]\n"gpt-5" = { output_per_mtok = 0 }\n'))
    assert read(text + rest.replace("[prices]\n", '[prices]\n"gpt-*" = { output_per_mtok = 0 }\n'))


@pytest.mark.parametrize(
    "text",
    [
        KEY
        + 'models = ["gpt-*", "omni-moderation-latest"]\n'
        + BUDGET,  # a glob may match nothing else; moderations are free
        KEY + 'models = ["gpt-5"]\n',  # no budget
        KEY + 'models = ["gpt-5"]\nlimits = { images = "5 / 1m" }\n',
        '[models."gpt-?"]\n' + BUDGET,
    ],
)
def test_what_is_not_certain_is_not_told(read: Read, text: str) -> None:
    assert read(text + COUNT + PRICED + ROUTE)


def test_a_price_under_the_upstreams_name_will_do(read: Read) -> None:
    text = 'models = { "gpt-5" = "five" }\n' + KEY + 'models = ["gpt-5"]\n' + BUDGET + COUNT + ROUTE
    assert complaints(read, text + PRICED)
    assert read(text + "[prices]\nfive = { output_per_mtok = 1 }\n")


def test_nothing_is_told_where_nobody_counts(read: Read) -> None:
    assert read(KEY + BUDGET + '[[routes]]\nmatch = "* /v1/*"\nchain = []\n')
    assert read(KEY + BUDGET + COUNT + BUDGET + '[[routes]]\nmatch = "* /v1/*"\nchain = []\n')


def test_a_price_that_can_not_be_read_is_the_only_complaint(read: Read) -> None:
    (complaint,) = complaints(read, COUNT + BUDGET + ROUTE + "[prices]\nm = {}\n")
    assert complaint.startswith("prices.m:")
