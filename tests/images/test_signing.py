from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.images.signing import Links

NAME = "a" * 26 + ".png"


def test_a_link_is_good_for_its_name_and_its_time_alone() -> None:
    links = Links(["master"], ttl=60)
    query = links.sign(NAME, 1790000000.9)
    assert query.startswith("expires=1790000000&signature=")
    assert links.until(NAME, query) == 1790000000
    assert links.until("b" + NAME[1:], query) is None
    assert links.until(NAME, query.replace("1790000000", "1790000001")) is None
    assert Links(["other"], ttl=60).until(NAME, query) is None


def test_keys_rotate() -> None:
    old = Links(["old"], ttl=60).sign(NAME, 1790000000)
    both = Links(["new", "old"], ttl=60)
    assert both.until(NAME, old) == 1790000000
    assert both.sign(NAME, 1790000000) == Links(["new"], ttl=60).sign(NAME, 1790000000) != old
    assert Links(["new"], ttl=60).until(NAME, old) is None


@pytest.mark.parametrize("masters", [[], [""], ["a", ""]])
def test_an_empty_key_signs_nothing(masters: list[str]) -> None:
    with pytest.raises(ValueError, match="without a key"):
        Links(masters, ttl=60)


GOOD = Links(["master"], ttl=60).sign(NAME, 1790000000)


@given(
    st.one_of(
        st.text(max_size=80),
        st.integers(0, len(GOOD) - 1).flatmap(
            lambda at: st.characters().map(lambda letter: GOOD[:at] + letter + GOOD[at + 1 :])
        ),
        st.sampled_from(
            ["", "&", GOOD + "&", "&" + GOOD, GOOD + "=", GOOD[:-1], GOOD.replace("=1", "=01"), GOOD + "\n"]
        ),
    )
)
def test_nothing_but_the_link_itself_is_good(query: str) -> None:
    assert (Links(["master"], ttl=60).until(NAME, query) is not None) == (query == GOOD)
