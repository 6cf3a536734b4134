"""All backends together: who is asked, what counts as too much, and what nobody could look at."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest

from plugins.moderation.cache import Cache
from plugins.moderation.judge import UNWATCHED, Judge
from plugins.moderation.verdict import About, Matter, Scores, Unavailable, Unreadable, View
from proxy.api import Text, Unseen
from proxy.testkit.clock import TurnedClock

ABOUT = About("x1")
WORDS = Matter("input", (Text("prompt", "an oak", "user"),))
CLEAN = Scores({"violence": 0.1})
FOUND = Scores({"violence": 0.9}, frozenset(("violence",)))


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, key=b"k").digest()


class Said:
    """A backend that says what it is told to say."""

    def __init__(self, name: str, says: Scores | Exception | None, *, sees: bool = True) -> None:
        self.name, self.says, self.sees, self.personal = name, says, sees, False
        self.version = "1"
        self.looked = 0
        self.asked: list[Matter] = []
        self.cancelled = False

    async def look(self) -> None:
        self.looked += 1

    async def judge(self, matter: Matter, about: About) -> Scores:
        self.asked.append(matter)
        for picture in matter.pictures:
            await picture.views()
        if self.says is None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        if isinstance(self.says, Exception):
            raise self.says
        assert self.says is not None
        return self.says


class Drawn:
    """A picture."""

    def __init__(self, path: str = "image", *, why: str = "") -> None:
        self.path, self.why = path, why
        self.digest = digest(path.encode())
        self.decoded = 0

    async def views(self) -> Sequence[View]:
        self.decoded += 1
        if self.why:
            raise Unreadable(self.why)
        return (View("png", b"pixels"),)


def judge(*backends: Said, timeout: float = 5.0, **settings: Any) -> Judge:
    return Judge(backends, timeout=timeout, digest=digest, **settings)


async def verdict(one: Judge, matter: Matter = WORDS) -> Any:
    return await one.judge(await one.key(matter), matter, ABOUT)


async def test_all_are_asked_and_one_that_finds_something_is_enough() -> None:
    a, b = Said("a", CLEAN), Said("b", FOUND)
    found = await verdict(judge(a, b))
    assert found.categories == ("violence",) and found.scores == {"violence": 0.9} and set(found.backends) == {"a", "b"}


async def test_the_first_that_answers_decides() -> None:
    a, b, c = Said("a", Unavailable("down")), Said("b", CLEAN), Said("c", FOUND)
    found = await verdict(judge(a, b, c, ask="first"))
    assert found.categories == () and found.backends == ("b",) and found.failed == () and not c.asked


async def test_where_the_last_one_fails_too_all_failures_are_told() -> None:
    found = await verdict(judge(Said("a", Unavailable("down")), Said("b", Unavailable("late")), ask="first"))
    assert found.failed == ("a: down", "b: late") and found.backends == ()


async def test_a_failure_among_all_is_told_beside_what_the_others_found() -> None:
    found = await verdict(judge(Said("a", Unavailable("down")), Said("b", FOUND)))
    assert found.failed == ("a: down",) and found.categories == ("violence",)


@pytest.mark.parametrize("ask", ["all", "first"])
async def test_who_is_late_is_cut_off(ask: Any) -> None:
    late = Said("late", None)
    found = await verdict(judge(late, Said("never", None), timeout=0.01, ask=ask))
    assert found.failed == ("late: it gave no answer in time", "never: it gave no answer in time") and late.cancelled


async def test_rules_come_first_and_what_they_find_is_enough() -> None:
    remote = Said("remote", CLEAN)
    found = await verdict(judge(remote, rules=Said("rules", Scores({"x": 1.0}, frozenset(("x",))), sees=False)))
    assert found.categories == ("x",) and not remote.asked
    found = await verdict(judge(remote, rules=Said("rules", Scores(), sees=False)))
    assert found.categories == () and found.backends == ("rules", "remote")


@pytest.mark.parametrize(
    ("threshold", "said", "over"),
    [
        (0.8, Scores({"violence": 0.79}, frozenset(("violence",))), ()),
        (0.8, Scores({"violence": 0.8}), ("violence",)),
        (1.1, FOUND, ()),
        (0.5, Scores({}, frozenset(("violence",))), ("violence",)),  # flagged without a score is as bad as can be
        (0.5, Scores({"hate": 0.9}), ()),
    ],
)
async def test_a_threshold_has_the_word_for_its_category(threshold: float, said: Scores, over: Any) -> None:
    found = await verdict(judge(Said("a", said), thresholds={"violence": threshold}))
    assert found.categories == over


async def test_a_picture_is_decoded_once_for_all_and_one_that_cannot_be_is_told() -> None:
    good, bad = Drawn("good"), Drawn("bad", why="it is damaged")
    found = await verdict(judge(Said("a", CLEAN), Said("b", CLEAN)), Matter("input", WORDS.texts, (good, bad)))
    assert good.decoded == bad.decoded == 1
    assert found.unseen == (Unseen("bad", "a picture that can't be looked at: it is damaged"),)
    assert found.categories == ()  # the rest was judged all the same


async def test_pictures_at_which_nobody_looks_are_told() -> None:
    seen = Matter("input", WORDS.texts, (Drawn(),))
    found = await verdict(judge(Said("a", CLEAN, sees=False)), seen)
    assert found.unseen == (Unseen("image", UNWATCHED),)
    assert (await verdict(judge(Said("a", CLEAN, sees=False), Said("b", CLEAN)), seen)).unseen == ()
    # With rules alone there is nobody who looks.
    assert (await verdict(judge(rules=Said("rules", Scores(), sees=False)), seen)).unseen != ()


async def test_the_same_is_not_asked_again_for_a_while_but_a_failure_is() -> None:
    clock = TurnedClock()
    a = Said("a", FOUND)
    one = judge(a, cache=Cache(clock, seconds=60))
    assert await verdict(one) == await verdict(one) and len(a.asked) == 1
    clock.turn(60)
    await verdict(one)
    assert len(a.asked) == 2
    a.says = Unavailable("down")
    clock.turn(60)
    await verdict(one)
    await verdict(one)
    assert len(a.asked) == 4


async def test_other_rules_make_another_verdict_of_what_was_judged_before() -> None:
    rules = Said("rules", Scores(), sees=False)
    one = judge(rules=rules, cache=Cache(TurnedClock(), seconds=60))
    await verdict(one)
    assert (await verdict(one)).categories == () and len(rules.asked) == 1 and rules.looked == 2
    rules.version, rules.says = "2", FOUND
    assert (await verdict(one)).categories == ("violence",)


@pytest.mark.parametrize(
    "other",
    [
        Matter("output", WORDS.texts),
        Matter("input", (Text("prompt", "an oa", "user"), Text("prompt", "k", "user"))),
        Matter("input", (Text("prompt", "an oak", "system"),)),
        Matter("input", (Text("prompt", "an oak ", "user"),)),
        Matter("input", WORDS.texts, (Drawn(),)),
        Matter("input", (*WORDS.texts, Text("x", "", "user"))),
    ],
)
async def test_what_differs_in_anything_has_another_key(other: Matter) -> None:
    one = judge(Said("a", CLEAN))
    assert await one.key(WORDS) != await one.key(other)


async def test_the_key_of_something_long_is_the_same_by_a_thread() -> None:
    one = judge(Said("a", CLEAN))
    long = Matter("input", (Text("prompt", "x" * (2**20 + 1), "user"),))
    assert await one.key(long) == await one.key(long)
    assert await one.key(Matter("input", (Text("prompt", "\ud800", "user"),)))  # half a pair is text as well


async def test_nothing_to_judge_asks_nobody() -> None:
    a = Said("a", FOUND)
    found = await verdict(judge(a), Matter("input", (), (), (Unseen("", "a file"),)))
    assert found.categories == () and not a.asked
