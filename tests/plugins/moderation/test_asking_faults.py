from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Any

import pytest

from plugins.moderation.asking import OpenAI
from plugins.moderation.breaker import FAILURES
from plugins.moderation.cache import Cache
from plugins.moderation.verdict import Scores, Unavailable
from proxy.api import UpstreamError
from proxy.sandbox import Sandbox
from proxy.testkit import Stage, TurnedClock, answer
from proxy.testkit.script import Asked, Reply

from .judging import ABOUT, HARMLESS, Seen, backend, digest, harmless, lent, matter, paused

GARBAGE: dict[str, tuple[Reply, str]] = {
    "nothing": (answer(body=b""), "is not JSON"),
    "a page": (answer(body=b"<html>ok</html>", headers={"content-type": "text/html"}), "is not JSON"),
    "half": (answer(body=json.dumps({"results": [HARMLESS]}).encode()[:-9]), "is not JSON"),
    "nan": (answer(body=b'{"results":[{"flagged":false,"categories":{},"category_scores":{"a":NaN}}]}'), "is not JSON"),
    "a list": (answer(json=[HARMLESS]), "lacks results"),
    "an error": (answer(json={"error": {"message": "no", "type": "server_error"}}), "lacks results"),
    "no results": (answer(json={"results": []}), "has 0 results for 1 questions"),
    "two results": (answer(json={"results": [HARMLESS, HARMLESS]}), "has 2 results for 1 questions"),
    "results null": (answer(json={"results": [None]}), "lacks a result"),
    "created": (answer(201, json={"results": [HARMLESS]}), "answered 201"),
    "no content": (answer(204), "answered 204"),
    "redirect": (answer(307, headers={"location": "https://elsewhere.invalid/"}), "answered with a redirect"),
    "unknown": (answer(404, json={"error": {"code": "model_not_found"}}), r"answered 404 \(model_not_found\)"),
    "key": (answer(401, json={"error": {"code": "invalid_api_key"}}), r"answered 401 \(invalid_api_key\)"),
    "quota": (answer(429, json={"error": {"code": "insufficient_quota"}}), r"answered 429 \(insufficient_quota\)"),
    "late": (answer(429, headers={"retry-after": "20"}), "answered 429"),
    "huge": (answer(pieces=[b" " * 2**18] * 5), "over 1 MiB"),
    "huge and told": (answer(body=b" " * (2**20 + 1)), "over 1 MiB"),
    "gzip": (answer(body=b"\x1f\x8b", headers={"content-encoding": "gzip"}), "compressed"),
}


