"""Moderation among the other plugins: beside the upstream, over what was drawn, marked only, in shadow, and allowed."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import orjson
import pytest

from proxy.testkit import ScriptedUpstream, TurnedClock
from tests.openai.shape import stream

from .asking import FORM, field, file, uploaded
from .house import ANN, CHAT, EDIT, GENERATE, JSON, RESPOND, Moderating, blocked, moderating
from .pictures import LARGE, picture

CHAIN = ("keys", "quota", "moderation", "rehost", "failover")
KEPT = '[images]\nurl = "file:state/images"\n[plugins.failover]\nto = ["openai"]\n'
QUOTA = KEPT + '[plugins.quota]\nlimits = { requests = "100 / 1h", images = "100 / 1h" }\n'
BAD, FINE = {"prompt": "a fox, flag:violence."}, {"prompt": "a fox"}


async def noted(house: Moderating) -> dict[str, Any]:
    """The only row of the audit, which may be written a moment after the answer."""
    store = house.served.house.state
    while not (found := await store.items("moderation")):
        await asyncio.sleep(0.005)
    ((_, row),) = found
    told: dict[str, Any] = orjson.loads(row)
    return told


async def kept(house: Moderating) -> int:
    """How many pictures were kept."""
    images = house.served.house.state.images(house.served.house.config)
    return sum([len(page) async for page in images.index.all()])


async def used(house: Moderating) -> dict[str, float]:
    """What counts against limits."""
    answer = await house.ask("/v1/framegate/limits", b"", None, method="GET")
    return {row["resource"]: row["used"] for row in json.loads(answer.body)["data"]}


# --- beside the upstream


@pytest.mark.parametrize("body", [BAD, {**BAD, "response_format": "url"}, {**BAD, "stream": True}])
async def test_refused_while_the_upstream_works(body: dict[str, Any]) -> None:
    async with moderating('timing = "parallel"', chain=CHAIN, more=QUOTA, genuine=True) as house:
        house.upstream.fault("slow-first-byte=60", times=None)
        house.judge.fault("slow-first-byte=0.2", times=None)
        assert blocked(await house.ask(GENERATE, body))
        (record,) = await house.left()
        assert record.left and record.sent == 0
        assert await kept(house) == 0
        assert await used(house) == {"requests": 1, "images": 1}  # it may have been billed


@pytest.mark.parametrize("body", [FINE, {**FINE, "response_format": "url"}, {**FINE, "stream": True}])
async def test_refused_after_the_upstream_has_answered(body: dict[str, Any]) -> None:
    async with moderating('timing = "parallel"', chain=CHAIN, more=QUOTA, genuine=True) as house:
        house.judge.fault("slow-first-byte=0.3", times=None)
        answer = await house.ask(EDIT, *_edit({**body, "size": "64x64"}, picture("PNG", "violence", side=LARGE)))
        assert blocked(answer)
        assert len(await house.left()) == 1 and await kept(house) == 0


def _edit(fields: dict[str, Any], data: bytes) -> tuple[bytes, str]:
    told = [field(name, value if isinstance(value, str) else json.dumps(value)) for name, value in fields.items()]
    return uploaded(file("image", data), *told), FORM


async def test_what_passes_is_answered_as_soon_as_both_are_there() -> None:
    async with moderating('timing = "parallel"', chain=CHAIN, more=QUOTA, genuine=True) as house:
        house.judge.fault("slow-first-byte=0.2", times=None)
        answer = await house.ask(GENERATE, {**FINE, "size": "64x64", "response_format": "url"})
        assert answer.status == 200 and json.loads(answer.body)["data"][0]["url"]
        assert await kept(house) == 1


# --- what was drawn

CLEAN, MARKED = (base64.b64encode(picture("PNG", *more)).decode() for more in ((), ("violence",)))


def drawn(*pictures: str) -> dict[str, Any]:
    return {"created": 1, "data": [{"b64_json": one} for one in pictures]}


def response(one: str) -> dict[str, Any]:
    call = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": one}
    return {"id": "resp_1", "object": "response", "status": "completed", "error": None, "output": [call]}


def said(one: str) -> dict[str, Any]:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{one}"}}
    message = {"role": "assistant", "content": "here", "images": [picture]}
    return {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}


def streamed(partial: str, final: str) -> bytes:
    which = "image_generation"
    return stream(
        {"type": f"{which}.partial_image", "b64_json": partial, "partial_image_index": 0},
        {"type": f"{which}.completed", "b64_json": final},
    )


def told(body: bytes, kind: str = JSON) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


URL = {"response_format": "url"}
TOOL = {"input": "a fox", "tools": [{"type": "image_generation", **URL}]}
TALK = {"model": "m", "messages": [{"role": "user", "content": "a fox"}]}
ANSWERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "one": (GENERATE, {**FINE, **URL}, lambda one: drawn(one)),
    "the last of three": (GENERATE, {**FINE, "n": 3, **URL}, lambda one: drawn(CLEAN, CLEAN, one)),
    "in base64": (GENERATE, FINE, lambda one: drawn(one)),
    "a response": (RESPOND, TOOL, response),
    "a chat": (CHAT, TALK, said),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_drawn_picture_is_judged_before_it_is_kept_or_delivered(name: str) -> None:
    target, body, make = ANSWERS[name]
    async with ScriptedUpstream() as upstream:
        async with moderating("outputs = true", chain=CHAIN, more=QUOTA, url=upstream.url) as house:
            upstream.answer = told(json.dumps(make(MARKED)).encode())
            answer = await house.ask(target, body)
            assert blocked(answer, stage="output")
            assert MARKED[:64].encode() not in answer.body
            assert await kept(house) == 0
            upstream.answer = told(json.dumps(make(CLEAN)).encode())
            assert (await house.ask(target, body)).status == 200
            assert await kept(house) == (body.get("n", 1) if "url" in json.dumps(body) else 0)


@pytest.mark.parametrize(("partial", "final"), [(MARKED, MARKED), (CLEAN, MARKED)])
async def test_of_a_stream_no_byte_of_a_refused_picture_is_delivered(partial: str, final: str) -> None:
    async with ScriptedUpstream(told(streamed(partial, final), "text/event-stream")) as upstream:
        async with moderating("outputs = true", chain=CHAIN, more=QUOTA, url=upstream.url) as house:
            answer = await house.ask(GENERATE, {**FINE, "stream": True})
            assert b"content_policy_violation" in answer.body and b'"output"' in answer.body
            assert MARKED[-64:].encode() not in answer.body and CLEAN[-64:].encode() not in answer.body
            upstream.answer = told(streamed(CLEAN, CLEAN), "text/event-stream")
            answer = await house.ask(GENERATE, {**FINE, "stream": True})
            assert answer.body == streamed(CLEAN, CLEAN)


# --- modes


async def test_what_is_only_marked_goes_on_and_is_noted() -> None:
    async with moderating('mode = "flag"', genuine=True) as house:
        answer = await house.ask(
            CHAT, {"model": "gpt-5-mini", "messages": [{"role": "user", "content": BAD["prompt"]}]}
        )
        assert answer.status == 200 and answer.get(b"x-framegate-moderation") == b"flagged=violence"
        fine = await house.ask(CHAT, {**TALK, "model": "gpt-5-mini"})
        assert fine.status == 200 and fine.get(b"x-framegate-moderation") is None
        row = await noted(house)
        assert (row["decision"], row["categories"], row["caller"]) == ("flagged", ["violence"], "ann")


async def test_in_shadow_it_is_noted_and_nothing_else() -> None:
    async with moderating('mode = "shadow"', genuine=True) as house:
        answer = await house.ask(
            CHAT, {"model": "gpt-5-mini", "messages": [{"role": "user", "content": BAD["prompt"]}]}
        )
        assert answer.status == 200 and answer.get(b"x-framegate-moderation") is None
        row = await noted(house)
        assert (row["decision"], row["mode"]) == ("flagged", "shadow")


# --- thresholds, and what a person has allowed


@pytest.mark.parametrize(
    ("thresholds", "passes"),
    [("violence = 0.5", False), ("violence = 0.999", True), ("violence = 1.5", True), ('"self-harm" = 0.5', False)],
)
async def test_a_threshold_decides_for_its_category(thresholds: str, passes: bool) -> None:
    async with moderating(f"thresholds = {{ {thresholds} }}") as house:
        answer = await house.ask(GENERATE, BAD)
        assert answer.status == 200 if passes else blocked(answer)


async def test_what_a_person_has_allowed_passes_to_the_letter_alone() -> None:
    clock = TurnedClock()
    async with moderating(clock=clock) as house:
        assert blocked(await house.ask(GENERATE, BAD))
        row = await noted(house)
        await house.served.house.state.put("moderation-allowed", row["hash"], b"{}")
        clock.turn(3)
        assert (await house.ask(GENERATE, BAD)).status == 200
        assert blocked(await house.ask(GENERATE, {"prompt": BAD["prompt"] + " "}))
        assert blocked(await house.ask(GENERATE, {**BAD, "negative": "a hen"}))


# --- what is kept


async def test_no_prompt_and_no_rule_stands_in_log_or_store() -> None:
    words = "a very particular ocelot, flag:violence."
    async with moderating() as house:
        assert blocked(await house.ask(GENERATE, {"prompt": words}))
        row = await noted(house)
        assert "ocelot" not in json.dumps(row) and ANN not in json.dumps(row)
        assert b"ocelot" not in house.served.raw_log
