from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.core.callers import FRESH, SPACE, STALE, Callers, KeyRing
from proxy.model.errors import ProxyError, Rejected
from proxy.model.limit import NO_LIMITS, Limits
from proxy.model.slots import Caller
from proxy.model.store import StoreError
from proxy.store.sqlite import SQLiteStore
from proxy.store.vault import digester
from proxy.testkit import TurnedClock
from proxy.testkit.watch import LogKept


def hashed(key: str) -> bytes:
    return digester(b"p" * 32)(key)


class Ring:
    def __init__(self, store: SQLiteStore, clock: TurnedClock) -> None:
        self.store, self.clock = store, clock
        self.keys = KeyRing(store, clock, hashed)
        self.callers = self.another()

    def another(self) -> Callers:
        """As another process has them."""
        declared = [(hashed("declared-key"), Caller("web", "marketing"))]
        return Callers(self.store, self.clock, hashed, declared, {"build"})

    async def refused(self, key: str, callers: Callers | None = None) -> ProxyError:
        with pytest.raises(Rejected) as told:
            await (callers or self.callers).find(key)
        return told.value


@pytest.fixture
async def ring(tmp_path: Path) -> AsyncIterator[Ring]:
    clock = TurnedClock()
    store = SQLiteStore(tmp_path / "s.db", clock)
    yield Ring(store, clock)
    await store.aclose()


async def test_knows_declared_and_stored_keys(ring: Ring) -> None:
    key, record = await ring.keys.create("ci", group="build", tags={"team": "a"})
    assert key.startswith(f"sk-fg-{record.id}-")
    caller = await ring.callers.find(key)
    assert (caller.id, caller.group, caller.name) == (record.id, "build", "ci")
    assert await ring.callers.find("declared-key") == Caller("web", "marketing")


async def test_unknown_revoked_and_expired_get_the_same_answer(ring: Ring) -> None:
    revoked, record = await ring.keys.create("a")
    await ring.keys.revoke(record.id)
    expired, _ = await ring.keys.create("b", ttl=10)
    ring.clock.turn(11)
    forged = revoked[:-1] + ("A" if revoked[-1] != "A" else "B")
    said = set()
    for key in (revoked, expired, forged, "sk-nonsense", "x" * 100_000, "' OR 1=1 --", "\udcff"):
        error = await ring.refused(key)
        said.add((error.message, error.status, error.code, error.type))
    assert said == {("This API key is not valid.", 401, "invalid_api_key", "authentication_error")}


async def test_a_revoked_key_is_dead_everywhere_within_five_seconds(ring: Ring) -> None:
    key, record = await ring.keys.create("a")
    others = [ring.another() for _ in range(3)]
    for callers in others:
        await callers.find(key)
    await ring.keys.revoke(record.id)
    ring.clock.turn(FRESH + 0.1)
    assert FRESH < 5
    for callers in others:
        await ring.refused(key, callers)


async def test_rotation_lets_the_old_text_live_for_its_grace(ring: Ring) -> None:
    old, record = await ring.keys.create("a")
    new, _ = await ring.keys.rotate(record.id, grace=60)
    assert old != new and (await ring.callers.find(old)).id == (await ring.callers.find(new)).id == record.id
    ring.clock.turn(61)
    await ring.refused(old)
    assert (await ring.callers.find(new)).id == record.id


async def test_a_second_rotation_ends_the_first_text(ring: Ring) -> None:
    first, record = await ring.keys.create("a")
    await ring.keys.rotate(record.id, grace=60)
    await ring.keys.rotate(record.id, grace=60)
    await ring.refused(first)


async def test_a_hiccup_of_the_store_refuses_nobody_who_was_known(ring: Ring) -> None:
    key, _ = await ring.keys.create("a")
    await ring.callers.find(key)
    await ring.store.aclose()
    ring.clock.turn(FRESH + 1)
    await ring.callers.find(key)
    with pytest.raises(StoreError):
        await ring.callers.find("sk-fg-aaaaaaaaaa-" + "x" * 40)
    ring.clock.turn(STALE)
    with pytest.raises(StoreError):
        await ring.callers.find(key)


async def test_a_record_that_speaks_of_another_key_is_no_answer(ring: Ring) -> None:
    one, first = await ring.keys.create("a")
    _, second = await ring.keys.create("b")
    raw = await ring.store.get(SPACE, second.id)
    assert raw is not None
    await ring.store.put(SPACE, first.id, raw)
    with pytest.raises(StoreError, match="another key's record"):
        await ring.callers.find(one)


async def test_lists_all_and_shows_no_secret(ring: Ring) -> None:
    made = [await ring.keys.create(f"key {i}") for i in range(5)]
    listed = await ring.keys.all()
    assert {record.id for record in listed} == {record.id for _, record in made}
    shown = repr(listed)
    assert all(key not in shown and key.rpartition("-")[2] not in shown for key, _ in made)


async def test_speaks_of_a_key_that_is_not_there(ring: Ring) -> None:
    with pytest.raises(KeyError):
        await ring.keys.revoke("aaaaaaaaaa")
    with pytest.raises(KeyError):
        await ring.keys.rotate("aaaaaaaaaa", grace=0)


async def test_a_rotation_never_brings_a_revoked_key_back(ring: Ring) -> None:
    for _ in range(20):
        key, record = await ring.keys.create("a")
        await asyncio.gather(ring.keys.rotate(record.id, grace=60), ring.keys.revoke(record.id), return_exceptions=True)
        assert (await ring.keys.get(record.id)).state == "revoked"
        await ring.refused(key)


async def test_a_stored_key_has_its_limits_and_an_old_record_has_none(ring: Ring) -> None:
    limits = Limits.read({"images": ["20 / 1m"], "concurrent": 5, "budget": "25 USD / month"})
    key, record = await ring.keys.create("a", limits=limits)
    assert (await ring.callers.find(key)).limits == limits
    await ring.keys.rotate(record.id, grace=10)
    assert (await ring.another().find(key)).limits == limits
    old, record = await ring.keys.create("b")
    raw = orjson.loads(record.dump())
    del raw["limits"]
    await ring.store.put(SPACE, record.id, orjson.dumps(raw))
    assert (await ring.callers.find(old)).limits == NO_LIMITS


@pytest.mark.parametrize(
    "limits", [{"images": ["20 / 1x"]}, {"pixels": ["20 / 1m"]}, {"images": 20}, {"concurrent": 0}, {"concurrent": "5"}]
)
async def test_a_key_whose_limits_cant_be_read_is_refused_and_never_without_limits(ring: Ring, limits: Any) -> None:
    key, record = await ring.keys.create("a")
    await ring.store.put(SPACE, record.id, replace(record, limits=limits).dump())
    log = LogKept()
    callers = Callers(ring.store, ring.clock, hashed, [], set(), log)
    for _ in range(2):
        with pytest.raises(ProxyError) as told:
            await callers.find(key)
        assert (told.value.status, told.value.code) == (503, "api_key_touch_failed")
    assert log.lines[0]["event"] == "key_unreadable" and "its limits can't be read" in log.lines[0]["reason"]
    await ring.keys.revoke(record.id)
    assert (await ring.keys.get(record.id)).limits == limits  # nor does a change of it lose them


async def test_a_key_of_a_group_that_is_gone_falls_back_on_nothing(ring: Ring) -> None:
    key, _ = await ring.keys.create("a", group="gone")
    error = await ring.refused(key)
    assert (error.status, error.code, error.param) == (403, "permission_denied", "group")
