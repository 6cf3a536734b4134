from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from plugins.moderation.asking import LONGEST, MOST_TEXTS, OpenAI, batches, pieces, result
from plugins.moderation.cache import Cache
from plugins.moderation.verdict import Scores, Unavailable, Unreadable
from proxy.api import UpstreamError
from proxy.sandbox import Sandbox
from proxy.testkit import Stage, answer
from proxy.testkit.script import Asked, Reply

from .judging import ABOUT, HARMLESS, KEY, Seen, backend, digest, harmless, lent, matter, paused, picture

# --- what is asked


async def test_finds_what_is_marked_in_texts_and_pictures_over_real_sockets() -> None:
    async with Sandbox() as sandbox, lent(sandbox.url) as services:
        judge = OpenAI("openai", services, model="omni-moderation-latest", timeout=30, digest=digest)
        asked = matter("tea", "flag:hate", pictures=[Seen("image", [picture("violence")])])
        found = await judge.judge(asked, ABOUT)
        clean = await judge.judge(matter("tea", pictures=[Seen("image", [picture()])]), ABOUT)
        await sandbox.idle()
    assert found.flagged == {"hate", "violence"} and found.scores["hate"] > 0.9 < found.scores["violence"]
    assert not clean.flagged and len(clean.scores) == 13 and max(clean.scores.values()) < 0.1
    sent = {name.lower(): value for name, value in sandbox.records[0].headers}
    assert int(sent.pop(b"content-length")) == sandbox.records[0].length
    assert sent.keys() >= {b"host", b"cdn-loop"}  # the wire's, and the house's mark against loops
    assert {name: value for name, value in sent.items() if name not in (b"host", b"cdn-loop")} == {
        b"content-type": b"application/json",
        b"accept": b"application/json",
        b"accept-encoding": b"identity",
        b"authorization": f"Bearer {KEY}".encode(),
    }


async def test_all_texts_that_fit_are_one_call_and_each_picture_is_one() -> None:
    async with Stage(upstream=harmless) as stage:
        seen = Seen("image", [b"png one", b"png two" * 100_000])
        await backend(stage.services).judge(matter("a", "b", "c", pictures=[seen]), ABOUT)
    assert {asked.target for asked in stage.asked} == {"/v1/moderations"}
    assert [asked.json() for asked in stage.asked] == [
        {"model": "omni-moderation-latest", "input": ["a", "b", "c"]},
        *[
            {
                "model": "omni-moderation-latest",
                "input": [
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64," + base64.b64encode(data).decode()},
                    }
                ],
            }
            for data in seen.data
        ],
    ]


async def test_a_marker_that_a_cut_would_part_is_found() -> None:
    async with Sandbox() as sandbox, lent(sandbox.url) as services:
        judge = OpenAI("openai", services, model="omni-moderation-latest", timeout=30, digest=digest)
        text = "a" * (LONGEST - 5) + "flag:violence " + "b" * LONGEST
        assert (await judge.judge(matter(text), ABOUT)).flagged == {"violence"}


@pytest.mark.parametrize("length", [1, LONGEST - 1, LONGEST, LONGEST + 1, 199_000, 199_001, 3 * LONGEST])
def test_pieces_hold_all_of_a_text_and_none_is_too_long(length: int) -> None:
    text = "".join(chr(0x4E00 + at * 7919 % 20_000) for at in range(length))
    cut = list(pieces(text))
    whole = cut[0] + "".join(piece[1_000:] for piece in cut[1:])
    assert whole == text and max(map(len, cut)) <= LONGEST


def test_calls_are_bounded_by_count_and_by_bytes() -> None:
    small = {b"%d" % at: "x" for at in range(70)}
    large = {b"%d" % at: "\U0001f6ab" * 50_000 for at in range(5)}
    assert [len(batch) for batch in batches(small)] == [MOST_TEXTS, MOST_TEXTS, 6]
    assert [len(batch) for batch in batches(large)] == [2, 2, 1]
    assert [key for batch in batches(small) for key in batch] == list(small)


