"""Every shape of a request, with a marker in each text and in each picture that it has, and with none.

The shapes are those that clients have sent (tests/openai/requests.jsonl). What is marked is refused and nothing of it
leaves; what is clean arrives to the byte; what nobody can look at is refused, unless the operator wants it let through.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.openai.asking import RECORDED

from .house import Moderating, blocked, error, moderating
from .placing import Place, placed, places

pytestmark = pytest.mark.asyncio(loop_scope="module")
LINES: list[dict[str, Any]] = [orjson.loads(line) for line in RECORDED.read_bytes().splitlines()]
OPENING = [line for line in LINES if line["method"] == "GET" and line["expected"].get("paid")]  # of sockets
# Where callers are known an escaped slash may not stand so early in a path; see tests/wire/test_paths.py.
SPLIT = [line for line in LINES if "%2F" in line["target"]]
WANTED = [line for line in LINES if line["expected"]["kind"] == "moderation"]
ASKED = [line for line in LINES if line not in (*OPENING, *SPLIT, *WANTED)]
CASES = [(line, place) for line in ASKED for place in places(line)]
NAMES = [f"{LINES.index(line)}-{line['by']}-{line['target']}-{place}" for line, place in CASES]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict() -> AsyncIterator[Moderating]:
    async with moderating() as house:
        yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lenient() -> AsyncIterator[Moderating]:
    async with moderating('on_unseen = "allow"') as house:
        yield house


async def test_there_are_enough_places_of_each_kind() -> None:
    kinds = [place.kind for _, place in CASES]
    assert kinds.count("clean") == len(ASKED) >= 140
    assert (len(OPENING), len(SPLIT), len(WANTED)) == (3, 1, 3)
    assert kinds.count("text") >= 130 and kinds.count("picture") >= 60


@pytest.mark.parametrize(("line", "place"), CASES, ids=NAMES)
async def test_what_is_marked_stays_and_what_is_clean_arrives(
    line: dict[str, Any], place: Place, strict: Moderating, lenient: Moderating
) -> None:
    unseen = line["expected"].get("unseen", ())
    house = lenient if unseen else strict
    body, before = placed(line, place), len(house.upstream.records)
    answer = await house.ask(line["target"], body, line["type"], method=line["method"])
    left = await house.left(before)
    if place.kind == "clean":
        assert [record.sha256 for record in left] == [hashlib.sha256(body).hexdigest()], answer
        assert left[0].whole and answer.status == 200
    else:
        assert blocked(answer)
        assert left == []


UNSEEN = [(line, place) for line, place in CASES if line["expected"].get("unseen")]


@pytest.mark.parametrize(
    ("line", "place"), UNSEEN, ids=[name for name, case in zip(NAMES, CASES, strict=True) if case in UNSEEN]
)
async def test_what_nobody_can_look_at_is_refused_by_its_place(
    line: dict[str, Any], place: Place, strict: Moderating
) -> None:
    before = len(strict.upstream.records)
    answer = await strict.ask(line["target"], placed(line, place), line["type"], method=line["method"])
    assert await strict.left(before) == []
    if place.kind != "clean" and error(answer)["code"] == "content_policy_violation":
        assert blocked(answer)
        return
    said = error(answer)
    assert (answer.status, said["type"]) == (400, "invalid_request_error"), said
    paths = [path or None for path, _ in line["expected"]["unseen"]]
    assert said["param"] in paths, said


@pytest.mark.parametrize("line", WANTED, ids=[line["target"] for line in WANTED])
async def test_who_asks_for_a_verdict_gets_one(line: dict[str, Any], strict: Moderating) -> None:
    body = placed(line, places(line)[1])
    before = len(strict.upstream.records), len(strict.judge.records)
    assert b"flag:violence" in body
    assert (await strict.ask(line["target"], body, line["type"])).status == 200
    (record,) = await strict.left(before[0])
    assert record.sha256 == hashlib.sha256(body).hexdigest()
    assert len(strict.judge.records) == before[1]
