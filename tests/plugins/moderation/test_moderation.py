"""The plugin as settings make it: what is refused, marked, noted or let through, and when."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from plugins.moderation import Moderation
from plugins.moderation.audit import ALLOWED, SPACE
from plugins.moderation.check import Check
from plugins.moderation.verdict import About, Matter
from proxy.api import CALLER, Caller, ProxyError, Text, Unseen
from proxy.core.config import ConfigError, load
from proxy.testkit import Asked, Stage, answer

DRAW = "POST /v1/images/generations"
MARKED = {"model": "gpt-image-2", "prompt": "an oak, flag:violence"}
CLEAN = {"model": "gpt-image-2", "prompt": "an oak"}
ELSEWHERE = {
    "model": "gpt-5",
    "messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}}]}
    ],
}
MAIN = answer(json={"created": 1, "data": [{"b64_json": "aGVsbG8="}]})


def judged(asked: Asked, wait: asyncio.Event | None = None) -> Any:
    """What OpenAI's moderations would say, of markers."""
    results = [
        {
            "flagged": (found := "flag:violence" in str(one)),
            "categories": {"violence": found},
            "category_scores": {"violence": 0.9 if found else 0.1},
        }
        for one in asked.json()["input"]
    ]
    return answer(json={"id": "modr-1", "model": "omni", "results": results}, wait=wait)


def stage(*, judge: Any = judged, main: Any = MAIN, **settings: Any) -> Stage:
    return Stage(Moderation(upstream=("judge",), **settings), upstream={"main": main, "judge": judge})


def went_to(on: Stage) -> list[str]:
    return [asked.upstream for asked in on.asked]


async def rows(on: Stage, many: int) -> list[dict[str, Any]]:
    """What was noted, the newest first, once it is so many."""
    async with asyncio.timeout(10):
        while len(found := await on.services.store.items(SPACE)) < many:
            await asyncio.sleep(0)  # rows are written aside
    return [orjson.loads(row) for _, row in found]


async def test_what_is_found_wanting_never_leaves() -> None:
    async with stage() as on:
        played = await on.play(DRAW, json=MARKED)
        assert played.status == 400
        assert played.error["code"] == "content_policy_violation"
        assert played.error["type"] == "image_generation_user_error"
        assert played.error["moderation_details"] == {"moderation_stage": "input", "categories": ["violence"]}
        assert played.headers.get("x-should-retry") == "false"
        assert went_to(on) == ["judge"]
        assert (await on.play(DRAW, json=CLEAN)).status == 200
        (row,) = await rows(on, 1)
        assert row["decision"] == "blocked" and row["scores"] == {"violence": 0.9} and row["model"] == "gpt-image-2"


async def test_flagged_goes_on_with_a_header_and_a_row() -> None:
    async with stage(mode="flag") as on:
        played = await on.play(DRAW, json=MARKED)
        assert played.status == 200 and played.headers.get("x-framegate-moderation") == "flagged=violence"
        assert (await on.play(DRAW, json=CLEAN)).headers.get("x-framegate-moderation") is None
        assert [row["decision"] for row in await rows(on, 1)] == ["flagged"]


async def test_shadow_delays_nothing_and_only_notes() -> None:
    wait = asyncio.Event()

    async with stage(mode="shadow", judge=partial(judged, wait=wait)) as on:
        playing = on.begin(DRAW, json=MARKED)
        await on.reached(2)
        played = await playing
        assert played.status == 200 and played.headers.get("x-framegate-moderation") is None
        wait.set()
        assert [row["decision"] for row in await rows(on, 1)] == ["flagged"]


@pytest.mark.parametrize("stop", ["refuse", "allow"])
async def test_what_cannot_be_seen_is_refused_or_told_of(stop: Any) -> None:
    async with stage(on_unseen=stop) as on:
        played = await on.play("POST /v1/chat/completions", json=ELSEWHERE)
        (row,) = await rows(on, 1)
        assert row["unseen"] == ["messages[0].content[0].image_url.url: a picture elsewhere, fetched by the upstream"]
        if stop == "refuse":
            assert played.status == 400 and played.error["code"] == "invalid_request"
            assert played.error["param"] == "messages[0].content[0].image_url.url" and went_to(on) == []
            assert row["decision"] == "blocked"
        else:
            assert played.status == 200 and played.headers.get("x-framegate-moderation") == "unseen"
            assert went_to(on) == ["main"] and row["decision"] == "unseen"


@pytest.mark.parametrize("stop", ["refuse", "allow"])
async def test_what_nobody_judged_is_refused_or_told_of(stop: Any) -> None:
    async with stage(on_error=stop, judge=answer(500, body=b"<html>")) as on:
        playing = on.begin(DRAW, json=CLEAN)
        await on.reached(1)
        on.clock.turn(1)  # it is asked once more
        played = await playing
        (row,) = await rows(on, 1)
        assert row["failed"] == ["judge: answered 500"]
        if stop == "refuse":
            assert played.status == 503 and played.error["code"] == "moderation_unavailable"
            assert played.headers.get("x-should-retry") == "false" and went_to(on) == ["judge", "judge"]
        else:
            assert played.status == 200 and played.headers.get("x-framegate-moderation") == "unchecked"


async def test_what_a_person_has_allowed_passes_from_then_on() -> None:
    async with stage() as on:
        assert (await on.play(DRAW, json=MARKED)).status == 400
        (row,) = await rows(on, 1)
        await on.services.store.put(ALLOWED, row["hash"], b"{}")
        on.clock.turn(2)
        assert (await on.play(DRAW, json=MARKED)).status == 200
        assert (await rows(on, 2))[0]["decision"] == "allowed"
        assert (await on.play(DRAW, json={**MARKED, "prompt": "an elm, flag:violence"})).status == 400


