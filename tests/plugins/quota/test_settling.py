"""What stays counted is what was used; what failed gives all back, and what may have been billed is charged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plugins.failover import Failover
from plugins.quota import Quota
from proxy.api import CALLER, Plugin, UpstreamError
from proxy.testkit import Stage, answer, broken

from .cases import ASK, CHAT, IMAGE, PNG, PRICES, TALK, ann, counted, drawn, refusal, said

CALLER_OF_ALL = ann(requests="9 / 1h", images="9 / 1h", tokens="90k / 1h", concurrent=9, budget="9 USD / day")
NOTHING = {"requests": 0, "images": 0, "tokens": 0, "concurrent": 0, "budget": 0.0}
HTML = answer(502, body=b"<html>502</html>", headers={"content-type": "text/html"})
EMPTY = answer(json={"created": 1, "data": []})
UNREACHABLE = UpstreamError("connection refused", sent=False)
RESET = UpstreamError("the connection was reset", sent=True)
LATE = UpstreamError("it gave no answer", sent=True, timeout=True)
CUT = answer(pieces=[b'{"created":1,"data":[', broken()], headers={"content-type": "application/json"})
HIDDEN = answer(json={"error": {"message": "no", "type": "x", "code": "rate_limit_exceeded"}})
REFUSED = refusal(400, "moderation_blocked", "image_generation_user_error")

# What an upstream does to a request for a picture, and whether that may have been billed.
FAILURES: dict[str, tuple[Any, bool]] = {
    "unreachable": (UNREACHABLE, False),
    "429": (refusal(429, "rate_limit_exceeded", "requests"), False),
    "400": (refusal(400, "invalid_value", "invalid_request_error"), False),
    "refused": (REFUSED, False),
    "401": (refusal(401, "invalid_api_key"), False),
    "402": (refusal(402), False),
    "500": (refusal(500), False),
    "a 429 in a 200": (HIDDEN, False),
    "reset": (RESET, True),
    "late": (LATE, True),
    "html": (HTML, True),
    "504": (refusal(504), True),
    "408": (refusal(408), True),
    "no picture": (EMPTY, True),
    "cut": (CUT, True),
}


async def after(
    upstream: Any, *chain: Plugin, ask: Any = ASK, request: str = IMAGE, **settings: Any
) -> dict[str, float]:
    """What counts after one request."""
    quota = Quota(**settings)
    async with Stage(quota, *chain, upstream=upstream, facts={CALLER: CALLER_OF_ALL}, settings=PRICES) as stage:
        await stage.play(request, json=ask)
        assert stage.asked
        return await counted(stage)


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("failover", [False, True])
async def test_what_failed_gives_all_back_and_what_may_have_been_billed_is_charged(name: str, failover: bool) -> None:
    upstream, maybe = FAILURES[name]
    chain = [Failover(attempts=1)] if failover else []
    left = await after(upstream, *chain)
    charged = {**NOTHING, "requests": 1, "images": 1, "tokens": left["tokens"], "budget": 0.211}
    assert left == (charged if maybe else NOTHING)
    assert bool(left["tokens"]) == maybe
    assert await after(upstream, *chain, charge_ambiguous=False) == NOTHING


async def test_failing_over_counts_once() -> None:
    for first in (refusal(500), EMPTY, refusal(429, "rate_limit_exceeded"), UNREACHABLE):
        left = await after({"a": first, "b": drawn()}, Failover())
        assert (left["requests"], left["images"]) == (1, 1)


async def test_what_may_have_been_billed_is_charged_though_the_last_upstream_was_not_reached() -> None:
    left = await after({"a": EMPTY, "b": UNREACHABLE}, Failover())
    assert (left["requests"], left["images"]) == (1, 1)


async def test_the_pictures_that_came_count_and_not_those_that_were_asked_for() -> None:
    left = await after(drawn(2), ask={**ASK, "n": 4, "quality": "medium"})
    assert (left["images"], left["budget"]) == (2, 0.106)


async def test_more_pictures_than_were_asked_for_count() -> None:
    left = await after(drawn(3), ask={**ASK, "quality": "low"})
    assert (left["images"], left["budget"]) == (3, 0.018)


async def test_tokens_and_money_are_what_the_answer_says() -> None:
    left = await after(said(prompt_tokens=1000, completion_tokens=200, total_tokens=1200), ask=TALK, request=CHAT)
    assert left == {**NOTHING, "requests": 1, "tokens": 1200, "budget": 0.003}


async def test_without_usage_they_are_what_was_held() -> None:
    left = await after(said(), ask={**TALK, "max_tokens": 50}, request=CHAT)
    assert 50 < left["tokens"] < 100


async def test_a_model_that_is_known_to_be_brief_is_held_for_less() -> None:
    brief = said(prompt_tokens=5, completion_tokens=10, total_tokens=15)
    async with Stage(Quota(), upstream=brief, facts={CALLER: ann(tokens="1300 / 1h")}) as stage:
        for _ in range(20):
            assert (await stage.play(CHAT, json=TALK)).status == 200
        assert await counted(stage) == {"tokens": 300}


async def test_usage_at_the_end_of_a_stream_counts() -> None:
    events = [
        {"choices": [{"delta": {"content": "hi"}}]},
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}},
        "[DONE]",
    ]
    left = await after(answer(sse=events), Failover(), ask={**TALK, "stream": True}, request=CHAT)
    assert (left["requests"], left["tokens"]) == (1, 10)


async def test_an_error_in_a_stream_before_anything_came_gives_all_back() -> None:
    events = [{"error": {"message": "no", "type": "requests", "code": "rate_limit_exceeded"}}]
    assert await after(answer(sse=events), ask={**TALK, "stream": True}, request=CHAT) == NOTHING


async def test_a_stream_that_drew_and_broke_is_charged_whatever_the_policy() -> None:
    events = [{"type": "image_generation.partial_image", "b64_json": PNG, "partial_image_index": 0}, broken()]
    left = await after(answer(sse=events), ask={**ASK, "stream": True}, charge_ambiguous=False)
    assert (left["requests"], left["images"]) == (1, 1)


async def test_a_service_that_says_so_slowly_is_heard_and_its_error_handed_on_to_the_letter() -> None:
    text = b'{"error": {"message": "no", "type": "server_error", "code": null}}'
    slow = answer(500, body=text, cuts=range(1, len(text)), headers={"content-type": "application/json"})
    async with Stage(Quota(), upstream=slow, facts={CALLER: CALLER_OF_ALL}, settings=PRICES) as stage:
        played = await stage.play(IMAGE, json=ASK)
        assert (played.status, played.body) == (500, text) and await counted(stage) == NOTHING


# --- clients that leave


@pytest.mark.parametrize("failover", [False, True])
async def test_who_leaves_while_it_is_drawn_is_charged(failover: bool) -> None:
    chain = [Failover()] if failover else []
    gate = asyncio.Event()
    quota = Quota(charge_ambiguous=False)
    upstream = answer(wait=gate)
    async with Stage(quota, *chain, upstream=upstream, facts={CALLER: CALLER_OF_ALL}, settings=PRICES) as stage:
        playing = stage.begin(IMAGE, json=ASK)
        await stage.reached()
        playing.leave()
        await playing
        left = await counted(stage)
        assert (left["requests"], left["images"], left["budget"], left["concurrent"]) == (1, 1, 0.211, 0)


async def test_who_abandons_a_stream_is_charged() -> None:
    more = asyncio.Event()
    events = [{"type": "image_generation.partial_image", "b64_json": PNG, "partial_image_index": 0}, more]
    async with Stage(
        Quota(), Failover(), upstream=answer(sse=events), facts={CALLER: CALLER_OF_ALL}, settings=PRICES
    ) as stage:
        playing = stage.begin(IMAGE, json={**ASK, "stream": True})
        await playing.heard(1)
        playing.leave()
        await playing
        left = await counted(stage)
        assert (left["requests"], left["images"], left["concurrent"]) == (1, 1, 0)


async def test_who_leaves_in_mid_upload_has_taken_nothing() -> None:
    never = asyncio.Event()
    async with Stage(Quota(), upstream=drawn(), facts={CALLER: ann(images="9 / 1h", concurrent=9)}) as stage:
        headers = {"content-type": "application/json", "content-length": "99"}
        playing = stage.begin(IMAGE, pieces=[b'{"a":', never], headers=headers)
        await asyncio.sleep(0.05)  # nothing of it is to be seen from outside
        playing.leave()
        await playing
        assert not stage.asked and await counted(stage) == {"images": 0, "concurrent": 0}


async def test_who_leaves_the_line_before_an_upstream_has_used_nothing() -> None:
    gate = asyncio.Event()
    settings = '[upstreams.main]\nbase_url = "http://upstream.invalid/v1"\nlimits = { concurrent = 1 }\n'
    facts = {CALLER: ann(requests="9 / 1h", images="9 / 1h", concurrent=9)}
    async with Stage(Quota(), Failover(), upstream=drawn_behind(gate), facts=facts, settings=settings) as stage:
        first = stage.begin(IMAGE, json=ASK)
        await stage.reached()
        waiting = stage.begin(IMAGE, json={**ASK, "n": 4})
        while (await counted(stage))["images"] < 5:
            await asyncio.sleep(0.01)
        waiting.leave()
        await waiting
        assert await counted(stage) == {"requests": 1, "images": 1, "concurrent": 1}
        gate.set()
        await first
        assert len(stage.asked) == 1 and await counted(stage) == {"requests": 1, "images": 1, "concurrent": 0}


def drawn_behind(gate: asyncio.Event) -> Any:
    """A picture that comes when the gate opens."""
    return answer(json={"created": 1, "data": [{"b64_json": PNG}]}, wait=gate)


async def test_a_deadline_that_passed_may_have_been_billed() -> None:
    gate = asyncio.Event()
    for charged in (True, False):
        quota = Quota(charge_ambiguous=charged)
        async with Stage(quota, upstream=answer(wait=gate), facts={CALLER: CALLER_OF_ALL}, settings=PRICES) as stage:
            playing = stage.begin(IMAGE, json=ASK)
            await stage.reached()
            stage.clock.turn(601)
            assert (await playing).status == 504
            left = await counted(stage)
            assert (left["requests"], left["images"], left["concurrent"]) == (charged, charged, 0)


# --- who answers without an upstream


async def test_an_answer_that_no_upstream_gave_is_a_request_and_nothing_else() -> None:
    async with Stage(Quota(), _Kept(), facts={CALLER: CALLER_OF_ALL}, settings=PRICES) as stage:
        assert (await stage.play(IMAGE, json=ASK)).status == 200
        assert await counted(stage) == {**NOTHING, "requests": 1}


class _Kept(Plugin):
    async def __call__(self, *_: Any) -> Any:
        from proxy.api import Response

        return Response(200)


async def test_what_came_and_was_lost_on_its_way_out_was_paid_for() -> None:
    async with Stage(
        Quota(charge_ambiguous=False), _Loses(), upstream=drawn(), facts={CALLER: CALLER_OF_ALL}, settings=PRICES
    ) as stage:
        assert (await stage.play(IMAGE, json=ASK)).status == 500
        left = await counted(stage)
        assert (left["requests"], left["images"]) == (1, 1)


class _Loses(Plugin):
    async def __call__(self, exchange: Any, request: Any, forward: Any) -> Any:
        await (await forward(request)).aclose()
        raise RuntimeError("lost")


async def test_nothing_is_left_open_and_nothing_concurrent_counts_after_any_of_it() -> None:
    for upstream, _ in FAILURES.values():
        async with Stage(Quota(), Failover(attempts=1), upstream=upstream, facts={CALLER: ann(concurrent=1)}) as stage:
            await stage.play(IMAGE, json=ASK)
            assert await counted(stage) == {"concurrent": 0}
