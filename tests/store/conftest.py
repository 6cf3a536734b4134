"""Every store that there is, opened as several processes would open it, with a clock that tests turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.model.quota import Claim, Line, Tally
from proxy.model.redis import RedisAt, RedisUrl
from proxy.model.store import Store
from proxy.store.sqlite import SQLiteStore
from proxy.testkit import TurnedClock

from ..redis_server import RedisServer

if TYPE_CHECKING:
    from proxy.store.redis import RedisStore

Open = Callable[[], Awaitable[Store]]
KINDS = ("sqlite", "redis")
PATIENT = 20.0  # seconds: more than a busy machine takes
Door = Callable[..., "RedisStore"]


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


@pytest.fixture
async def door(prefix: str, clock: TurnedClock) -> AsyncIterator[Door]:
    """Opens a store at a URL."""
    from proxy.store.redis import RedisStore

    doors: list[RedisStore] = []

    def open_door(url: str, *, timeout: float = PATIENT, testing: bool = True, **others: object) -> RedisStore:
        at = RedisAt(RedisUrl.parse(url), prefix=prefix, timeout=timeout, **others)  # type: ignore[arg-type]
        doors.append(RedisStore(at, clock, testing=testing))
        return doors[-1]

    yield open_door
    for one in doors:
        await one.aclose()


async def took(store: Store, id: str, line: Line, amount: int, holder: str = "one") -> bool:
    answer = (await store.tally(Tally(holder, [Claim(id, [line], [amount])]))).answers[0]
    assert answer is not None
    return answer.taken
