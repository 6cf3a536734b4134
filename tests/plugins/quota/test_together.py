"""Over real sockets, several processes and a real store: never more than may, and every place comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench import overspend
from plugins.quota import Quota
from proxy.api import CALLER
from proxy.core.claims import Claims
from proxy.sandbox import Sandbox
from proxy.store.sqlite import SQLiteStore
from proxy.testkit import Stage, TurnedClock
from proxy.testkit.house import Served, serve
from tests.end_to_end.process import serving
from tests.redis_server import RedisServer

from .cases import ann

ASK = {"model": "gpt-image-2", "prompt": "tea", "size": "64x64"}
ANN = "sk-ann-0123456789abcdef0123456789abcdef"
CONFIG = """
[upstreams.openai]
base_url = "{url}"
{more}
[keys.ann]
secret = "env:ANN"
limits = {{ {limits} }}
[[routes]]
match = "* /v1/*"
chain = ["keys", "quota", "failover"]
"""

EXACT = "round 1: 18 x 200, 182 x 429; 18 pictures drawn; cents over: 0; refused that would have fitted: 0"


def test_of_two_hundred_at_once_eighteen_fit_a_dollar_and_eighteen_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert overspend.main(["--rounds", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == EXACT


def test_and_in_redis_too(shared_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"redis://127.0.0.1:{shared_server.port}/0"
    assert overspend.main(["--rounds", "1", "--redis", url]) == 0
    assert capsys.readouterr().out.splitlines()[1] == EXACT


def test_the_figures_of_overspend_tell_too_much_from_too_little() -> None:
    over, short = overspend.Found({200: 20, 429: 180}, 20), overspend.Found({200: 15, 429: 185}, 15)
    assert (over.cents_over, over.refused_in_vain) == (6.0, 0)
    assert (short.cents_over, short.refused_in_vain) == (0, 3)


@asynccontextmanager
async def house(limits: str, more: str = "") -> AsyncIterator[tuple[Served, Sandbox, aiohttp.ClientSession]]:
    headers = {"Authorization": f"Bearer {ANN}"}
    async with Sandbox() as sandbox:
        config = CONFIG.format(url=sandbox.url, limits=limits, more=more)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            serve(config, environ={"ANN": ANN}) as served,
            aiohttp.ClientSession(f"{served.url}/v1/", headers=headers, connector=connector) as web,
        ):
            yield served, sandbox, web


async def concurrent(web: aiohttp.ClientSession) -> int:
    """How many are running, by the caller's own look."""
    async with web.get("framegate/limits") as told:
        rows = (await told.json())["data"]
        return next(int(row["used"]) for row in rows if row["resource"] == "concurrent")


async def free(web: aiohttp.ClientSession, seconds: float) -> None:
    """Wait until nothing counts as running."""
    async with asyncio.timeout(seconds):
        while await concurrent(web):
            await asyncio.sleep(0.05)


FAULTS = ("slow-first-byte=0.1", "cut-body", "reset", "500", "502-html", "stall-midstream=30", "slow-first-byte=30")


async def test_slots_come_back_whatever_becomes_of_answers_and_clients() -> None:
    timeouts = 'first_byte_timeout = "500ms"\nidle_timeout = "500ms"\n'
    async with house("concurrent = 5", timeouts) as (_, sandbox, web):
        sandbox.fault([*FAULTS, "ok"] * 10, times=1)

        async def ask(number: int) -> int:
            patience = aiohttp.ClientTimeout(total=0.15 if number % 3 == 0 else 20)
            with suppress(aiohttp.ClientError, TimeoutError):
                async with web.post("images/generations", json=ASK, timeout=patience) as heard:
                    await heard.read()
                    return heard.status
            return 0

        statuses: list[int] = []
        for wave in range(4):
            statuses += await asyncio.gather(*[ask(wave * 12 + number) for number in range(12)])
        assert statuses.count(429) and statuses.count(200) and statuses.count(0)
        await free(web, 5)
        assert sandbox.counters.most_in_flight <= 5
        sandbox.clear()
        assert await asyncio.gather(*[ask(1) for _ in range(5)]) == [200] * 5


