from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.model.store import Add, StoreError
from proxy.store.sqlite import MIGRATIONS, SQLiteStore, backup, open_file
from proxy.testkit import TurnedClock


async def test_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db", TurnedClock())
    await store.put("a", "b", b"c")
    assert (tmp_path / "s.db").stat().st_mode & 0o777 == 0o600
    await store.aclose()


async def test_keeps_what_it_was_told_over_a_restart(tmp_path: Path) -> None:
    for expected in (None, b"c"):
        store = SQLiteStore(tmp_path / "s.db", TurnedClock())
        assert await store.get("a", "b") == expected
        await store.put("a", "b", b"c")
        await store.aclose()


async def test_requests_of_one_moment_share_a_transaction(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db", TurnedClock())
    begun = 0

    def count(statement: str) -> None:
        nonlocal begun
        begun += statement.startswith("BEGIN")

    store._connection.set_trace_callback(count)
    await asyncio.gather(*(store.add(Add("a", 1)) for _ in range(200)))
    store._connection.set_trace_callback(None)
    assert begun < 50
    await store.aclose()


async def test_the_loop_goes_on_while_another_process_holds_the_lock(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db", TurnedClock())
    await store.put("a", "b", b"c")
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(store.put("a", "b", b"d"))
    turns = 0
    for _ in range(100):
        await asyncio.sleep(0)
        turns += 1
    assert turns == 100 and not waiting.done()
    other.execute("COMMIT")
    other.close()
    assert await waiting
    await store.aclose()


async def test_one_that_fails_is_undone_alone(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db", TurnedClock())
    good, bad, after = await asyncio.gather(
        store.add(Add("a", 1)), store.add(Add("b", 2**80)), store.add(Add("a", 1)), return_exceptions=True
    )
    assert good.values == (1,) and after.values == (2,)  # type: ignore[union-attr]
    assert isinstance(bad, Exception)
    await store.aclose()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db", TurnedClock())
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        await store.get("a", "b")


async def test_refuses_a_file_of_a_newer_version(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(StoreError, match="newer Framegate"):
        SQLiteStore(tmp_path / "s.db", TurnedClock())


async def test_refuses_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"not a database at all, but long enough to be looked at" * 50)
    with pytest.raises(StoreError, match="can't be used"):
        SQLiteStore(tmp_path / "s.db", TurnedClock())


async def test_backs_up_while_in_use(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db", TurnedClock())
    for i in range(100):
        await store.put("keys", f"{i:03}", b"x")
    backup(tmp_path / "s.db", tmp_path / "copy.db")
    await store.aclose()
    copy = SQLiteStore(tmp_path / "copy.db", TurnedClock())
    assert len(await copy.items("keys")) == 100
    await copy.aclose()
    with pytest.raises(StoreError, match="is there already"):
        backup(tmp_path / "s.db", tmp_path / "copy.db")


KILLED = """
import asyncio, sys
from pathlib import Path
from proxy.core.clock import SystemClock
from proxy.model.store import Add
from proxy.store.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(Path(sys.argv[1]), SystemClock())
    for i in range(100000):
        await asyncio.gather(store.put("keys", f"{i:06}", b"%06d" % i), store.add(Add("count", 1)))
        print(i, flush=True)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_loses_nothing_it_was_told(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "s.db")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    while (last := int(process.stdout.readline())) < 50:
        pass
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    last = int((rest.split(b"\n")[-2:-1] or [b"%d" % last])[0] or last)
    store = SQLiteStore(tmp_path / "s.db", TurnedClock())
    keys = await store.items("keys", limit=100000)
    assert len(keys) >= last + 1 and all(key.encode() == value for key, value in keys)
    assert (await store.add(Add("count", 0))).values[0] >= last + 1
    await store.aclose()


def test_waits_for_another_that_makes_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seen as "database is locked" when four workers started for the first time.
    path = tmp_path / "s.db"
    path.touch()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("proxy.store.sqlite.time.sleep", lambda _: other.execute("ROLLBACK"))
    db = open_file(path)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()
    other.close()
