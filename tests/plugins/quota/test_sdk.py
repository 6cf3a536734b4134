"""What the users of both official SDKs hear of limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from proxy.sandbox import Sandbox
from proxy.testkit import TurnedClock
from proxy.testkit.house import Served, serve

NODE = Path(__file__).parent.parent.parent / "node"
ANN = "sk-ann-0123456789abcdef0123456789abcdef"
CONFIG = """
[upstreams.openai]
base_url = "{url}"
[keys.ann]
secret = "env:ANN"
limits = {{ images = ["2 / 1h"], budget = "0.20 USD / month" }}
[prices]
"gpt-image-2" = {{ low = 0.006, medium = 0.053, high = 0.211 }}
[[routes]]
match = "* /v1/*"
chain = ["keys", "quota", "failover"]
"""
ASK: Any = {"model": "gpt-image-2", "prompt": "tea", "size": "64x64", "quality": "medium"}
IMAGES = {"code": "rate_limit_exceeded", "type": "images", "param": 'key limits.images "2 / 1h"'}
BUDGET = {
    "code": "insufficient_quota",
    "type": "insufficient_quota",
    "param": 'key limits.budget "0.20 USD / month"',
}
House = tuple[Served, Sandbox, TurnedClock]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock = TurnedClock()
    async with Sandbox() as sandbox:
        async with serve(CONFIG.format(url=sandbox.url), environ={"ANN": ANN}, clock=clock) as served:
            yield served, sandbox, clock


def client(house: House, **settings: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{house[0].url}/v1", api_key=ANN, **settings)


async def test_python(house: House) -> None:
    async with client(house) as ann:
        raw = await ann.images.with_raw_response.generate(**ASK)
        assert raw.headers["x-ratelimit-remaining-images"] == "1"
        assert raw.headers["x-ratelimit-reset-images"].startswith(("59m", "1h0m"))
        for more, expected in (({"n": 2}, IMAGES), ({"n": 8}, IMAGES), ({"quality": "high"}, BUDGET)):
            with pytest.raises(openai.RateLimitError) as caught:
                await ann.images.generate(**{**ASK, **more})
            error = caught.value
            assert {"code": error.code, "type": error.type, "param": error.param} == expected
            if expected is BUDGET:
                assert isinstance(error.body, dict) and error.body["scope"] == "key"
        left = await ann.get("/framegate/limits", cast_to=object)
        assert isinstance(left, dict) and {row["resource"]: row["remaining"] for row in left["data"]} == {
            "images": 1,
            "budget": 0.147,
        }
    assert house[1].counters.requests == 1  # and no SDK has tried again in vain


async def test_node(house: House, needs: Callable[[str], str], installed: Callable[[str], None]) -> None:
    node = needs("node")
    installed(needs("npm"))
    url = f"{house[0].url}/v1"
    ran = await asyncio.create_subprocess_exec(node, "quota.mjs", url, ANN, cwd=NODE, stdout=asyncio.subprocess.PIPE)
    said, _ = await ran.communicate()
    assert ran.returncode == 0
    told = json.loads(said)
    refused = {"kind": "RateLimitError", "status": 429}
    assert told == {
        "first": "fine",
        "images": refused | IMAGES,
        "never": refused | IMAGES,
        "budget": refused | BUDGET,
    }
    assert house[1].counters.requests == 1


async def test_the_sdk_waits_as_long_as_it_is_told_and_is_served(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    clock = house[2]

    async def slept(seconds: float) -> None:
        waits.append(seconds)
        clock.turn(seconds)

    monkeypatch.setattr("anyio.sleep", slept)
    async with client(house) as ann:
        await ann.images.generate(**{**ASK, "quality": "low", "n": 2})
        left: Any = await ann.get("/framegate/limits", cast_to=object)
        clock.turn(next(row["resets_in"] for row in left["data"] if row["resource"] == "images") - 20)
        await ann.images.generate(**{**ASK, "quality": "low", "n": 2})
    assert len(waits) == 1 and 15 < waits[0] <= 21
