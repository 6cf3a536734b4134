"""Who is asked next, how long is waited, and when it stops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plugins.failover import Failover
from proxy.api import CALLER, Attempt, Caller, UpstreamError
from proxy.testkit import Played, Stage, answer

IMAGE = "POST /v1/images/generations"
CHAT = "POST /v1/chat/completions"
PICTURE = {"created": 1, "data": [{"b64_json": "iVBORw0KGgoAAAANSUhEUg=="}]}
WORDS = {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
ASK = {"model": "gpt-image-2", "prompt": "tea"}
TALK = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}


def refusal(status: int, code: str | None = None, type: str = "server_error", **headers: str) -> Any:
    """An upstream's error in OpenAI's envelope."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(status, json={"error": {"message": "no", "type": type, "param": None, "code": code}}, headers=named)


LIMITED = refusal(429, "rate_limit_exceeded", "requests", retry_after="3")
DOWN = refusal(500)
HTML = answer(502, body=b"<html>502</html>", headers={"content-type": "text/html"})
REFUSED = refusal(400, "moderation_blocked", "image_generation_user_error")
UNREACHABLE = UpstreamError("connection refused", sent=False)
RESET = UpstreamError("the connection was reset", sent=True)
DRAWN = answer(json=PICTURE)
SAID = answer(json=WORDS)
EMPTY = answer(json={"created": 1, "data": []})


def names(stage: Stage) -> list[str]:
    """Which upstreams were asked, in order."""
    return [asked.upstream for asked in stage.asked]


@pytest.mark.parametrize("first", [LIMITED, DOWN, UNREACHABLE, EMPTY, refusal(401, "invalid_api_key"), refusal(402)])
async def test_asks_the_next_where_nothing_can_have_been_done_or_the_policy_says_so(first: Any) -> None:
    async with Stage(Failover(), upstream={"a": first, "b": DRAWN}) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert (played.status, played.json()) == (200, PICTURE)
        assert names(stage) == ["a", "b"]


@pytest.mark.parametrize("first", [HTML, RESET, refusal(504), refusal(408), REFUSED, refusal(404, "model_not_found")])
async def test_stops_where_a_paid_request_may_have_been_acted_on_or_no_other_would_take_it(first: Any) -> None:
    async with Stage(Failover(), upstream={"a": first, "b": DRAWN}) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert played.status >= 400 and names(stage) == ["a"]
        assert played.headers.get("x-should-retry") == "false"


@pytest.mark.parametrize("first", [HTML, RESET, refusal(504), refusal(408)])
async def test_asks_on_where_what_may_have_been_done_is_free_to_repeat(first: Any) -> None:
    async with Stage(Failover(), upstream={"a": first, "b": SAID}) as stage:
        played = await stage.play(CHAT, json=TALK)
        assert played.json() == WORDS and names(stage) == ["a", "b"]


async def test_pays_twice_only_when_told_to() -> None:
    async with Stage(Failover(on_ambiguous="retry"), upstream={"a": RESET, "b": DRAWN}) as stage:
        assert (await stage.play(IMAGE, json=ASK)).status == 200
        assert names(stage) == ["a", "b"]


async def test_a_missing_picture_ends_it_when_told_so_and_says_that_it_may_have_been_billed() -> None:
    async with Stage(Failover(on_result_missing="stop"), upstream={"a": EMPTY, "b": DRAWN}) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert (played.status, played.error["code"]) == (502, "upstream_result_missing")
        assert "may have been billed" in played.error["message"] and names(stage) == ["a"]


async def test_never_more_calls_than_allowed() -> None:
    async with Stage(Failover(attempts=2), upstream={"a": DOWN, "b": DOWN, "c": DRAWN}) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert (played.status, names(stage)) == (500, ["a", "b"])
        assert played.headers.get("x-framegate-stopped") == "attempts"
        assert played.headers.get("x-framegate-attempts") == "a=500, b=500"


async def test_waits_for_the_only_upstream_as_long_as_it_says() -> None:
    async with Stage(Failover(), upstream={"a": [LIMITED, DRAWN]}) as stage:
        playing = stage.begin(IMAGE, json=ASK)
        await stage.reached(1)
        await asyncio.sleep(0)
        stage.clock.turn(2.9)
        for _ in range(20):
            await asyncio.sleep(0)
        assert names(stage) == ["a"]
        stage.clock.turn(1.2)
        played = await playing
        assert played.status == 200 and names(stage) == ["a", "a"]
        assert played.headers.get("x-framegate-attempts") == "a=429, a=200"


async def test_does_not_wait_longer_than_allowed_and_says_when_to_come_again() -> None:
    long = refusal(429, "rate_limit_exceeded", "requests", retry_after="30")
    async with Stage(Failover(), upstream={"a": long}) as stage:
        first = await stage.play(IMAGE, json=ASK)
        assert (first.status, first.headers.get("x-should-retry")) == (429, "false")
        assert 30 <= int(first.headers.get("retry-after") or 0) <= 33, (
            "as told, and a little more so that not all come at once"
        )
        second = await stage.play(IMAGE, json=ASK)
        assert (second.status, second.error["code"]) == (503, "provider_offline")
        assert 0 < int(second.headers.get("retry-after")) <= 34 and second.headers.get("x-should-retry") == "true"
        assert names(stage) == ["a"], "an upstream that said when is not asked before"


