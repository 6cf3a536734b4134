from __future__ import annotations

import pytest

from plugins.moderation.cache import Cache
from proxy.testkit import TurnedClock


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


def test_believes_what_it_was_told_for_so_long_and_no_longer(clock: TurnedClock) -> None:
    cache: Cache[str, int] = Cache(clock, seconds=60)
    cache.put("a", 1)
    clock.turn(59)
    assert cache.get("a") == 1  # which makes it no younger
    clock.turn(1)
    assert cache.get("a") is None and len(cache) == 0


def test_what_is_told_again_is_young_again(clock: TurnedClock) -> None:
    cache: Cache[str, int] = Cache(clock, seconds=60)
    cache.put("a", 1)
    clock.turn(59)
    cache.put("a", 2)
    clock.turn(59)
    assert cache.get("a") == 2


def test_what_was_not_used_for_longest_makes_room(clock: TurnedClock) -> None:
    cache: Cache[str, int] = Cache(clock, seconds=60, entries=2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), len(cache)) == (1, None, 3, 2)


@pytest.mark.parametrize(("seconds", "entries"), [(0, 5), (60, 0)])
def test_a_cache_of_nothing_is_refused(clock: TurnedClock, seconds: float, entries: int) -> None:
    with pytest.raises(ValueError, match="leave it out"):
        Cache(clock, seconds=seconds, entries=entries)