async def test_never_more_at_the_sandbox_than_may() -> None:
    async with house("concurrent = 5") as (_, sandbox, web):
        sandbox.fault("slow-first-byte=0.2", times=None)

        async def ask() -> int:
            async with web.post("images/generations", json=ASK) as heard:
                await heard.read()
                return heard.status

        statuses = await asyncio.gather(*[ask() for _ in range(40)])
        assert (statuses.count(200), statuses.count(429)) == (5, 35)
        assert sandbox.counters.most_in_flight == 5


async def test_a_socket_holds_its_place_as_long_as_it_lasts() -> None:
    async with house("concurrent = 1") as (_, _, web):
        async with web.ws_connect("realtime?model=gpt-realtime") as socket:
            await socket.receive(timeout=5)
            assert await concurrent(web) == 1
            async with web.get("models") as refused:
                assert refused.status == 429
        await free(web, 5)


# --- a process that dies


async def test_what_a_dead_process_held_is_free_ten_seconds_later(tmp_path: Path) -> None:
    clock = TurnedClock()
    settings = f'[store]\nurl = "sqlite:{tmp_path}/one.db"\n'
    caller = ann(concurrent=5, budget="1 USD / day")
    async with Stage(Quota(), facts={CALLER: caller}, clock=clock, settings=settings) as stage:
        assert (await stage.play()).status == 200
        await stage.play(
            "GET /v1/framegate/limits"
        )  # what was used is told the store with the next claim, if not before
        lines = stage.services.quotas.bounds(caller, "* /v1/*", ()).lines
        store = SQLiteStore(tmp_path / "one.db", clock)
        dying = Claims(store, clock, stage.services.log, timeout=5)
        for number in range(5):
            assert (await dying.claim(f"d{number}", lines, (1, 100_000_000))).taken
        assert (await stage.play()).status == 429
        tasks = [task for task in (dying._pulse, dying._worker) if task is not None]
        for task in tasks:  # killed: no sign of life any more, and nothing is given back
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(4):
            clock.turn(2)
            assert (await stage.play()).status == 429
        clock.turn(3)
        assert (await stage.play()).status == 200
        told = (await stage.play("GET /v1/framegate/limits")).json()["data"]
        assert {row["resource"]: row["used"] for row in told} == {"concurrent": 0, "budget": 0}
        await store.aclose()


@pytest.mark.long
async def test_a_worker_that_is_killed_gives_all_back_within_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANN", ANN)
    async with Sandbox() as sandbox:
        sandbox.fault("slow-first-byte=60", times=None)
        more = '[server]\nlisten = "127.0.0.1:0"\nworkers = 2\n'
        config = CONFIG.format(url=sandbox.url, limits="concurrent = 5", more=more)
        async with serving(config, tmp_path) as (process, port):
            headers = {"Authorization": f"Bearer {ANN}"}
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            async with aiohttp.ClientSession(
                f"http://127.0.0.1:{port}/v1/", headers=headers, connector=connector
            ) as web:
                asked = [asyncio.create_task(_post(web)) for _ in range(5)]
                async with asyncio.timeout(10):
                    while await concurrent(web) < 5:
                        await asyncio.sleep(0.05)
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                os.kill(int(children[0]), signal.SIGKILL)
                held = 5
                loop = asyncio.get_running_loop()
                began = loop.time()
                while loop.time() - began < 11.5:
                    await asyncio.sleep(0.25)
                    held = await concurrent(web)
                lost = sum(task.done() for task in asked)
                assert 0 < lost < 5 and held == 5 - lost
                for task in asked:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
                await free(web, 5)
                assert sandbox.counters.most_in_flight <= 5


async def _post(web: aiohttp.ClientSession) -> Any:
    with suppress(aiohttp.ClientError):
        async with web.post("images/generations", json=ASK) as heard:
            return heard.status
    return None