async def test_beside_the_upstream_the_answer_waits_for_the_verdict() -> None:
    wait = asyncio.Event()

    async with stage(timing="parallel", judge=partial(judged, wait=wait)) as on:
        for question, status in ((CLEAN, 200), (MARKED, 400)):
            wait.clear()
            before = len(on.asked)
            playing = on.begin(DRAW, json=question)
            await on.reached(before + 2)
            wait.set()
            assert (await playing).status == status
        assert sorted(went_to(on)) == ["judge", "judge", "main", "main"]


async def test_the_same_again_asks_nobody() -> None:
    async with stage() as on:
        for _ in range(3):
            assert (await on.play(DRAW, json=CLEAN)).status == 200
        assert went_to(on) == ["judge", "main", "main", "main"]


async def test_the_very_same_is_believed_no_longer_than_its_verdict() -> None:
    async with stage(cache=60) as on:
        for seconds, asked in ((0, 1), (59, 1), (1, 2), (59, 2)):
            on.clock.turn(seconds)
            assert (await on.play(DRAW, json=CLEAN)).status == 200
            assert went_to(on).count("judge") == asked


async def test_the_same_bytes_said_to_be_something_else_are_read_anew() -> None:
    async with stage() as on:
        body = orjson.dumps(CLEAN)
        for _ in range(2):
            assert (await on.play(DRAW, body=body, headers={"content-type": "application/json"})).status == 200
        for headers, status in (
            ({"content-type": "application/json; charset=utf-16"}, 415),
            ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
            ({"content-type": "text/plain"}, 415),
        ):
            assert (await on.play(DRAW, body=body, headers=headers)).status == status
        assert (await on.play("POST /v1/images/Generations", body=body, headers={})).status == 400


async def test_what_was_refused_is_refused_again() -> None:
    async with stage() as on:
        for _ in range(3):
            assert (await on.play(DRAW, json=MARKED)).status == 400
        assert went_to(on) == ["judge"] and len(await rows(on, 3)) == 3


async def test_a_judge_that_knows_people_is_asked_about_each() -> None:
    def knows(asked: Asked) -> Any:
        return answer(json={"decision": "block" if asked.json()["caller"] == "ben" else "allow"})

    plugin = Moderation(hook="judge")
    async with Stage(plugin, upstream={"main": MAIN, "judge": knows}) as on:
        for name, status in (("ann", 200), ("ben", 400), ("ann", 200), ("ben", 400)):
            assert (await on.play(DRAW, json=CLEAN, facts={CALLER: Caller(name)})).status == status
        assert went_to(on) == ["judge", "main", "judge", "main"]


async def test_who_asks_for_a_verdict_gets_one() -> None:
    async with stage(main=answer(json={"results": []})) as on:
        assert (await on.play("POST /v1/moderations", json={"input": "flag:violence"})).status == 200
        assert went_to(on) == ["main"]


async def test_a_prompt_is_kept_only_if_that_is_wanted() -> None:
    for keep in (False, True):
        async with stage(keep_prompts=keep) as on:
            await on.play(DRAW, json=MARKED)
            (row,) = await rows(on, 1)
            assert row["prompt_kept"] is keep


async def test_what_is_unseen_again_and_again_is_noted_once() -> None:
    plugin = Moderation(upstream=("judge",), on_unseen="allow")
    async with Stage(plugin, upstream={"main": MAIN, "judge": judged}) as on:
        check = Check(plugin, (await on.play()).exchange, About("socket"))
        for what in ("speech", "speech", "a binary message", "speech"):
            await check.passes(Matter("input", unseen=(Unseen("", what),)))
        with pytest.raises(ProxyError):
            await check.passes(Matter("input", (Text("", "flag:violence", "user"),), (), (Unseen("", "speech"),)))
        assert [row["decision"] for row in await rows(on, 3)] == ["blocked", "unseen", "unseen"]


async def test_rules_alone_need_nobody(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\ncategory = "trees"\nwords = ["oak"]\n')
    async with Stage(Moderation(rules=(rules,)), upstream=MAIN) as on:
        played = await on.play(DRAW, json=CLEAN)
        assert played.error["moderation_details"]["categories"] == ["trees"] and "oak" not in str(played.json())
        assert (await on.play(DRAW, json={**CLEAN, "prompt": "an elm"})).status == 200


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "nobody is there to judge"),
        ('upstream = "opnai"', "no such upstream 'opnai'; did you mean 'openai'?"),
        ('hook = "openai"', "would ask it for answers as well; say aside = true"),
        ('upstream = "openai"\nthresholds = { violence = -1 }', "the threshold for 'violence' is a score from 0 to 1"),
        ('upstream = "openai"\ntimeout = "0s"', "longer than nothing"),
        ('upstream = "openai"\nmode = "shadow"\noutputs = true', "outputs are held until they are judged"),
        ('rules = "rules.toml"', "rules.toml can't be read: No such file or directory"),
    ],
)
def test_what_cannot_work_is_told_before_it_serves(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "framegate.toml"
    path.write_text(f'[upstreams.openai]\nbase_url = "http://127.0.0.1:9/v1"\n[plugins.moderation]\n{table}\n')
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(path, {})


def test_the_page_names_every_setting_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs/moderation.md").read_text()
    table = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert table == [one.name for one in fields(Moderation)]


def test_without_a_table_it_is_in_no_usual_chain(tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    upstream = '[upstreams.openai]\nbase_url = "http://127.0.0.1:9/v1"\n'
    path.write_text(upstream)
    assert "moderation" not in load(path, {}).routes[0].chain
    path.write_text(upstream + '[plugins.moderation]\nupstream = "openai"\n')
    assert load(path, {}).routes[0].chain == ("keys", "quota", "moderation", "rehost", "failover")
