from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from plugins.moderation.rules import Rules, load
from plugins.moderation.verdict import About, Matter, Scores, Unavailable
from proxy.testkit import TurnedClock
from proxy.testkit.watch import LogKept

from .rule_cases import HARD, SLOW, said

ABOUT = About("1")
SECRET = "the words of the prompt"


class House:
    """Rules of one file at work."""

    def __init__(self, folder: Path, toml: str) -> None:
        self.path = folder / "rules.toml"
        self.path.write_text(toml)
        self.clock = TurnedClock()
        self.log = LogKept()
        self.rules = Rules([self.path], self.clock, self.log)

    async def judge(self, *texts: str) -> set[str]:
        """The categories that these texts are found in."""
        return set((await self.rules.judge(Matter("input", said(*texts)), ABOUT)).flagged)

    async def later(self, *texts: str) -> set[str]:
        """The same when it is time to look at the files."""
        self.clock.turn(1.0)
        return await self.judge(*texts)

    def replace(self, toml: str) -> None:
        """Put another file in its place, as careful editors do."""
        other = self.path.with_suffix(".new")
        other.write_text(toml)
        other.rename(self.path)

    def told(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of that event."""
        return [line for line in self.log.lines if line["event"] == event]


def bad(words: str, category: str = "bad") -> str:
    """A rule."""
    return f'[[rule]]\ncategory = "{category}"\nwords = {words.split()!r}\n'


@asynccontextmanager
async def house(folder: Path, toml: str) -> AsyncIterator[House]:
    """Rules at work, and the threads that they had gone at the end."""
    made = House(folder, toml)
    async with made.rules.running():
        yield made


async def test_judges_texts_by_the_rules_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text(bad("boom", "worse"))
    rules = Rules([tmp_path / "rules.toml", tmp_path / "more.toml"], TurnedClock(), LogKept())
    (tmp_path / "rules.toml").write_text(bad("bomb"))
    async with rules.running():
        scores = await rules.judge(Matter("input", said("a bomb", "goes boom")), ABOUT)
        assert scores == Scores({"bad": 1.0, "worse": 1.0}, frozenset({"bad", "worse"}))
        assert await rules.judge(Matter("input", said("peace")), ABOUT) == Scores()
        assert await rules.judge(Matter("output"), ABOUT) == Scores()
    assert (rules.name, rules.sees) == ("rules", False)


@pytest.mark.parametrize(
    ("toml", "why"), [(None, "No such file or directory"), (bad("!"), "rule 1 of rules.toml: words:")]
)
async def test_does_not_start_with_a_file_that_is_missing_or_wrong(tmp_path: Path, toml: str | None, why: str) -> None:
    path = tmp_path / "rules.toml"
    if toml is not None:
        path.write_text(toml)
    rules = Rules([path], TurnedClock(), LogKept())
    with pytest.raises(ValueError, match=why):
        async with rules.running():
            raise AssertionError("it runs")
    with pytest.raises(ValueError, match=why):
        load([path])


async def test_all_that_is_wrong_with_all_files_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(bad("!"))
    (tmp_path / "two.toml").write_text("word = 1")
    with pytest.raises(ValueError, match=r"rule 1 of one\.toml") as raised:
        load([tmp_path / "one.toml", tmp_path / "two.toml", tmp_path / "three.toml"])
    assert len(str(raised.value).split("\n")) == 3


async def test_a_changed_file_is_read_again_within_a_second(tmp_path: Path) -> None:
    async with house(tmp_path, bad("bomb")) as at:
        before = at.rules.version
        at.replace(bad("boom"))
        assert await at.judge("bomb boom") == {"bad"} and at.rules.version == before  # nobody has looked yet
        assert await at.judge("boom") == set()
        assert await at.later("boom") == {"bad"}
        assert await at.judge("bomb") == set()
        assert at.rules.version != before
        at.path.write_text(bad("bomb tnt"))  # in its place
        assert await at.later("tnt") == {"bad"}
        at.path.write_text(bad("boom"))
        await at.later()
        os.utime(at.path, ns=(1, 1))
        loads = len(at.told("rules_loaded"))
        assert await at.later("boom") == {"bad"}
        assert len(at.told("rules_loaded")) == loads  # the same rules are no news
    assert at.told("rules_loaded")[0].items() >= {"rules": 1, "words": 1, "patterns": 0}.items()
    assert at.told("rules_not_loaded") == []


async def test_a_broken_file_leaves_the_rules_and_is_told_of_once(tmp_path: Path) -> None:
    async with house(tmp_path, bad("bomb")) as at:
        version = at.rules.version
        at.replace(bad("boom") + "score = 7")
        for _ in range(3):
            assert await at.later("bomb") == {"bad"}
        assert await at.judge("boom") == set() and at.rules.version == version
        (line,) = at.told("rules_not_loaded")
        assert line["level"] == "error" and line["file"] == str(at.path)
        assert line["why"] == "rule 1 of rules.toml: score 7 must be a number over 0, 1 at the most"
        at.replace("[[")
        assert await at.later("bomb") == {"bad"}
        assert len(at.told("rules_not_loaded")) == 2  # another file, another line
        at.replace(bad("boom"))
        assert await at.later("boom") == {"bad"}


async def test_a_vanished_file_leaves_the_rules_and_may_come_back(tmp_path: Path) -> None:
    async with house(tmp_path, bad("bomb")) as at:
        at.path.unlink()
        for _ in range(3):
            assert await at.later("bomb") == {"bad"}
        (line,) = at.told("rules_not_loaded")
        assert line["why"] == f"{at.path} can't be read: No such file or directory"
        at.path.write_text(bad("boom"))
        assert await at.later("boom") == {"bad"}
        assert await at.judge("bomb") == set()


async def test_whoever_comes_while_files_are_looked_at_is_judged_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, bad("bomb")) as at:
        at.path.unlink()
        os.mkfifo(at.path)  # reading it takes until somebody writes
        at.clock.turn(1.0)
        first = asyncio.create_task(at.judge("boom"))
        await asyncio.sleep(0)
        assert await at.judge("bomb") == {"bad"}
        assert not first.done()
        await asyncio.to_thread(at.path.write_text, bad("boom"))
        assert await first == {"bad"}


async def test_a_pattern_without_end_is_no_verdict_and_names_the_rule(tmp_path: Path) -> None:
    toml = f"[[rule]]\ncategory = \"slow\"\npatterns = ['{SLOW}']\n" + bad("bomb")
    async with house(tmp_path, toml) as at:
        for _ in range(3):
            with pytest.raises(Unavailable, match=r"^a rule took too long: rule 1 of rules\.toml$"):
                await at.judge(SECRET, HARD)
        assert await at.judge("fine") == set()
        assert await at.judge(HARD, "a bomb") == {"bad"}
        assert await at.judge("xxxy") == {"slow"}
        (line,) = at.told("rule_took_too_long")
        assert line["rule"] == "rule 1 of rules.toml" and line["level"] == "warning"
        at.clock.turn(60)
        with pytest.raises(Unavailable):
            await at.judge(HARD)
        assert len(at.told("rule_took_too_long")) == 2
    assert SECRET not in str(at.log.lines) and HARD not in str(at.log.lines)


async def test_the_loop_turns_while_a_long_text_is_judged(tmp_path: Path) -> None:
    toml = bad("bomb") + "patterns = ['boo+m']\n"
    async with house(tmp_path, toml) as at:
        turns = 0
        judging = asyncio.create_task(at.judge("\u043e lorem ipsum" * 40_000 + " bomb"))
        while not judging.done():
            await asyncio.sleep(0)
            turns += 1
        assert await judging == {"bad"} and turns > 20


async def test_who_leaves_has_his_search_end(tmp_path: Path) -> None:
    toml = f"[[rule]]\ncategory = \"slow\"\npatterns = ['{SLOW}']\n" + bad("bomb")
    async with house(tmp_path, toml) as at:
        calm = asyncio.create_task(at.judge(*["\u044f " * 20_000] * 4000))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        calm.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calm
        assert await at.judge("xxy") == {"slow"}
    for thread in threading.enumerate():
        if thread.name.startswith("moderation-rules"):
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()