async def test_hands_on_the_upstreams_own_bytes() -> None:
    body = b'{ "error" : {"message":"no", "type":"server_error","code":null,"x":1}}\n'
    told = answer(500, body=body, headers={"content-type": "application/json", "x-request-id": "req_1"})
    async with Stage(Failover(attempts=1), upstream={"a": told}) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert (played.body, played.headers.get("x-should-retry")) == (body, "false")


async def test_a_page_of_html_becomes_an_error_of_ours() -> None:
    async with Stage(Failover(), upstream={"a": HTML}) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert (played.status, played.error["code"]) == (502, "upstream_failed")
        assert "may have been billed" in played.error["message"] and "html" not in played.body.decode()


async def test_an_error_that_speaks_of_our_account_is_not_shown() -> None:
    dead = refusal(401, "invalid_api_key", "invalid_request_error")
    settings = '[upstreams.a]\nbase_url = "http://a.invalid/v1"\napi_key = "env:KEY"\n'
    async with Stage(
        Failover(), upstream={"a": dead}, settings=settings, environ={"KEY": "sk-upstream-secret-0123456789"}
    ) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert (played.status, played.error["code"]) == (503, "provider_credential_unusable")
        assert played.headers.get("x-should-retry") == "false"


async def test_a_dead_key_gives_way_to_the_upstreams_next_before_another_upstream() -> None:
    dead = refusal(401, "invalid_api_key", "invalid_request_error")
    settings = '[upstreams.a]\nbase_url = "http://a.invalid/v1"\napi_key = ["env:ONE", "env:TWO"]\n'
    environ = {"ONE": "sk-upstream-one-0123456789", "TWO": "sk-upstream-two-0123456789"}

    def by_key(asked: Any) -> Any:
        return dead if b"one" in asked.headers.get("authorization").encode() else DRAWN

    async with Stage(Failover(), upstream={"a": by_key, "b": DRAWN}, settings=settings, environ=environ) as stage:
        for _ in range(4):
            assert (await stage.play(IMAGE, json=ASK)).status == 200
        assert set(names(stage)) == {"a"} and len(stage.asked) == 5, "the dead key is asked with once"


async def test_a_refusal_for_its_content_is_final_unless_another_is_named() -> None:
    async with Stage(Failover(on_safety=("c",)), upstream={"a": REFUSED, "b": DRAWN, "c": DRAWN}) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert played.status == 200 and names(stage) == ["a", "c"]
        (line,) = [line for line in stage.log if line["event"] == "upstream_refused"]
        assert line["upstream"] == "a" and "moderation_blocked" in str(line["reason"])


async def test_a_prompts_fault_benches_nobody() -> None:
    async with Stage(Failover(), upstream={"a": [REFUSED] * 8 + [DRAWN], "b": DRAWN}) as stage:
        for _ in range(8):
            assert (await stage.play(IMAGE, json=ASK)).status == 400
        assert (await stage.play(IMAGE, json=ASK)).status == 200
        assert set(names(stage)) == {"a"}


async def test_what_one_upstream_keeps_is_asked_of_no_other() -> None:
    async with Stage(Failover(), upstream={"a": DOWN, "b": SAID}) as stage:
        played = await stage.play("GET /v1/files/file-1")
        assert played.status == 500 and set(names(stage)) == {"a"}
        continued = {"model": "gpt-5-mini", "input": "more", "previous_response_id": "resp_1"}
        await stage.play("POST /v1/responses", json=continued)
        assert set(names(stage)) == {"a"}


async def test_the_worst_news_comes_first() -> None:
    async with Stage(Failover(), upstream={"a": EMPTY, "b": LIMITED, "c": UNREACHABLE}) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert played.error["code"] == "upstream_result_missing" and names(stage) == ["a", "b", "c"]


async def test_keeps_the_clients_own_deadline() -> None:
    async with Stage(Failover(), upstream={"a": [LIMITED, DRAWN]}) as stage:
        played = await stage.play(IMAGE, json=ASK, headers={"x-stainless-read-timeout": "2"})
        assert (played.status, played.headers.get("x-framegate-stopped")) == (429, "deadline")


async def test_every_call_is_recorded() -> None:
    async with Stage(Failover(), upstream={"a": LIMITED, "b": DRAWN}) as stage:
        played = await stage.play(IMAGE, json=ASK)
        one, two = played.outcome.attempts
        assert (one.upstream, one.outcome, one.failure, one.billed) == ("a", "429", "rate_limit", "no")
        assert (two.upstream, two.outcome, two.failure, two.billed) == ("b", "200", None, "yes")


