"""Limits and keys, as OpenAI has them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.sandbox import Sandbox, SandboxError
from proxy.sandbox.limits import duration
from proxy.testkit import TurnedClock

from .plain import CHAT, GENERATION, LAST, Heard, Plain, ask, field, post, until
from .spoken import form, multipart

pytestmark = pytest.mark.usefixtures("spoken")

CHATS, GENERATIONS = "/v1/chat/completions", "/v1/images/generations"
Plainly = dict[str, str]


def error(heard: Heard) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(heard.body)["error"]
    return found


async def chat(sandbox: Sandbox, key: str = "sk-a", **headers: str) -> Heard:
    return await ask(sandbox.url, post(CHATS, CHAT, Connection="close", Authorization=f"Bearer {key}", **headers))


async def draw(sandbox: Sandbox, **fields: object) -> Heard:
    return await ask(sandbox.url, post(GENERATIONS, {**GENERATION, **fields}, Connection="close"))


def told(heard: Heard, unit: str) -> tuple[str | None, ...]:
    return tuple(field(heard.head, f"x-ratelimit-{what}-{unit}") for what in ("limit", "remaining", "reset"))


async def test_no_limit_is_told_where_there_is_none() -> None:
    async with Sandbox() as sandbox:
        assert b"ratelimit" not in (await chat(sandbox)).head


async def test_so_many_requests_a_minute_and_each_key_its_own() -> None:
    clock = TurnedClock()
    async with Sandbox(rpm=3, clock=clock) as sandbox:
        heard = [await chat(sandbox) for _ in range(4)]
        other = await chat(sandbox, "sk-b")
        clock.turn(19)
        too_soon = await chat(sandbox)
        clock.turn(1)
        after = [await chat(sandbox) for _ in range(2)]
    assert [one.status for one in heard] == [200, 200, 200, 429]
    assert [told(one, "requests")[:2] for one in heard] == [("3", "2"), ("3", "1"), ("3", "0"), ("3", "0")]
    assert told(heard[0], "requests")[2] == "20s" and (told(heard[2], "requests")[2] or "").startswith(("1m0s", "59."))
    assert (other.status, told(other, "requests")[1]) == (200, "2")
    assert [too_soon.status, *(one.status for one in after)] == [429, 200, 429]
    refused = heard[3]
    assert field(refused.head, "retry-after") == "20"
    found = error(refused)
    assert (found["type"], found["code"], found["param"]) == ("requests", "rate_limit_exceeded", None)
    assert "on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in " in found["message"]


async def test_so_many_images_a_minute_counted_before_they_are_drawn() -> None:
    clock = TurnedClock()
    async with Sandbox(ipm=5, clock=clock) as sandbox:
        first, refused, second = await draw(sandbox, n=3), await draw(sandbox, n=3), await draw(sandbox, n=2)
        wrong, words = await draw(sandbox, n=11), await ask(sandbox.url, post(CHATS, CHAT, Connection="close"))
        never = await draw(sandbox, n=6)
    assert [one.status for one in (first, refused, second)] == [200, 429, 200]
    assert told(first, "input-images") == ("5", "2", "36s")
    found = error(refused)
    assert (found["type"], found["code"]) == ("input-images", "rate_limit_exceeded")
    assert "Rate limit reached for gpt-image-2 in organization org-sandbox on input-images per min" in found["message"]
    assert "Limit 5, Used 3, Requested 3. Please try again in" in found["message"]
    assert 11 <= int(field(refused.head, "retry-after") or 0) <= 12
    assert wrong.status == 429, "what can't be read counts as one, and none is left"
    assert (words.status, never.status) == (200, 429)


async def test_gives_back_what_was_not_drawn() -> None:
    async with Sandbox(ipm=2, clock=TurnedClock()) as sandbox:
        statuses = [(await draw(sandbox, n=2, size="1x1")).status for _ in range(3)]
        statuses += [(await draw(sandbox, n=2)).status, (await draw(sandbox)).status]
    assert statuses == [400, 400, 400, 200, 429]


async def test_counts_the_images_of_a_form_and_of_a_tool() -> None:
    two = form("gpt-image-2").replace(b"--x--", b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\n2\r\n--x--')
    tools = [{"type": "web_search"}, {"type": "image_generation", "n": 9}]
    async with Sandbox(ipm=5, clock=TurnedClock()) as sandbox:
        heard = [
            await ask(sandbox.url, multipart(form("gpt-image-2"))),
            await ask(sandbox.url, multipart(two)),
            await ask(sandbox.url, post("/v1/responses/drawn", {"tools": tools}, Connection="close")),
            await ask(sandbox.url, post("/v1/responses/drawn", {"tools": tools[:1]}, Connection="close")),
        ]
    assert [told(one, "input-images")[1] for one in heard] == ["4", "2", "1", "1"]


async def test_so_many_at_once() -> None:
    async with Sandbox(concurrent=2) as sandbox:
        busy = [await Plain.to(sandbox.url) for _ in range(2)]
        for plain in busy:
            stalled = post(CHATS, CHAT, Authorization="Bearer sk-a", X_Sandbox_Fault="stall-midstream")
            await plain.say(stalled)
        await until(lambda: sum(record.sent > 0 for record in sandbox.records) == 2)
        refused, other = await chat(sandbox), await chat(sandbox, "sk-b")
        await busy[0].leave()
        await until(lambda: sandbox.counters.in_flight == 1)
        after = await chat(sandbox)
        await busy[1].leave()
    assert (refused.status, other.status, after.status) == (429, 200, 200)
    assert "on concurrent requests: Limit 2, Used 2, Requested 1." in error(refused)["message"]
    assert field(refused.head, "retry-after") == "1"


async def test_faults_that_ask_nobody_are_not_limited() -> None:
    async with Sandbox(rpm=1, clock=TurnedClock()) as sandbox:
        statuses = [(await chat(sandbox, X_Sandbox_Fault="500")).status for _ in range(3)]
        statuses += [(await chat(sandbox, X_Sandbox_Fault="empty-200")).status for _ in range(2)]
    assert statuses == [500, 500, 500, 200, 429]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.4664, "467ms"), (1, "1s"), (8.64, "8.64s"), (59.9999, "1m0s"), (60, "1m0s"), (360, "6m0s")],
)
def test_writes_times_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_any_key_is_let_in_or_none() -> None:
    async with Sandbox() as sandbox:
        assert [(await chat(sandbox, "sk-x")).status, (await ask(sandbox.url, LAST)).status] == [200, 200]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer sk-one"}, 200),
        ({"Authorization": "bearer  sk-two"}, 200),
        ({"api_key": "sk-one"}, 200),
        ({"Sec_WebSocket_Protocol": "realtime, openai-insecure-api-key.sk-two"}, 200),
        ({"Authorization": "Basic sk-one"}, 401),
        ({"Authorization": "Bearer sk-on"}, 401),
        ({"Authorization": "Bearer \xe9"}, 401),
        ({}, 401),
    ],
)
async def test_only_the_keys_that_are_set_are_let_in(headers: Plainly, status: int) -> None:
    async with Sandbox(keys=["sk-one", "sk-two"]) as sandbox:
        heard = await ask(sandbox.url, post(CHATS, CHAT, Connection="close", **headers))
        assert heard.status == status
        assert not sandbox.records[0].billed or status == 200


async def test_refuses_a_key_as_openai_does() -> None:
    async with Sandbox(keys=["sk-one"]) as sandbox:
        missing = error(await ask(sandbox.url, post(CHATS, CHAT, Connection="close")))
        short, long = error(await chat(sandbox, "sk-short")), error(await chat(sandbox, "sk-0123456789-0123456789"))
        spoilt = await chat(sandbox, "sk-short", X_Sandbox_Fault="500")
    assert (missing["type"], missing["code"]) == ("invalid_request_error", None)
    assert missing["message"].startswith("You didn't provide an API key.")
    assert (short["type"], short["code"], spoilt.status) == ("invalid_request_error", "invalid_api_key", 401)
    assert "provided: ********. " in short["message"]
    assert f"provided: sk-{'*' * 17}6789. " in long["message"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rpm", 0),
        ("ipm", 1.5),
        ("concurrent", True),
        ("kept", -1),
        ("keys", "sk"),
        ("keys", [""]),
        ("latency", "x"),
        ("latency", -1),
        ("latency", float("nan")),
        ("latency", True),
    ],
)
def test_says_which_setting_is_wrong(name: str, value: object) -> None:
    with pytest.raises(SandboxError, match=f"^{name} is "):
        Sandbox(**{name: value})  # type: ignore[arg-type]