async def test_the_same_text_is_asked_about_once_and_blank_ones_are_not() -> None:
    async with Stage(upstream=harmless) as stage:
        await backend(stage.services).judge(matter("a", " \n", "", "a", "\u200b"), ABOUT)
    assert [asked.json()["input"] for asked in stage.asked] == [["a", "\u200b"]]


async def test_half_a_surrogate_pair_is_no_way_past() -> None:
    async with Stage(upstream=harmless) as stage:
        await backend(stage.services).judge(matter("a\ud800b"), ABOUT)
    assert stage.asked[0].json()["input"] == ["a?b"]


async def test_nothing_is_asked_where_there_is_nothing_to_judge() -> None:
    async with Stage() as stage:
        assert await backend(stage.services).judge(matter(), ABOUT) == Scores()
    assert stage.asked == []


async def test_old_models_see_no_pictures_and_say_so() -> None:
    async with Stage(upstream=harmless) as stage:
        judge = backend(stage.services, model="text-moderation-latest")
        seen = Seen("image", [b"png"])
        await judge.judge(matter("a", pictures=[seen]), ABOUT)
    assert not judge.sees and seen.asked == 0 and len(stage.asked) == 1


async def test_the_highest_score_over_all_counts() -> None:
    def told(flagged: bool, *scores: float) -> dict[str, Any]:
        names = ("hate", "violence")
        return {
            "flagged": flagged,
            "categories": dict.fromkeys(names, flagged),
            "category_scores": dict(zip(names, scores, strict=True)),
        }

    results = [told(False, 0.2, 0.3), told(True, 0.6, 0.1), told(False, 0.1, 0.4)]
    async with Stage(upstream=answer(json={"results": results})) as stage:
        found = await backend(stage.services).judge(matter("a", "b", "c"), ABOUT)
    assert found == Scores({"hate": 0.6, "violence": 0.4}, frozenset({"hate", "violence"}))


async def test_a_picture_that_nobody_can_see_is_said_to_be_one() -> None:
    async with Stage(upstream=harmless) as stage:
        judge = backend(stage.services)
        with pytest.raises(Unreadable, match="too many pixels"):
            await judge.judge(matter("a", pictures=[Seen("image", [b"x"], why="too many pixels")]), ABOUT)


async def test_of_a_picture_that_shows_nothing_nothing_is_said_or_kept() -> None:
    async with Stage(upstream=harmless) as stage:
        judge = backend(stage.services, cache=Cache(stage.clock, seconds=600))
        seen = Seen("image", [])
        assert await judge.judge(matter(pictures=[seen]), ABOUT) == Scores()
        await judge.judge(matter("a", pictures=[seen, Seen("image[1]", [b"png"])]), ABOUT)
    assert (seen.asked, len(stage.asked)) == (2, 2)


async def test_four_calls_at_once_and_no_more() -> None:
    hold, running, most = asyncio.Event(), 0, 0

    async def slow(asked: Asked) -> Reply:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 4:
            hold.set()
        await hold.wait()
        await asyncio.sleep(0)
        running -= 1
        return harmless(asked)

    async with Stage(upstream=slow) as stage:
        many = [Seen(f"image[{at}]", [b"%d" % at]) for at in range(11)]
        await backend(stage.services).judge(matter("a", pictures=many), ABOUT)
    assert (most, len(stage.asked)) == (4, 12)


# --- what is kept