async def test_closes_what_it_does_not_hand_on() -> None:
    """The stage fails where an answer is left open; here each call leaves one."""
    async with Stage(Failover(), upstream={"a": EMPTY, "b": EMPTY, "c": DRAWN}) as stage:
        assert (await stage.play(IMAGE, json=ASK)).status == 200


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"attempts": 0}, "attempts"),
        ({"to": ("a", "a")}, "twice"),
        ({"to": ("a",), "on_safety": ("b",)}, "not in to"),
        ({"weights": {"a": 1}}, "weighted"),
        ({"sticky": True, "strategy": "latency"}, "contradict"),
        ({"hedge": 0.0}, "hedge"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Failover(**settings)


async def test_a_caller_stays_where_they_are() -> None:
    async with Stage(Failover(sticky=True), upstream=dict.fromkeys("abcd", DRAWN)) as stage:
        seen = {}
        for caller in range(40):
            facts = {CALLER: Caller(f"caller-{caller}")}
            played: list[Played] = [await stage.play(IMAGE, json=ASK, facts=facts) for _ in range(2)]
            (seen[caller],) = {one.headers.get("x-framegate-upstream") for one in played}
        assert set(seen.values()) == set("abcd")


async def test_asks_by_weight() -> None:
    policy = Failover(strategy="weighted", weights={"a": 3, "b": 1, "c": 0})
    async with Stage(policy, upstream=dict.fromkeys("abc", SAID)) as stage:
        for _ in range(400):
            await stage.play(CHAT, json=TALK)
        counts = {name: names(stage).count(name) for name in "abc"}
        assert counts["c"] == 0 and 240 < counts["a"] < 360


async def test_a_slow_one_is_overtaken_where_asking_twice_costs_nothing() -> None:
    hold = asyncio.Event()
    slow = answer(json=WORDS, wait=hold)
    async with Stage(Failover(hedge=2.0), upstream={"a": slow, "b": SAID}) as stage:
        playing = stage.begin(CHAT, json=TALK)
        await stage.reached(1)
        stage.clock.turn(2.1)
        played = await playing
        assert (played.status, played.headers.get("x-framegate-upstream")) == (200, "b")
        assert played.headers.get("x-framegate-attempts") == "a=cancelled, b=200"


async def test_what_is_paid_is_never_asked_twice_for_speed() -> None:
    hold = asyncio.Event()
    async with Stage(Failover(hedge=2.0), upstream={"a": answer(json=PICTURE, wait=hold), "b": DRAWN}) as stage:
        playing = stage.begin(IMAGE, json=ASK)
        await stage.reached(1)
        stage.clock.turn(60)
        for _ in range(20):
            await asyncio.sleep(0)
        assert names(stage) == ["a"]
        hold.set()
        assert (await playing).headers.get("x-framegate-upstream") == "a"


async def test_a_late_failure_is_not_replayed_where_that_is_said() -> None:
    clock_of: list[Any] = []

    def late(asked: Any) -> Any:
        clock_of[0].turn(8)
        return DOWN

    async with Stage(Failover(replay_within=5.0), upstream={"a": late, "b": DRAWN}) as stage:
        clock_of.append(stage.clock)
        played = await stage.play(IMAGE, json=ASK)
        assert (played.status, names(stage)) == (500, ["a"])
        assert played.headers.get("x-framegate-stopped") == "replay_within"
        assert (await stage.play(CHAT, json=TALK)).status in (200, 500)


async def test_one_that_does_not_serve_it_is_passed_over_by_name() -> None:
    settings = (
        '[upstreams.a]\nbase_url = "http://a.invalid/v1"\nonly = ["gpt-5*"]\n'
        '[upstreams.b]\nbase_url = "http://b.invalid/v1"\nonly = ["gpt-image-*"]\n'
    )
    async with Stage(Failover(), upstream={"a": DRAWN, "b": DRAWN}, settings=settings) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert played.headers.get("x-framegate-attempts") == "a=skipped-model_not_served, b=200"
        assert names(stage) == ["b"]
        played = await stage.play(IMAGE, json={"model": "dall-e-3", "prompt": "tea"})
        assert (played.status, played.error["code"]) == (404, "model_not_available")


async def test_asks_the_faster_more_often() -> None:
    async with Stage(Failover(strategy="latency"), upstream={"a": SAID, "b": SAID}) as stage:
        health = stage.services.upstreams.health
        for _ in range(30):
            stage.clock.turn(1)
            for name, seconds in (("a", 4.0), ("b", 0.1)):
                health.enter(name, "text")
                health.passed(Attempt(name), "text", seconds)
        for _ in range(50):
            await stage.play(CHAT, json=TALK)
        assert names(stage).count("b") > 40


async def test_retries_of_one_upstream_are_a_share_of_what_is_asked() -> None:
    limited = refusal(429, "rate_limit_exceeded", "requests", retry_after="0")
    async with Stage(Failover(), upstream={"a": limited}) as stage:
        for _ in range(30):
            await stage.play(CHAT, json=TALK)
        assert len(stage.asked) <= 30 + 7, "a fifth, and three"
        assert len(stage.asked) > 30
