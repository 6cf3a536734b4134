"""Many requests at once: an upstream that refuses all, and one that comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from plugins.failover import Failover
from proxy.api import UpstreamError
from proxy.testkit import Stage, TurnedClock, answer
from tests.end_to_end.process import command, serving

from .test_round import CHAT, TALK, WORDS

RAMP = 500  # requests a second
FEW = 50  # that may reach an upstream which refuses all


@pytest.mark.parametrize("requests", [300, pytest.param(1000, marks=pytest.mark.long)])
async def test_none_of_many_fails_and_few_reach_the_one_that_refuses(requests: int, tmp_path: Path) -> None:
    """House and upstreams are processes of their own, for a client of a thousand tasks keeps its own loop busy."""
    async with command("sandbox", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0") as sandbox:
        url = (await sandbox.line()).split()[-1]
        control = (await sandbox.line()).split()[-1]
        config = (
            f'[upstreams.bad]\nbase_url = "{url}"\nheaders = {{ "x-sandbox-fault" = "429" }}\n'
            f'[upstreams.good]\nbase_url = "{url}"\n'
            '[[routes]]\nmatch = "* /v1/*"\nchain = ["failover"]\n[log]\nexchanges = false\n'
        )
        async with serving(config, tmp_path) as (_, port):
            async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-mine") as client:

                async def one(number: int) -> bool:
                    await asyncio.sleep(number / RAMP)  # the ramp is the question, not a wait
                    said = await client.chat.completions.create(
                        model="gpt-5-mini", messages=[{"role": "user", "content": f"hello {number}"}]
                    )
                    return bool(said.choices[0].message.content)

                assert all(await asyncio.gather(*map(one, range(requests))))
        async with aiohttp.ClientSession() as session, session.get(f"{control}/counters") as answer:
            counters = await answer.json()
        assert counters["billed"] == requests
        assert counters["faults"]["429"] <= FEW, counters


class Still(TurnedClock):
    """Stands still unless it is turned, so that a machine that is busy makes no difference."""

    def now(self) -> float:
        return self._ahead


@pytest.mark.parametrize("rate", [60, pytest.param(200, marks=pytest.mark.long)])
async def test_an_upstream_that_comes_back_is_not_run_over(rate: int) -> None:
    """Ten seconds of outage at so many requests a second; time is turned, so that the test takes but a few seconds."""
    clock = Still()
    began = clock.now()
    reached: Counter[int] = Counter()  # calls of the first upstream in each tenth of a second

    def now() -> float:
        return clock.now() - began

    def first(asked: Any) -> Any:
        reached[int(now() * 10)] += 1
        if 5 <= now() < 15:
            return UpstreamError("connection refused", sent=False)
        return answer(json=WORDS)

    async with Stage(Failover(), upstream={"first": first, "second": answer(json=WORDS)}, clock=clock) as stage:
        health: Any = stage.services.upstreams.health
        number = 0
        while now() < 30:
            due = number / rate
            number += 1
            if due > now():
                clock.turn(due - now())
            assert (await stage.play(CHAT, json=TALK)).status == 200
            while any(health._sharing._fresh.values()):  # time stands still, so the store may take what it needs
                await asyncio.sleep(0.001)
        assert [line["event"] for line in stage.log].count("upstream_back") == 1
    steady = rate / 10
    assert all(count <= 2 * steady for tenth, count in reached.items() if tenth >= 150), reached
    assert sum(count for tenth, count in reached.items() if 50 <= tenth < 150) <= 30, "few find out that it is down"
    last = [reached[tenth] for tenth in range(290, 299)]
    assert sum(last) >= 0.8 * steady * len(last), "back to order within fifteen seconds"
