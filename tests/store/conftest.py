"""Every store that there is, and more than one door to it, as several processes have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from proxy.model.store import Store
from proxy.store.sqlite import SQLiteStore
from proxy.testkit import TurnedClock

Open = Callable[[], Awaitable[Store]]


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture(params=["sqlite"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path, clock: TurnedClock) -> AsyncIterator[Open]:
    """Opens one more door to the same store, as another process would."""
    doors: list[Store] = []

    async def door() -> Store:
        store = SQLiteStore(tmp_path / "state" / "framegate.db", clock)
        doors.append(store)
        return store

    yield door
    for one in doors:
        await one.aclose()


@pytest.fixture
async def store(opened: Open) -> Store:
    return await opened()