async def test_of_a_long_chat_only_the_new_turn_is_asked_about() -> None:
    def hates(asked: Asked) -> Reply:
        given = asked.json()["input"]
        one = {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.9}}
        return answer(json={"results": [one if text == "bad" else HARMLESS for text in given]})

    async with Stage(upstream=hates) as stage:
        cache: Cache[bytes, Scores] = Cache(stage.clock, seconds=600)
        judge = backend(stage.services, cache=cache)
        seen = Seen("image", [b"png"])
        await judge.judge(matter("a", "bad", pictures=[seen]), ABOUT)
        again = await judge.judge(matter("a", "bad", "c", pictures=[Seen("image[1]", [b"png"])]), ABOUT)
        other = backend(stage.services, model="omni-moderation-2024-09-26", cache=cache)
        await other.judge(matter("a"), ABOUT)
        stage.clock.turn(600)
        await judge.judge(matter("a"), ABOUT)
    given = [asked.json()["input"] for asked in stage.asked]
    assert [one for one in given if isinstance(one[0], str)] == [["a", "bad"], ["c"], ["a"], ["a"]]
    assert len(given) == 5 and again.flagged == {"hate"} and again.scores["hate"] == 0.9


async def test_what_was_judged_is_believed_while_the_backend_is_down() -> None:
    down = UpstreamError("connection refused", sent=False)
    told: list[Any] = [harmless, *[down] * 10]
    async with Stage(upstream=told) as stage:
        judge = backend(stage.services, cache=Cache(stage.clock, seconds=600))
        await judge.judge(matter("a"), ABOUT)
        for _ in range(5):
            waiting = asyncio.ensure_future(judge.judge(matter("b"), ABOUT))
            await paused(stage)
            with pytest.raises(Unavailable, match="can't be reached"):
                await waiting
            await judge.judge(matter("a"), ABOUT)  # costs nothing, and says nothing of the backend
        with pytest.raises(Unavailable, match="left alone"):
            await judge.judge(matter("b"), ABOUT)
        await judge.judge(matter("a"), ABOUT)
    assert len(stage.asked) == 11


# --- what is answered

GOOD = {
    "flagged": True,
    "categories": {"hate": True, "illicit": None},
    "category_scores": {"hate": 0.9, "illicit": None},
}
BAD = {
    "no object": [],
    "empty": {},
    "flagged missing": {k: v for k, v in GOOD.items() if k != "flagged"},
    "flagged null": {**GOOD, "flagged": None},
    "flagged a number": {**GOOD, "flagged": 0},
    "flagged a word": {**GOOD, "flagged": "false"},
    "categories missing": {k: v for k, v in GOOD.items() if k != "categories"},
    "categories a list": {**GOOD, "categories": ["hate"]},
    "category a number": {**GOOD, "categories": {"hate": 1}},
    "category a word": {**GOOD, "categories": {"hate": "no"}},
    "scores missing": {k: v for k, v in GOOD.items() if k != "category_scores"},
    "scores null": {**GOOD, "category_scores": None},
    "score over one": {**GOOD, "category_scores": {"hate": 1.01}},
    "score below nothing": {**GOOD, "category_scores": {"hate": -0.1}},
    "score a word": {**GOOD, "category_scores": {"hate": "0.9"}},
    "score a truth": {**GOOD, "category_scores": {"hate": True}},
    "a name for headers": {**GOOD, "category_scores": {"hate\r\nx-evil: 1": 0.1}},
    "a name without end": {**GOOD, "categories": {"x" * 65: True}},
    "too many names": {**GOOD, "categories": dict.fromkeys(map(str, range(101)), False)},
}


@pytest.mark.parametrize("told", BAD.values(), ids=BAD.keys())
def test_what_is_not_plainly_a_verdict_is_none(told: Any) -> None:
    with pytest.raises(Unavailable, match=r"^its answer "):
        result(told)


def test_reads_a_verdict() -> None:
    assert result(GOOD) == Scores({"hate": 0.9}, frozenset({"hate"}))
    assert result({**GOOD, "flagged": False, "categories": {"hate": False}}) == Scores({"hate": 0.9})


def test_what_is_flagged_is_flagged_however_it_is_said() -> None:
    """So that neither a missing name nor a missing score, nor a sum that is wrong, lets it through."""
    assert result({**GOOD, "flagged": False}).flagged == {"hate"}
    assert result({"flagged": True, "categories": {}, "category_scores": {}}) == Scores(
        {"other": 1.0}, frozenset({"other"})
    )
    assert result({**GOOD, "category_scores": {}}).scores == {"hate": 1.0}
