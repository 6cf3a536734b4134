"""What requests hold of limits while Redis stalls, is cut off, comes back empty, and those who ask leave."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from proxy.core.claims import Claims
from proxy.core.clock import SystemClock
from proxy.model.quota import Claim, Line, Tally
from proxy.model.redis import RedisAt, RedisUrl
from proxy.model.store import StoreError
from proxy.store.redis import RedisStore

from ..redis_server import RedisServer
from .slow import SlowProxy

SLOTS = Line("all concurrent", 5)
IMAGES = Line("all images 1h", 10**6, window=3_600_000)
TIMEOUT = 0.4


class Quiet:
    """A log that nobody reads."""

    def __getattr__(self, name: str) -> Any:
        return lambda *words, **more: None


@pytest.fixture
async def proxy(own_server: RedisServer) -> AsyncIterator[SlowProxy]:
    made = await SlowProxy(own_server.port).start()
    yield made
    await made.stop()


def opened(port: int, timeout: float = TIMEOUT) -> RedisStore:
    return RedisStore(RedisAt(RedisUrl.parse(f"redis://127.0.0.1:{port}"), timeout=timeout), SystemClock())


class Running:
    """How many run, in all processes together."""

    now = most = 0


class Crowd:
    """Requests that come, hold what they took for a moment, and of which some leave."""

    def __init__(self, claims: Claims, running: Running, seed: int) -> None:
        self._claims = claims
        self._running = running
        self._dice = random.Random(seed)
        self.taken = self.refused = self.failed = self.used = 0
        self.longest = 0.0
        self.ending = False

    async def run(self, size: int) -> None:
        await asyncio.gather(*(self._caller(number) for number in range(size)))

    async def _caller(self, number: int) -> None:
        turn = 0
        while not self.ending:
            task = asyncio.ensure_future(self._request(f"{number}.{(turn := turn + 1)}"))
            if self._dice.random() < 0.2:
                await asyncio.sleep(self._dice.random() / 50)
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _request(self, id: str) -> None:
        began = time.monotonic()
        try:
            answer = await self._claims.claim(id, (SLOTS, IMAGES), (1, 1))
        except StoreError:
            self.failed += 1
            await asyncio.sleep(0.01)
            return
        finally:
            self.longest = max(self.longest, time.monotonic() - began)
        if not answer.taken:
            self.refused += 1
            await asyncio.sleep(0.005)
            return
        self.taken += 1
        self._running.now += 1
        self._running.most = max(self._running.most, self._running.now)
        try:
            await asyncio.sleep(self._dice.random() / 100)
        finally:
            self._running.now -= 1
            self.used += 1
            self._claims.settle(id, (SLOTS, IMAGES), (0, 1))


async def trouble(proxy: SlowProxy, server: RedisServer, dice: random.Random) -> None:
    """Four seconds in which nothing is lost, and little goes well."""
    until = time.monotonic() + 4
    while time.monotonic() < until:
        match dice.randrange(5):
            case 0:
                proxy.cut()
            case 1:
                server.pause()
                await asyncio.sleep(dice.random() * TIMEOUT * 2)
                server.resume()
            case 2:
                proxy.going.clear()
                await asyncio.sleep(dice.random() * TIMEOUT * 2)
                proxy.going.set()
            case 3:
                proxy.delay = lambda: dice.random() * TIMEOUT / 2
                await asyncio.sleep(0.2)
                proxy.delay = lambda: 0.0
        await asyncio.sleep(dice.random() / 5)


async def test_never_more_than_the_limit_and_nothing_stays_held(own_server: RedisServer, proxy: SlowProxy) -> None:
    stores = [opened(proxy.port), opened(proxy.port)]  # as of two processes
    claims = [Claims(store, SystemClock(), Quiet(), timeout=TIMEOUT) for store in stores]
    running = Running()
    crowds = [Crowd(one, running, seed) for seed, one in enumerate(claims)]
    at_work = [asyncio.ensure_future(crowd.run(15)) for crowd in crowds]
    await trouble(proxy, own_server, random.Random(4))
    for crowd in crowds:
        crowd.ending = True
    await asyncio.gather(*at_work)
    looks = opened(own_server.port, timeout=20.0)
    until = time.monotonic() + 20
    while True:
        answer = (await looks.tally(Tally("looks", [Claim("", (SLOTS, IMAGES), (0, 0))]))).answers[0]
        assert answer is not None
        if answer.levels == (0, sum(crowd.used for crowd in crowds)):
            break
        assert time.monotonic() < until, (answer.levels, [vars(crowd) for crowd in crowds])
        await asyncio.sleep(0.05)
    assert running.most == SLOTS.ceiling
    assert all(crowd.longest < 3 * TIMEOUT + 1 for crowd in crowds)  # a busy machine's own delays included
    assert min(crowd.taken for crowd in crowds) > 10 and sum(crowd.failed for crowd in crowds) > 10
    for one in claims:
        await one.aclose()
    for store in (*stores, looks):
        await store.aclose()


@pytest.mark.parametrize("lost", ["flushed", "restarted"])
async def test_who_lost_all_counts_what_ends_and_goes_on(own_server: RedisServer, proxy: SlowProxy, lost: str) -> None:
    store = opened(proxy.port)
    claims = Claims(store, SystemClock(), Quiet(), timeout=TIMEOUT)
    crowd = Crowd(claims, Running(), 7)
    at_work = asyncio.ensure_future(crowd.run(15))
    await asyncio.sleep(0.5)
    if lost == "flushed":
        own_server.ask("FLUSHALL")
        own_server.ask("SCRIPT", "FLUSH")
    else:
        own_server.stop()
        await asyncio.sleep(0.2)
        own_server.start()
    before = crowd.taken
    while crowd.taken < before + 20:
        await asyncio.sleep(0.01)
    crowd.ending = True
    await at_work
    until = time.monotonic() + 20
    looks = opened(own_server.port, timeout=20.0)
    while True:
        answer = (await looks.tally(Tally("looks", [Claim("", (SLOTS,), (5,))]))).answers[0]
        assert answer is not None
        if answer.levels == (0,) and answer.waits == (0,):
            break
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    assert crowd.longest < 3 * TIMEOUT + 1
    await claims.aclose()
    await store.aclose()
    await looks.aclose()
