"""`GET /v1/framegate/limits` tells a caller what there is, and asks nobody else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from plugins.keys import Keys
from plugins.quota import Quota
from proxy.api import CALLER, Caller
from proxy.testkit import Stage

from .cases import ASK, CHAT, IMAGE, PRICES, ann, drawn, limits

PATH = "/v1/framegate/limits"
KEYS = '[keys.ann]\nsecret = "env:ANN"\nlimits = { images = "9 / 1m" }\n'
ANN = "sk-ann-0123456789abcdef0123456789abcdef"


async def test_tells_every_limit_what_is_used_of_it_and_when_that_ends() -> None:
    caller = ann("marketing", images=["4 / 1m", "100 / day"], budget="1 USD / month", concurrent=2)
    settings = PRICES + '[groups.marketing]\nlimits = { requests = "50 / 1h" }\n'
    quota = Quota(per="all", limits=limits(tokens="1M / 1h"))
    async with Stage(quota, upstream=drawn(), facts={CALLER: caller}, settings=settings) as stage:
        await stage.play(IMAGE, json={**ASK, "quality": "medium"})
        played = await stage.play(f"GET {PATH}")
        assert (played.status, played.headers.get("cache-control")) == (200, "no-store")
        rows = {(row["scope"], row["limit"]): row for row in played.json()["data"]}
        minute, day = rows["key", "4 / 1m"], rows["key", "100 / day"]
        assert [minute[name] for name in ("resource", "most", "used", "remaining")] == ["images", 4, 1, 3]
        assert 59 <= minute["resets_in"] <= 61 and (day["used"], day["remaining"]) == (1, 99)
        midnight = datetime.fromisoformat(day["resets_at"])
        assert (midnight.hour, midnight.minute, midnight.tzinfo) == (0, 0, UTC)
        money = rows["key", "1 USD / month"]
        assert [money[name] for name in ("most", "used", "remaining")] == [1.0, 0.053, 0.947]
        assert rows["key", "2"] == {
            "scope": "key",
            "resource": "concurrent",
            "limit": "2",
            "most": 2,
            "used": 0,
            "remaining": 2,
            "resets_in": None,
            "resets_at": None,
        }
        assert rows["group", "50 / 1h"]["used"] == 1 and rows["all", "1000000 / 1h"]["used"] > 0
        assert len(stage.asked) == 1  # for the picture


async def test_looking_takes_nothing_and_is_never_refused() -> None:
    async with Stage(Quota(), facts={CALLER: ann(requests="1 / 1m")}) as stage:
        await stage.play()
        for _ in range(3):
            assert (await stage.play(f"GET {PATH}")).json()["data"][0]["remaining"] == 0
        assert len(stage.asked) == 1


async def test_without_limits_the_list_is_empty() -> None:
    async with Stage(Quota(), facts={CALLER: Caller("dan")}) as stage:
        assert (await stage.play(f"GET {PATH}")).json() == {"object": "list", "data": []}
        assert (await stage.play(f"HEAD {PATH}")).body == b"" and not stage.asked


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_it_can_only_be_read(method: str) -> None:
    async with Stage(Quota(), facts={CALLER: Caller("dan")}) as stage:
        played = await stage.play(f"{method} {PATH}")
        assert (played.status, played.error["code"]) == (405, "method_not_allowed")
        assert played.headers.get("allow") == "GET, HEAD" and not stage.asked


async def test_what_only_looks_like_it_goes_on() -> None:
    async with Stage(Quota(), facts={CALLER: Caller("dan")}) as stage:
        for path in (f"{PATH}s", f"{PATH}/x", "/v1/framegate"):
            await stage.play(f"GET {path}")
        assert [asked.target for asked in stage.asked] == [f"{PATH}s", f"{PATH}/x", "/v1/framegate"]


async def test_an_inference_key_may_ask_and_nobody_without_a_key() -> None:
    async with Stage(Keys(), Quota(), settings=KEYS, environ={"ANN": ANN}) as stage:
        headers = {"authorization": f"Bearer {ANN}"}
        assert (await stage.play(f"GET {PATH}", headers=headers)).json()["data"][0]["limit"] == "9 / 1m"
        assert (await stage.play(f"POST {PATH}", headers=headers)).status == 405
        assert (await stage.play(f"GET {PATH}")).status == 401


async def test_a_key_for_some_models_may_ask_too() -> None:
    settings = KEYS + 'models = ["gpt-image-*"]\n'
    async with Stage(Keys(), Quota(), settings=settings, environ={"ANN": ANN}) as stage:
        headers = {"authorization": f"Bearer {ANN}"}
        assert (await stage.play(f"GET {PATH}?model=gpt-image-2", headers=headers)).status == 200
        assert (await stage.play(f"GET {PATH}?model=o9", headers=headers)).status == 403
        assert (await stage.play(CHAT, json={"model": "o9"}, headers=headers)).status == 403
