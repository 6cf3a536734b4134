"""The ways to a Redis: a socket, a password, sentinels, a cluster, TLS."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.model.quota import Line
from proxy.model.redis import RedisAt, RedisUrl
from proxy.model.store import Add, StoreError
from proxy.model.values import Secret

from ..redis_server import RedisServer
from ..wire.authority import Authority
from .conftest import PATIENT, Door, took
from .slow import SlowProxy

SLOTS = Line("key:a concurrent", 2)
IMAGES = Line("key:a images 1m", 5, window=60_000)


# --- ways to it


async def test_a_socket_and_a_database_of_its_own(own_server: RedisServer, door: Door, prefix: str) -> None:
    store = door(f"unix://{own_server.path}?db=3")
    await store.put("keys", "a", b"1")
    assert await store.get("keys", "a") == b"1"
    assert await door(own_server.url).get("keys", "a") is None
    assert own_server.ask("EXISTS", f"{{{prefix}}}:records:keys", db=3) == 1


async def test_a_password_is_given_and_never_told(own_server: RedisServer, door: Door, prefix: str) -> None:
    rights = (f"~{{{prefix}}}:*", "+@all", "-@dangerous", "+role", "+cluster|slots")  # as docs/store.md has them
    own_server.ask("ACL", "SETUSER", "gate", "on", ">hunter22", *rights)
    own_server.ask("CONFIG", "SET", "requirepass", "other")
    store = door(own_server.url, username="gate", password=Secret("hunter22"))
    assert await store.put("keys", "a", b"1", ttl=9) and await took(store, "1", IMAGES, 1)
    assert (await store.add(Add("a", 1))).done and await store.items("keys") == [("a", b"1")]
    wrong = door(own_server.url, username="gate", password=Secret("hunter23"))
    for one in (wrong, door(own_server.url)):
        with pytest.raises(StoreError, match="could not be read") as told:
            await one.get("keys", "a")
        assert "hunter" not in repr((told.value, told.value.__cause__))
    assert "hunter" not in repr(RedisAt(RedisUrl.parse(own_server.url), password=Secret("hunter22")))


async def test_a_closed_store_says_so(shared_server: RedisServer, door: Door) -> None:
    store = door(shared_server.url)
    await store.get("a", "b")
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        await store.get("a", "b")


async def test_closing_waits_for_what_runs(shared_server: RedisServer, door: Door) -> None:
    store = door(shared_server.url)
    puts = [asyncio.ensure_future(store.put("keys", str(i), b"1")) for i in range(20)]
    await asyncio.sleep(0)
    await store.aclose()
    assert await asyncio.gather(*puts) == [True] * 20


# --- several servers


async def test_the_master_is_found_by_sentinels_and_anew_after_a_failover(
    redis_program: str, tmp_path: Path, door: Door
) -> None:
    with ExitStack() as running:
        first = RedisServer(redis_program, tmp_path / "first")
        running.callback(first.stop)
        second = RedisServer(redis_program, tmp_path / "second", f"replicaof 127.0.0.1 {first.port}")
        running.callback(second.stop)
        lines = (f"sentinel monitor house 127.0.0.1 {first.port} 1", "sentinel down-after-milliseconds house 60000")
        sentinel = RedisServer(redis_program, tmp_path / "sentinel", *lines, sentinel=True)
        running.callback(sentinel.stop)
        # One that is dead is named first, and one that answers nothing.
        deaf = await SlowProxy(sentinel.port).start()
        deaf.going.clear()
        hosts = f"127.0.0.1:1,127.0.0.1:{deaf.port},127.0.0.1:{sentinel.port}"
        store = door(f"redis+sentinel://{hosts}/house/0")
        assert await store.put("keys", "a", b"1")
        assert first.ask("DBSIZE") > 0
        with pytest.raises(StoreError):
            await door(f"redis+sentinel://{hosts}/nobody/0", timeout=1).get("keys", "a")
        # What a failover does, without the seconds that sentinels take to agree on it.
        second.ask("REPLICAOF", "NO", "ONE")
        first.ask("REPLICAOF", "127.0.0.1", second.port)
        with pytest.raises(StoreError, match="could not be read or written"):
            await store.put("keys", "b", b"2")  # the sentinel has not heard yet, and names one that says it is none
        sentinel.ask("SENTINEL", "REMOVE", "house")
        sentinel.ask("SENTINEL", "MONITOR", "house", "127.0.0.1", second.port, 1)
        assert await store.put("keys", "b", b"2")
        assert second.ask("DBSIZE") > 0
        await deaf.stop()


async def agreed(*nodes: RedisServer) -> None:
    """Wait until every node of a cluster takes it for whole."""
    until = time.monotonic() + PATIENT
    wanted = b"cluster_state:ok\r\ncluster_slots_assigned:16384"
    while not all(node.ask("CLUSTER", "INFO").startswith(wanted) for node in nodes):
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


async def test_a_cluster_is_asked_where_our_keys_are(
    redis_program: str, tmp_path: Path, door: Door, prefix: str
) -> None:
    options = ("cluster-enabled yes", "cluster-require-full-coverage no")
    with ExitStack() as running:
        one = RedisServer(redis_program, tmp_path / "one", *options)
        running.callback(one.stop)
        other = RedisServer(redis_program, tmp_path / "other", *options)
        running.callback(other.stop)
        ours = one.ask("CLUSTER", "KEYSLOT", f"{{{prefix}}}:")
        one.ask("CLUSTER", "ADDSLOTS", *range(16384))
        one.ask("CLUSTER", "MEET", "127.0.0.1", other.port)
        await agreed(one, other)
        store = door(f"redis+cluster://127.0.0.1:{other.port},127.0.0.1:{one.port}")
        assert await store.put("keys", "a", b"1")
        assert await took(store, "1", IMAGES, 5)
        assert one.ask("EXISTS", f"{{{prefix}}}:records:keys") == 1
        # The slot moves; what was in it is left behind, for nothing is copied here.
        name = other.ask("CLUSTER", "MYID").decode()
        one.ask("FLUSHALL")
        for node in (other, one):
            node.ask("CLUSTER", "SETSLOT", ours, "NODE", name)
        await agreed(one, other)
        assert await took(store, "2", IMAGES, 5)
        assert other.ask("DBSIZE") > 0


async def test_tls_is_spoken_to_those_whom_the_file_knows(
    shared_server: RedisServer, door: Door, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    proxy = await SlowProxy(shared_server.port).start(authority.server("127.0.0.1"))
    store = door(f"rediss://127.0.0.1:{proxy.port}", ca_file=authority.ca_file)
    assert await store.put("keys", "a", b"1")
    assert await store.get("keys", "a") == b"1"
    for other in (
        door(f"rediss://127.0.0.1:{proxy.port}"),
        door(f"rediss://localhost:{proxy.port}", ca_file=authority.ca_file),
        door(f"redis://127.0.0.1:{proxy.port}", timeout=2.0),
    ):
        with pytest.raises(StoreError):
            await other.get("keys", "a")
    await store.aclose()
    await proxy.stop()