@pytest.mark.parametrize(("told", "why"), GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_no_verdict_and_is_not_asked_for_twice(told: Reply, why: str) -> None:
    async with Stage(upstream=told) as stage:
        with pytest.raises(Unavailable, match=why):
            await backend(stage.services).judge(matter("a"), ABOUT)
    assert len(stage.asked) == 1  # and the stage sees that nothing is left open


AGAIN: dict[str, tuple[Any, float]] = {
    "429": (answer(429, json={"error": {"code": "rate_limit_exceeded"}}, headers={"retry-after": "2"}), 2.0),
    "429 without a word": (answer(429), 0.2),
    "500": (answer(500, json={"error": {"code": "server_error"}}), 0.2),
    "503": (answer(503, json={"error": {"code": "overloaded"}}, headers={"retry-after": "1"}), 1.0),
    "502 page": (answer(502, body=b"<html>"), 0.2),
    "unreachable": (UpstreamError("connection refused", sent=False), 0.2),
    "reset": (UpstreamError("the connection was reset", sent=True), 0.2),
    "cut": (answer(pieces=[b'{"results":', UpstreamError("the answer broke off", sent=True)]), 0.2),
}


@pytest.mark.parametrize(("told", "pause"), AGAIN.values(), ids=AGAIN.keys())
async def test_what_may_pass_is_asked_again_once(told: Any, pause: float) -> None:
    async with Stage(upstream=[told, harmless, told, told]) as stage:
        judge = backend(stage.services)
        waiting = asyncio.ensure_future(judge.judge(matter("a"), ABOUT))
        await paused(stage, pause)
        assert await waiting == Scores({"violence": 0.01})
        waiting = asyncio.ensure_future(judge.judge(matter("a"), ABOUT))
        await paused(stage, pause)
        with pytest.raises(Unavailable, match=r"^(answered|broke|can't)"):
            await waiting
    assert len(stage.asked) == 4


async def test_what_timed_out_is_not_asked_again() -> None:
    async with Stage(upstream=UpstreamError("no answer came", sent=True, timeout=True)) as stage:
        with pytest.raises(Unavailable, match="timed out"):
            await backend(stage.services).judge(matter("a"), ABOUT)
    assert len(stage.asked) == 1


async def test_a_full_line_is_no_failure_of_the_backend() -> None:
    settings = """
[upstreams.main]
base_url = "http://upstream.invalid/v1"
limits = { requests = "1 / 1m" }
queue = { length = 10, wait = "1s" }
"""
    async with Stage(upstream=harmless, settings=settings) as stage:
        judge = backend(stage.services)
        await judge.judge(matter("a"), ABOUT)
        for _ in range(6):
            with pytest.raises(Unavailable, match="the line before it is too long"):
                await judge.judge(matter("a"), ABOUT)
        stage.clock.turn(62)
        await judge.judge(matter("a"), ABOUT)
    assert len(stage.asked) == 2 and not [line for line in stage.log if line["event"] == "moderation_left_alone"]


async def test_an_upstream_for_moderation_alone_is_asked_through_its_names_and_refuses_other_models() -> None:
    settings = """
[upstreams.main]
base_url = "http://upstream.invalid/v1"
only = ["omni-moderation-*"]
models = { "omni-moderation-latest" = "mine" }
"""
    async with Stage(upstream=harmless, settings=settings) as stage:
        await backend(stage.services).judge(matter("a", pictures=[Seen("image", [os.urandom(300_000)])]), ABOUT)
        with pytest.raises(Unavailable, match="was not asked: model_not_available"):
            await backend(stage.services, model="text-moderation-latest").judge(matter("a"), ABOUT)
    assert [asked.json()["model"] for asked in stage.asked] == ["mine", "mine"]


async def test_one_failure_ends_the_other_calls_and_keeps_what_was_answered() -> None:
    never = asyncio.Event()

    async def told(asked: Asked) -> Reply:
        given = asked.json()["input"]
        if isinstance(given[0], str):
            return harmless(asked)
        if given[0]["image_url"]["url"].endswith(base64.b64encode(b"bad").decode()):
            return answer(400, json={"error": {"code": "invalid_image"}})
        await never.wait()
        return harmless(asked)

    async with Stage(upstream=told) as stage:
        judge = backend(stage.services, cache=Cache(stage.clock, seconds=600))
        asked = matter("a", pictures=[Seen("image", [b"slow"]), Seen("image", [b"bad"])])
        with pytest.raises(Unavailable, match=r"answered 400 \(invalid_image\)"):
            await judge.judge(asked, ABOUT)
        await judge.judge(matter("a"), ABOUT)
    assert len(stage.asked) == 3


@pytest.mark.parametrize("where", ["head", "body", "pause", "view"])
async def test_cancelled_anywhere_it_leaves_nothing_open(where: str) -> None:
    never, there = asyncio.Event(), asyncio.Event()

    class Slow(Seen):
        async def views(self) -> Any:
            there.set()
            await never.wait()

    told = {
        "head": answer(wait=never),
        "body": answer(pieces=[b"{", never, b"}"]),
        "pause": answer(429, headers={"retry-after": "2"}),
        "view": answer(wait=never),
    }[where]
    async with Stage(upstream=told) as stage:
        pictures = [Slow("image", [b"x"])] if where == "view" else []
        judging = asyncio.ensure_future(backend(stage.services).judge(matter("a", pictures=pictures), ABOUT))
        before = len(stage.clock.watchers)
        await (there.wait() if where == "view" else stage.reached())
        while where == "pause" and len(stage.clock.watchers) == before:
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        judging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await judging


async def test_that_pictures_take_long_to_decode_is_no_fault_of_its() -> None:
    # Seen: six flat pictures of 40 million pixels, and everybody's prompts went by unjudged for ten seconds.
    there, never = asyncio.Event(), asyncio.Event()

    class Slow(Seen):
        async def views(self) -> Any:
            there.set()
            await never.wait()

    async with Stage(upstream=harmless) as stage:
        judge = backend(stage.services)
        for _ in range(FAILURES + 1):
            judging = asyncio.ensure_future(judge.judge(matter("a", pictures=[Slow("image", [b"x"])]), ABOUT))
            await there.wait()
            there.clear()
            stage.clock.turn(60)
            judging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await judging
        await judge.judge(matter("a"), ABOUT)
    assert len(stage.asked) == 1


# --- over real sockets, what upstreams really do

FAULTS = {
    "429-quota": "insufficient_quota",
    "400-billing": "billing_hard_limit_reached",
    "error-200": "lacks results",
    "code-429-in-200": "lacks results",
    "task-200": "lacks results",
    "redirect": "answered with a redirect",
    "huge=2": "over 1 MiB",
    "gzip-anyway": "compressed",
    "429=20": "rate_limit_exceeded",
    "moderation-blocked": "moderation_blocked",
}
TWICE = {
    "429=ms:10": "rate_limit_exceeded",
    "500": "answered 500",
    "wrong-length=short": "broke off",
    "503-overloaded": "server_is_overloaded",
    "502-html": "answered 502",
    "504-html": "answered 504",
    "cut-headers": "broke off",
    "cut-body": "broke off",
    "wrong-length=long": "broke off",
    "reset": "broke off",
    "early-refusal=503": "answered 503",
}
FINE = ("text-plain-json", "set-cookie", "extra-bytes", "drip=0.0001", "keepalive-blanks=0.001", "slow-first-byte=0.01")
SLOW = ("slow-first-byte=60", "stall-midstream", "drip=60", "keepalive-blanks=60")


@pytest.mark.parametrize("fault", [*FAULTS, *TWICE])
async def test_a_fault_is_no_verdict(fault: str) -> None:
    async with Sandbox() as sandbox, lent(sandbox.url) as services:
        judge = OpenAI("openai", services, model="omni-moderation-latest", timeout=10, digest=digest)
        sandbox.fault(fault, times=2)
        with pytest.raises(Unavailable, match=FAULTS.get(fault) or TWICE[fault]):
            await judge.judge(matter("flag:violence"), ABOUT)
        assert len(sandbox.records) == (2 if fault in TWICE else 1)
        sandbox.clear()
        assert (await judge.judge(matter("flag:violence"), ABOUT)).flagged == {"violence"}


@pytest.mark.parametrize("fault", FINE)
async def test_what_is_only_odd_is_heard(fault: str) -> None:
    async with Sandbox() as sandbox, lent(sandbox.url) as services:
        judge = OpenAI("openai", services, model="omni-moderation-latest", timeout=10, digest=digest)
        sandbox.fault(fault)
        assert (await judge.judge(matter("flag:violence"), ABOUT)).flagged == {"violence"}
        assert sandbox.records[0].fault == fault


@pytest.mark.parametrize("fault", SLOW)
async def test_who_is_too_slow_is_hung_up_on(fault: str) -> None:
    async with Sandbox() as sandbox, lent(sandbox.url) as services:
        judge = OpenAI("openai", services, model="omni-moderation-latest", timeout=10, digest=digest)
        sandbox.fault(fault)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await judge.judge(matter("flag:violence"), ABOUT)
        await sandbox.idle()
        assert sandbox.records[0].left


async def test_a_backend_that_is_not_there_can_not_be_reached() -> None:
    clock = TurnedClock()
    async with lent("http://127.0.0.1:1/v1", clock=clock) as services:
        judge = OpenAI("openai", services, model="omni-moderation-latest", timeout=0.1, digest=digest)
        with pytest.raises(Unavailable, match="can't be reached"):
            await judge.judge(matter("a"), ABOUT)
