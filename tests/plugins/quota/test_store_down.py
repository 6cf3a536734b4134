"""The store can't be asked: what each policy promises, in bounded time, and all by itself when it is back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plugins.quota import Quota
from proxy.api import CALLER, StoreError
from proxy.testkit import Stage, answer

from .cases import ASK, IMAGE, ann, counted, drawn, limits, refusal


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How the store of this test is: "fine", "broken", or "stuck" until the event is set."""
    from proxy.store.sqlite import SQLiteStore

    state: dict[str, Any] = {"is": "fine", "moved": asyncio.Event()}
    real = SQLiteStore.tally

    async def tally(self: SQLiteStore, asked: Any) -> Any:
        if state["is"] == "broken":
            raise StoreError("disk I/O error")
        if state["is"] == "stuck":
            await state["moved"].wait()
        return await real(self, asked)

    monkeypatch.setattr(SQLiteStore, "tally", tally)
    return state


async def test_is_refused_by_default_with_words_and_nothing_is_sent(store: dict[str, Any]) -> None:
    async with Stage(Quota(), upstream=drawn(), facts={CALLER: ann(images="9 / 1m")}) as stage:
        store["is"] = "broken"
        played = await stage.play(IMAGE, json=ASK)
        assert (played.status, played.error["code"]) == (503, "database_operation_failed")
        assert "try again" in played.error["message"] and played.headers.get("x-should-retry") == "false"
        assert played.error["retryable"] is True and not stage.asked
        store["is"] = "fine"
        assert (await stage.play(IMAGE, json=ASK)).status == 200 and await counted(stage) == {"images": 1}


async def test_or_let_through_uncounted_and_the_log_says_so_once(store: dict[str, Any]) -> None:
    quota = Quota(on_store_error="allow")
    async with Stage(quota, upstream=drawn(), facts={CALLER: ann(images="1 / 1m")}) as stage:
        store["is"] = "broken"
        for _ in range(3):
            assert (await stage.play(IMAGE, json=ASK)).status == 200
        assert len([line for line in stage.log if line["event"] == "quota_store_away"]) == 1
        store["is"] = "fine"
        assert [(await stage.play(IMAGE, json=ASK)).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(("per", "whose"), [("key", "key"), ("all", "all")])
async def test_or_held_to_what_each_process_may_let_through_meanwhile(
    store: dict[str, Any], per: Any, whose: str
) -> None:
    quota = Quota(per=per, on_store_error="allow", fallback=limits(images="2 / 1m", concurrent=3))
    async with Stage(quota, upstream=drawn(), facts={CALLER: ann(requests="9 / 1m")}) as stage:
        store["is"] = "broken"
        asked = [await stage.play(IMAGE, json=ASK) for _ in range(3)]
        assert [played.status for played in asked] == [200, 200, 429]
        assert asked[2].error["param"] == f'{whose} limits.images "2 / 1m"'
        assert asked[0].headers.get("x-ratelimit-remaining-images") == "1"
        stage.clock.turn(62)
        assert (await stage.play(IMAGE, json=ASK)).status == 200


async def test_what_failed_gives_back_there_too(store: dict[str, Any]) -> None:
    quota = Quota(on_store_error="allow", fallback=limits(images="1 / 1m"))
    answers = [refusal(500), drawn(), drawn()]
    async with Stage(quota, upstream=answers, facts={CALLER: ann(requests="9 / 1m")}) as stage:
        store["is"] = "broken"
        assert [(await stage.play(IMAGE, json=ASK)).status for _ in range(3)] == [500, 200, 429]


async def test_a_store_that_stands_still_is_waited_for_no_longer_than_its_time(store: dict[str, Any]) -> None:
    async with Stage(Quota(), upstream=drawn(), facts={CALLER: ann(images="9 / 1m")}) as stage:
        store["is"] = "stuck"
        began = asyncio.get_running_loop().time()
        asked = await asyncio.gather(*[stage.play(IMAGE, json=ASK) for _ in range(5)])
        assert {played.status for played in asked} == {503} and not stage.asked
        assert asyncio.get_running_loop().time() - began < 5  # its time is one second; machines are slow
        store["is"] = "fine"
        store["moved"].set()
        assert (await stage.play(IMAGE, json=ASK)).status == 200 and await counted(stage) == {"images": 1}


async def test_what_was_held_when_it_went_away_is_settled_when_it_is_back(store: dict[str, Any]) -> None:
    gate = asyncio.Event()
    upstream = answer(wait=gate)
    async with Stage(Quota(), upstream=upstream, facts={CALLER: ann(concurrent=1, requests="9 / 1m")}) as stage:
        playing = stage.begin()
        await stage.reached()
        store["is"] = "broken"
        gate.set()
        await playing
        store["is"] = "fine"
        for _ in range(200):
            stage.clock.turn(0.3)
            if (left := await counted(stage)) == {"concurrent": 0, "requests": 1}:
                break
            await asyncio.sleep(0.01)
        assert left == {"concurrent": 0, "requests": 1}
