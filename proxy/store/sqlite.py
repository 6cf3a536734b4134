"""SQLite as the embedded store: WAL, one writer thread a process, one transaction for all requests of a moment."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from ..model.quota import Tallied, Tally
from ..model.services import Clock
from ..model.store import Add, Added, StoreError
from .sqlite_tally import Sheet

T = TypeVar("T")
Work = Callable[[sqlite3.Connection, float], T]

BUSY = 3.0  # seconds that the thread waits for another process's lock; the loop never waits for it
AGAIN = 0.005  # seconds between two attempts where SQLite itself does not wait
TOGETHER = 512  # operations in one transaction at the most, so that none waits long for its answer
SWEEP = 60.0  # seconds between two removals of what has expired

# Each entry takes the schema one version further; a file from a newer Framegate is refused.
MIGRATIONS = (
    """
    CREATE TABLE records (
        space TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, expires REAL,
        PRIMARY KEY (space, key)
    ) WITHOUT ROWID;
    CREATE INDEX records_expire ON records (expires) WHERE expires IS NOT NULL;
    CREATE TABLE counters (counter TEXT PRIMARY KEY, value INTEGER NOT NULL, expires REAL) WITHOUT ROWID;
    CREATE INDEX counters_expire ON counters (expires) WHERE expires IS NOT NULL;
    """,
    """
    CREATE TABLE limit_cells (
        counter TEXT NOT NULL, until INTEGER NOT NULL, holder TEXT NOT NULL, amount INTEGER NOT NULL,
        PRIMARY KEY (counter, until, holder)
    ) WITHOUT ROWID;
    CREATE TABLE limit_holders (holder TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE limit_clock (id INTEGER PRIMARY KEY, last INTEGER NOT NULL, shift INTEGER NOT NULL);
    """,
)


class SQLiteStore:
    """A store in one file, for one machine; several processes may share it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._queue: SimpleQueue[tuple[Work[Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._connection = open_file(path)
        self._loop = asyncio.get_running_loop()
        self._swept = clock.now()
        self._sheet = Sheet()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="framegate-sqlite", daemon=True)
        self._thread.start()

    async def get(self, space: str, key: str) -> bytes | None:
        """The record, or None."""

        def work(db: sqlite3.Connection, now: float) -> bytes | None:
            row = db.execute(
                "SELECT value FROM records WHERE space = ? AND key = ? AND (expires IS NULL OR expires > ?)",
                (space, key, now),
            ).fetchone()
            return None if row is None else bytes(row[0])

        return await self._do(work)

    async def put(self, space: str, key: str, value: bytes, *, ttl: float | None = None, new: bool = False) -> bool:
        """Write a record; whether it was written."""

        def work(db: sqlite3.Connection, now: float) -> bool:
            over = "WHERE excluded.space = records.space AND records.expires <= ?" if new else ""
            done = db.execute(
                "INSERT INTO records (space, key, value, expires) VALUES (?, ?, ?, ?) "
                f"ON CONFLICT (space, key) DO UPDATE SET value = excluded.value, expires = excluded.expires {over}",
                (space, key, value, None if ttl is None else now + ttl, *((now,) if new else ())),
            )
            return done.rowcount > 0

        return await self._do(work)

    async def swap(self, space: str, key: str, old: bytes, new: bytes) -> bool:
        """Write over a record only where it still is `old`."""

        def work(db: sqlite3.Connection, now: float) -> bool:
            done = db.execute(
                "UPDATE records SET value = ? WHERE space = ? AND key = ? AND value = ? "
                "AND (expires IS NULL OR expires > ?)",
                (new, space, key, old, now),
            )
            return done.rowcount > 0

        return await self._do(work)

    async def delete(self, space: str, key: str) -> bool:
        """Take a record away; whether there was one."""

        def work(db: sqlite3.Connection, now: float) -> bool:
            done = db.execute(
                "DELETE FROM records WHERE space = ? AND key = ? AND (expires IS NULL OR expires > ?)",
                (space, key, now),
            )
            return done.rowcount > 0

        return await self._do(work)

    async def items(self, space: str, *, after: str = "", limit: int = 1000) -> list[tuple[str, bytes]]:
        """The records of a space by key."""

        def work(db: sqlite3.Connection, now: float) -> list[tuple[str, bytes]]:
            rows = db.execute(
                "SELECT key, value FROM records WHERE space = ? AND key > ? AND (expires IS NULL OR expires > ?) "
                "ORDER BY key LIMIT ?",
                (space, after, now, limit),
            )
            return [(key, bytes(value)) for key, value in rows]

        return await self._do(work)

    async def add(self, *steps: Add) -> Added:
        """Do all steps or none."""
        return await self._do(lambda db, now: _add(db, now, steps))

    async def tally(self, asked: Tally) -> Tallied:
        """Take of limits and settle."""
        return await self._do(lambda db, now: self._sheet.tally(db, now, asked))

    async def aclose(self) -> None:
        """Finish what is under way, then close."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    # --- the thread

    async def _do(self, work: Work[T]) -> T:
        """Have the thread do it. A caller that is cancelled changes nothing: the work is done or not, as a whole."""
        if self._closed:
            raise StoreError("The store is closed.")
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((work, done))
        return await done

    def _run(self) -> None:
        ending = False
        while not ending:
            batch = [self._queue.get()]
            while len(batch) < TOGETHER and not self._queue.empty():
                batch.append(self._queue.get())
            ending = batch[-1] is None or None in batch
            jobs = [job for job in batch if job is not None and not job[1].cancelled()]
            if jobs:
                answers = self._transaction([work for work, _ in jobs])
                told = [(done, answer) for (_, done), answer in zip(jobs, answers, strict=True)]
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    self._loop.call_soon_threadsafe(_tell, told)
        self._connection.close()

    def _transaction(self, works: list[Work[Any]]) -> list[Any]:
        """Run all in one transaction; one that fails is undone alone. Answers, or the error of each."""
        db = self._connection
        now = self._clock.wall()
        answers: list[Any] = []
        try:
            db.execute("BEGIN IMMEDIATE")
            if self._clock.now() - self._swept > SWEEP:
                self._swept = self._clock.now()
                db.execute("DELETE FROM records WHERE expires <= ?", (now,))
                db.execute("DELETE FROM counters WHERE expires <= ?", (now,))
            if len(works) == 1:  # it is the whole transaction
                answers.append(works[0](db, now))
            else:
                for work in works:
                    answers.append(_apart(db, work, now))
            db.execute("COMMIT")
        except Exception as error:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            self._sheet.undone()
            return [_translated(error)] * len(works)
        self._sheet.committed()
        return answers


def _apart(db: sqlite3.Connection, work: Work[Any], now: float) -> Any:
    """Its answer, or its error, with which nothing of it stays."""
    db.execute("SAVEPOINT work")
    try:
        return work(db, now)
    except Exception as error:
        db.execute("ROLLBACK TO work")
        return _translated(error)
    finally:
        db.execute("RELEASE work")


def _translated(error: Exception) -> Exception:
    if not isinstance(error, sqlite3.Error):
        return error
    failed = StoreError("The store could not be read or written.")
    failed.__cause__ = error
    return failed


def _tell(told: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for done, answer in told:
        if done.done():
            continue
        if isinstance(answer, Exception):
            done.set_exception(answer)
        else:
            done.set_result(answer)


def _add(db: sqlite3.Connection, now: float, steps: tuple[Add, ...]) -> Added:
    """The arithmetic of a transaction on counters, each step seeing those before it."""
    standing: dict[str, tuple[int, float | None]] = {}
    before: dict[str, int] = {}
    for step in steps:
        if step.counter not in standing:
            row = db.execute("SELECT value, expires FROM counters WHERE counter = ?", (step.counter,)).fetchone()
            alive = row is not None and (row[1] is None or row[1] > now)
            standing[step.counter] = (row[0], row[1]) if alive else (0, None)
            before[step.counter] = standing[step.counter][0]
            if not alive:
                standing[step.counter] = (0, -1.0)  # young: its time starts with this step
    for place, step in enumerate(steps):
        value, expires = standing[step.counter]
        grown = max(0, value + step.amount)
        if step.ceiling is not None and step.amount > 0 and grown > step.ceiling:
            return Added(tuple([before[one.counter] for one in steps]), place)
        if step.renew or expires == -1.0:
            expires = None if step.ttl is None else now + step.ttl
        standing[step.counter] = (grown, expires)
    db.executemany(
        "INSERT OR REPLACE INTO counters (counter, value, expires) VALUES (?, ?, ?)",
        [(counter, value, expires) for counter, (value, expires) in standing.items()],
    )
    return Added(tuple([standing[step.counter][0] for step in steps]))


def open_file(path: Path) -> sqlite3.Connection:
    """Open or make the file, for its owner alone, and bring its schema up to date. Raises StoreError with words."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        db = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"The store {path} can't be opened: {error}") from error
    try:
        _to_wal(db)
        db.execute("PRAGMA synchronous = NORMAL")  # in WAL mode a killed process loses nothing
        _migrate(db, path)
    except sqlite3.Error as error:
        db.close()
        raise StoreError(f"The store {path} can't be used: {error}") from error
    except BaseException:
        db.close()
        raise
    return db


def _to_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL. Where several make a file at once, this alone fails without having waited for the others.

    Seen in 2 of 100 first starts of four processes.
    """
    until = time.monotonic() + BUSY
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(AGAIN)


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise StoreError(f"The store {path} was written by a newer Framegate (schema {version}).")
        for migration in MIGRATIONS[version:]:
            for statement in migration.split(";"):
                if statement.strip():
                    db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def read(path: Path, space: str, key: str) -> bytes | None:
    """One record, read at once and without a thread: for whoever has no loop yet. Raises StoreError."""
    if not path.exists():
        return None
    db = open_file(path)
    try:
        row = db.execute(
            "SELECT value FROM records WHERE space = ? AND key = ? AND (expires IS NULL OR expires > ?)",
            (space, key, time.time()),
        ).fetchone()
        return None if row is None else bytes(row[0])
    except sqlite3.Error as error:
        raise StoreError(f"The store {path} can't be read: {error}") from error
    finally:
        db.close()


def backup(path: Path, to: Path) -> None:
    """Copy a store that may be in use to a new file, whole or not at all. Raises StoreError."""
    if not path.exists():
        raise StoreError(f"There is no store at {path}.")
    if to.exists():
        raise StoreError(f"{to} is there already; name a new file.")
    half = to.with_name(to.name + ".half")
    try:
        source = sqlite3.connect(path, timeout=BUSY)
        try:
            half.unlink(missing_ok=True)
            os.close(os.open(half, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            target = sqlite3.connect(half)
            try:
                source.backup(target)
            finally:
                target.close()
        finally:
            source.close()
        half.replace(to)
    except (OSError, sqlite3.Error) as error:
        half.unlink(missing_ok=True)
        raise StoreError(f"The backup failed: {error}") from error
