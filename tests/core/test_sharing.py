"""What one process finds out of an upstream, all that share its store go by."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.health import Health
from proxy.model.store import StoreError
from proxy.store.sqlite import SQLiteStore
from proxy.testkit import TurnedClock

from .test_health import Still, by, made


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """A store on disk."""
    made = SQLiteStore(tmp_path / "store.db", TurnedClock())
    yield made
    await made.aclose()


async def settled(*halves: Health) -> None:
    """Let everything be written, then read."""
    for health in halves:
        assert health._sharing._writes is not None
        while health._sharing._writes.qsize() or any(health._sharing._fresh.values()):
            await asyncio.sleep(0.001)
    for health in halves:
        await health._sharing._read()


async def test_what_one_finds_out_the_others_know_and_only_one_probes(store: SQLiteStore) -> None:
    clock = Still()
    one, two = made(store, clock)[0], made(store, clock)[0]
    async with one.sharing(), two.sharing():
        for _ in range(5):
            one.failed(by("a"), "text", "breaker")
        await settled(one, two)
        assert two.standing("a", "text").why == "breaker"
        clock.turn(10)
        probes = 0
        for _ in range(4):  # the first of each asks the store whether it may; who may goes the next time
            probes += sum(health.enter("a", "text") for health in (one, two))
            await settled(one, two)
        assert probes == 1
        prober, other = (one, two) if one._granted else (two, one)
        prober.passed(by("a"), "text", 0.1)
        await settled(one, two)
        assert other.standing("a", "text").usable and other.enter("a", "text") and other.enter("a", "text")


async def test_a_store_that_is_gone_is_said_once_and_each_goes_by_what_it_sees() -> None:
    class Gone:
        async def put(self, *_: Any, **__: Any) -> bool:
            raise StoreError("no store")

        async def items(self, *_: Any) -> list[tuple[str, bytes]]:
            raise StoreError("no store")

        async def delete(self, *_: Any) -> bool:
            raise StoreError("no store")

    health, _, log = made(Gone())
    async with health.sharing():
        for _ in range(5):
            health.failed(by("a"), "text", "breaker")
        await health._sharing._try(health._sharing._read)
    assert not health.standing("a", "text").usable
    assert [line["event"] for line in log.lines].count("health_not_shared") == 1


OPENER = """
import asyncio, sys
from pathlib import Path
from time import perf_counter
from proxy.core.clock import SystemClock
from proxy.core.credential import Credential
from proxy.core.health import Health
from proxy.model.exchange import Attempt
from proxy.store.sqlite import SQLiteStore
from proxy.testkit.watch import LogKept

async def main():
    clock = SystemClock()
    store = SQLiteStore(Path(sys.argv[1]), clock)
    health = Health(store, clock, LogKept())
    async with health.sharing():
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        if (await loop.run_in_executor(None, sys.stdin.readline)).strip() == "open":
            for _ in range(5):
                health.failed(Attempt("a"), "text", "breaker")
            began = clock.wall()
        while health.standing("a", "text").usable:
            await asyncio.sleep(0.01)
        print(clock.wall(), flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
    await store.aclose()

asyncio.run(main())
"""


async def test_a_breaker_that_one_process_opened_holds_in_three_within_a_second(tmp_path: Path) -> None:
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            OPENER,
            str(tmp_path / "store.db"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        for process, word in zip(running, ("open", "wait", "wait"), strict=True):
            assert process.stdin is not None
            process.stdin.write(f"{word}\n".encode())
        heard = [float(await process.stdout.readline()) for process in running if process.stdout is not None]
        assert max(heard) - heard[0] < 1.0, heard
    finally:
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


async def test_of_two_pauses_the_longer_holds_for_all(store: SQLiteStore) -> None:
    clock = Still()
    one, two, three = (made(store, clock)[0] for _ in range(3))
    async with one.sharing(), two.sharing(), three.sharing():
        one.failed(by("a"), "text", "retry_after", retry_after=300)
        await settled(one)
        two.failed(by("a"), "text", "retry_after", retry_after=3)
        await settled(one, two, three)
        assert all(health.standing("a", "text").wait >= 300 for health in (one, two, three))
