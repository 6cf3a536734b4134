"""Who judges is down, slow, at its limit, or talks nonsense: what is then done is what the operator said, in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from proxy.sandbox import Sandbox
from proxy.testkit import RawClient, ScriptedUpstream, TurnedClock

from .house import ANN, GENERATE, JUDGE, Moderating, blocked, error, moderating

pytestmark = pytest.mark.asyncio(loop_scope="module")
BAD = {"prompt": "a fox, flag:violence."}
FINE = {"prompt": "a fox"}
NOBODY = '[upstreams.judge]\nbase_url = "http://127.0.0.1:9/v1"\n'  # the port of `discard`, which nobody serves
WITHIN = 5.0  # seconds, on a busy machine, for a judgement that may take 300 ms
TIMEOUT = 'timeout = "300ms"'

FAULTS = (  # each is over at once
    "429=60",
    "429=none",
    "429-quota",
    "400-billing",
    "500",
    "503-overloaded",
    "502-html",
    "504-html",
    "task-200",
    "error-200",
    "code-429-in-200",
    "moderation-blocked",
    "redirect",
    "huge=2",
    "cut-headers",
    "cut-body",
    "cut-chunk",
    "wrong-length=long",
    "wrong-length=short",
    "reset",
    "early-refusal=401",
    "early-refusal=503,rst",
)
SLOW = ("slow-first-byte=30", "drip=1", "keepalive-blanks=30", "stall-midstream=30")
LOW = {"violence": 0.01}
FLAGS = {"violence": False}
RESULT: dict[str, Any] = {"flagged": False, "categories": FLAGS, "category_scores": LOW}
NONSENSE: dict[str, Any] = {  # 200, JSON, and no verdict
    "nothing": {},
    "null": None,
    "a list": [RESULT],
    "no results": {"results": []},
    "too many results": {"results": [RESULT, RESULT]},
    "a result that is null": {"results": [None]},
    "nothing in a result": {"results": [{}]},
    "no flag": {"results": [{"categories": FLAGS, "category_scores": LOW}]},
    "a flag in words": {"results": [{**RESULT, "flagged": "false"}]},
    "a flag that is null": {"results": [{**RESULT, "flagged": None}]},
    "no categories": {"results": [{"flagged": False, "category_scores": LOW}]},
    "categories in words": {"results": [{**RESULT, "categories": {"violence": "no"}}]},
    "a list of categories": {"results": [{**RESULT, "categories": ["violence"]}]},
    "no scores": {"results": [{"flagged": False, "categories": FLAGS}]},
    "a score in words": {"results": [{**RESULT, "category_scores": {"violence": "low"}}]},
    "a score above one": {"results": [{**RESULT, "category_scores": {"violence": 3}}]},
    "a score below nought": {"results": [{**RESULT, "category_scores": {"violence": -0.1}}]},
}


def answering(told: Any) -> bytes:
    body = json.dumps(told).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def judged_in_vain(house: Moderating, on_error: str, body: dict[str, Any] | None = None) -> None:
    """Ask; nobody could say anything, and what then was done is what was said."""
    loop = asyncio.get_running_loop()
    before, began = len(house.upstream.records), loop.time()
    answer = await house.ask(GENERATE, body or BAD)
    assert loop.time() - began < WITHIN
    if on_error == "allow":
        assert (answer.status, len(await house.left(before))) == (200, 1), answer
        return
    assert await house.left(before) == []
    said = error(answer)
    assert (answer.status, said["code"], said["type"]) == (
        503,
        "moderation_unavailable",
        "service_unavailable_error",
    ), said
    assert b"x-should-retry" in dict(answer.headers)


CLOCK = TurnedClock()


@pytest.fixture(autouse=True)
def rested() -> None:
    """What failed in an earlier test may be asked again."""
    CLOCK.turn(13)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["refuse", "allow"])
async def on_error(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(on_error: str) -> AsyncIterator[Moderating]:
    async with moderating(f'on_error = "{on_error}"\ncache = "0s"', clock=CLOCK) as house:
        yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(on_error: str) -> AsyncIterator[Moderating]:
    async with moderating(f'on_error = "{on_error}"\ncache = "0s"\n{TIMEOUT}', clock=CLOCK) as house:
        yield house


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_backend_that_fails(house: Moderating, fault: str, on_error: str) -> None:
    house.judge.fault(fault, times=None)
    await judged_in_vain(house, on_error)
    house.judge.clear()
    assert blocked(await house.ask(GENERATE, BAD))  # and is asked again as soon as it can answer
    assert (await house.ask(GENERATE, FINE)).status == 200


@pytest.mark.parametrize("fault", SLOW)
async def test_a_backend_that_is_slow(hasty: Moderating, fault: str, on_error: str) -> None:
    hasty.judge.fault(fault, times=None)
    await judged_in_vain(hasty, on_error)
    assert hasty.judge.records
    hasty.judge.clear()


async def test_a_backend_that_is_not_there(on_error: str) -> None:
    async with moderating(f'on_error = "{on_error}"', upstreams=NOBODY) as house:
        await judged_in_vain(house, on_error)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scripted(on_error: str) -> AsyncIterator[tuple[ScriptedUpstream, Moderating]]:
    async with ScriptedUpstream() as judge:
        upstreams = f'[upstreams.judge]\nbase_url = "{judge.url}"\n'
        async with moderating(f'on_error = "{on_error}"\ncache = "0s"', upstreams=upstreams, clock=CLOCK) as house:
            yield judge, house


@pytest.mark.parametrize("name", NONSENSE)
async def test_a_backend_that_talks_nonsense(
    scripted: tuple[ScriptedUpstream, Moderating], name: str, on_error: str
) -> None:
    judge, house = scripted
    judge.answer = answering(NONSENSE[name])
    before = len(judge.requests)
    await judged_in_vain(house, on_error)
    assert len(judge.requests) > before


async def test_the_answer_in_which_all_nonsense_differs_is_a_verdict(
    scripted: tuple[ScriptedUpstream, Moderating],
) -> None:
    judge, house = scripted
    judge.answer = answering({"results": [RESULT]})
    answer = await house.ask(GENERATE, FINE)
    assert (answer.status, answer.get(b"x-framegate-moderation")) == (200, None)


# --- several backends

SECOND = """
[upstreams.second]
base_url = "{second}"
api_key = "env:JUDGE"
"""


@pytest.mark.parametrize("fault", ["500", "slow-first-byte=30", "cut-body", "429=60"])
@pytest.mark.parametrize("ask", ["all", "first"])
async def test_of_two_backends_one_fails(ask: str, fault: str) -> None:
    settings = f'upstream = ["judge", "second"]\nask = "{ask}"\ntimeout = "1s"'
    async with Sandbox() as second:
        async with moderating(settings, upstreams=JUDGE + SECOND.replace("{second}", second.url)) as house:
            house.judge.fault(fault, times=None)
            if ask == "all" or not fault.startswith("slow"):  # else the first has used up all the time there was
                assert blocked(await house.ask(GENERATE, BAD))
                assert second.records
            answer = await house.ask(GENERATE, FINE)
            if ask == "first" and not fault.startswith("slow"):
                assert answer.status == 200
            else:  # one that should have judged has not
                assert (answer.status, error(answer)["code"]) == (503, "moderation_unavailable")
            assert len(await house.left()) == (answer.status == 200)


# --- when


async def test_one_that_fails_on_and_on_is_left_alone_for_a_while() -> None:
    clock = TurnedClock()
    async with moderating(clock=clock) as house:
        house.judge.fault("500", times=None)
        for number in range(12):
            await judged_in_vain(house, "refuse", {"prompt": f"fox {number}"})
        assert 5 <= len(house.judge.records) <= 10  # five failures, each of which may have been tried twice
        house.judge.clear()
        await judged_in_vain(house, "refuse", {"prompt": "fox"})
        assert not house.judge.records  # since the faults were forgotten
        clock.turn(13)
        assert blocked(await house.ask(GENERATE, BAD))
        assert (await house.ask(GENERATE, FINE)).status == 200


async def test_beside_the_upstream_too(on_error: str) -> None:
    async with moderating(f'timing = "parallel"\non_error = "{on_error}"\n{TIMEOUT}') as house:
        house.judge.fault("slow-first-byte=30", times=None)
        answer = await house.ask(GENERATE, BAD)
        if on_error == "allow":
            assert answer.status == 200
        else:
            assert (answer.status, error(answer)["code"]) == (503, "moderation_unavailable")


async def test_in_shadow_nobody_hears_of_it() -> None:
    async with moderating(f'mode = "shadow"\n{TIMEOUT}') as house:
        house.judge.fault("slow-first-byte=30", times=None)
        for _ in range(3):
            assert (await house.ask(GENERATE, BAD)).status == 200
        assert len(await house.left()) == 3


async def test_who_leaves_meanwhile_leaves_nothing_behind() -> None:
    async with moderating() as house:
        house.judge.fault("slow-first-byte=30", times=None)
        body = json.dumps(BAD).encode()
        head = (
            f"POST {GENERATE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ANN}\r\nContent-Type: application/json\r\n"
        )
        async with RawClient(house.served.port) as client:
            await client.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            while not house.judge.records:
                await asyncio.sleep(0)
        (line,) = await house.served.ended(1)
        await house.judge.idle()
        assert house.judge.records[0].left and line["left"]
        assert await house.left() == []
