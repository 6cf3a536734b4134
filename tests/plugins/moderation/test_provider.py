"""Providers' own refusals: whoever judged the answer, and where nobody did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from plugins.failover import Failover
from plugins.moderation.audit import SPACE, Audit, Row
from plugins.moderation.verdict import About
from proxy.api import Exchange, Forward, Outcome, Plugin, Request, Response, Services
from proxy.testkit import Stage, answer

IMAGE, CHAT = "POST /v1/images/generations", "POST /v1/chat/completions"
ASK = {"model": "gpt-image-2", "prompt": "tea"}
TALK = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}
DRAWN = answer(json={"data": [{"b64_json": "iVBORw0KGgo" + "A" * 41}]})


class Noting(Plugin):
    """Notes what providers refuse."""

    looks: bool = False

    @property
    def reads(self) -> Collection[str]:
        return ("verdict",) if self.looks else ()

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        self.audit = Audit(services, mode="flag", retention=60.0)
        try:
            yield
        finally:
            await self.audit.aclose()

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        def ended(outcome: Outcome) -> None:
            row = Row(About(exchange.id, "ann"), exchange.route, bytes(16), "input", "passed")
            self.audit.provider(outcome, row)

        exchange.on_finish(ended)
        return await forward(request)


class Following(Plugin):
    """Has answers read to their ends, as who counts tokens does."""

    reads = ("usage",)

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        return await forward(request)


def refusal(code: str | None = "moderation_blocked", status: int = 400, **details: Any) -> Any:
    error = {"message": "Your request was refused.", "type": "image_generation_user_error", "param": None, "code": code}
    return answer(status, json={"error": {**error, **details}})


async def noted(stage: Stage, plugin: Noting) -> list[tuple[str, str, list[str]]]:
    await plugin.audit.aclose()
    rows = [orjson.loads(raw) for _, raw in await stage.services.store.items(SPACE)]
    assert {(row["decision"], row["mode"], row["caller"]) for row in rows} <= {("provider", "flag", "ann")}
    return sorted([(row["upstream"], row["stage"], row["categories"]) for row in rows])


DETAILS = {"moderation_stage": "output", "categories": ["violence", 7, "x" * 99]}
TOLD = ("main", "output", ["violence", "x" * 64])


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("by", ["nobody", "failover"])
async def test_a_refusal_is_noted_with_what_it_says_of_itself(by: str, looks: bool) -> None:
    plugin = Noting(looks=looks)
    inner = [Failover()] if by == "failover" else []
    async with Stage(plugin, *inner, upstream=refusal(moderation_details=DETAILS)) as stage:
        assert (await stage.play(IMAGE, json=ASK)).status == 400
        assert await noted(stage, plugin) == [TOLD]


@pytest.mark.parametrize(
    ("upstream", "status"),
    [
        (DRAWN, 200),
        (refusal("invalid_value"), 400),
        (refusal("rate_limit_exceeded", 429), 429),
        (answer(500, body=b"<html>"), 500),
        (answer(400, json={"error": []}), 400),
        (answer(400, body=b""), 400),
    ],
)
@pytest.mark.parametrize("looks", [False, True])
async def test_nothing_else_is_taken_for_one(upstream: Any, status: int, looks: bool) -> None:
    plugin = Noting(looks=looks)
    async with Stage(plugin, upstream=upstream) as stage:
        assert (await stage.play(IMAGE, json=ASK)).status == status
        assert await noted(stage, plugin) == []


@pytest.mark.parametrize("details", [[], "no", {"categories": "violence"}, {"categories": None}, {}])
async def test_what_is_said_in_no_known_form_is_noted_without_categories(details: Any) -> None:
    plugin = Noting()
    async with Stage(plugin, upstream=refusal(moderation_details=details)) as stage:
        await stage.play(IMAGE, json=ASK)
        assert await noted(stage, plugin) == [("main", "input", [])]


async def test_a_good_answer_that_ends_for_its_content_is_one_where_answers_are_read() -> None:
    cut = {"choices": [{"message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}]}
    one = [("main", "input", [])]
    for looks, inner, expected in ((True, [], one), (False, [], []), (False, [Failover()], one)):
        plugin = Noting(looks=looks)
        async with Stage(plugin, *inner, upstream=answer(json=cut)) as stage:
            assert (await stage.play(CHAT, json=TALK)).status == 200
            assert await noted(stage, plugin) == expected


@pytest.mark.parametrize("finish", ["stop", "content_filter", "refusal", "SAFETY", "JAILBREAK"])
@pytest.mark.parametrize("cut", [0, 150], ids=["whole", "in pieces"])
async def test_good_answers_are_refusals_by_how_they_end(finish: str, cut: int) -> None:
    plugin = Noting(looks=True)
    said = [{"message": {"role": "assistant", "content": "tea", "refusal": None}, "finish_reason": finish}]
    whole = orjson.dumps({"model": "gpt-5-mini", "choices": said, "error": None, "usage": {"total_tokens": 3}})
    pieces = [whole[:cut], whole[cut:]] if cut else [whole]
    upstream = answer(pieces=pieces, headers={"content-type": "application/json"})
    async with Stage(plugin, Following(), upstream=upstream) as stage:
        assert (await stage.play(CHAT, json=TALK)).body == whole
        assert len(await noted(stage, plugin)) == (finish != "stop")


async def test_each_upstream_that_refused_has_a_row() -> None:
    plugin = Noting()
    upstream = {"one": refusal(), "two": refusal(moderation_details=DETAILS)}
    async with Stage(plugin, Failover(on_safety=("two",)), upstream=upstream) as stage:
        assert (await stage.play(IMAGE, json=ASK)).status == 400
        # The answer of the first is handed on; what the second said of itself is gone.
        assert await noted(stage, plugin) == [("one", "input", []), ("two", "input", [])]


async def test_a_refusal_is_noted_although_another_upstream_answered() -> None:
    plugin = Noting()
    async with Stage(plugin, Failover(on_safety=("two",)), upstream={"one": refusal(), "two": DRAWN}) as stage:
        assert (await stage.play(IMAGE, json=ASK)).status == 200
        assert await noted(stage, plugin) == [("one", "input", [])]
