"""Limits in SQLite: the writer thread's own copy of what counts, read again when another process has written.

A process's claims stand in its memory; the file says of each cell how much of it is held by which process. So a claim
costs no row of its own, and what a dead process held is gone with one statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..model.quota import LEASE, Claim, Claimed, Line, Settle, Tallied, Tally
from .tally import Cell, Counter, claimed, moment, settled

RENEWED = int(LEASE * 250)  # milliseconds after which a lease is written anew
LOOKED = 100  # milliseconds between two looks for processes that have died
SWEPT = 600_000  # milliseconds between two removals of what nobody asks about any more
REMEMBERED = 2**14  # counters, and settled claims
Took = tuple[Sequence[Line], Sequence[Cell], Sequence[int]]


class Sheet:
    """What the thread knows of all counters. It is right for as long as its transactions are committed."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], Took] = {}
        self._settled: dict[tuple[str, str], None] = {}
        self._renewed: dict[str, int] = {}  # holders that ask through this thread, and when their leases were written
        self._before: list[tuple[tuple[str, str], Took | None]] = []  # claims as they were, should it all be undone
        self._looked = self._swept = 0
        self.forget()

    def forget(self) -> None:
        """Read all of it again."""
        self._counters: dict[str, Counter] = {}
        self._dirty: dict[tuple[str, Cell], Counter] = {}
        self._version = -1
        self._last = self._shift = 0

    def undone(self, since: int = 0) -> None:
        """What was done is not in the file: the whole transaction, or of its changes those from `since` on."""
        for id, took in reversed(self._before[since:]):
            self._settled.pop(id, None)
            if took is None:
                self._claims.pop(id, None)
            else:
                self._claims[id] = took
        del self._before[since:]
        self._renewed.clear()
        self.forget()

    def committed(self) -> None:
        """The transaction was committed."""
        self._before.clear()

    def tally(self, db: sqlite3.Connection, wall: float, asked: Tally) -> Tallied:
        """Do what a process asks; `wall` in seconds."""
        before = len(self._before)
        try:
            return self._tally(db, wall, asked)
        except BaseException:
            self.undone(before)
            raise

    def _tally(self, db: sqlite3.Connection, wall: float, asked: Tally) -> Tallied:
        now = self._now(db, int(wall * 1000), asked.expected)
        self._renew(db, now, asked.holder)
        if now >= self._looked + LOOKED or now < self._looked:
            self._looked = now
            self._bury(db, now)
        answers: list[Claimed | None] = []
        seen: dict[int, list[Counter]] = {}  # requests of one caller have the very same lines
        for one in asked.asked:
            counters = seen.get(id(one.lines))
            if counters is None:
                counters = seen[id(one.lines)] = self._known(db, one.lines, now)
            if isinstance(one, Claim):
                answers.append(self._claim(one, counters, now, asked.holder))
            else:
                self._settle(one, counters, now, asked.holder)
                answers.append(None)
        self._write(db, now)
        return Tallied(now, answers)

    # --- claims

    def _claim(self, asked: Claim, counters: Sequence[Counter], now: int, holder: str) -> Claimed:
        id = (holder, asked.id)
        if id in self._claims or id in self._settled:
            answer, _ = claimed(counters, asked.lines, (0,) * len(asked.lines), now, holder, take=False)
            return answer._replace(taken=True)
        answer, cells = claimed(counters, asked.lines, asked.amounts, now, holder, take=bool(asked.id))
        if answer.taken:
            self._before.append((id, None))
            self._claims[id] = asked.lines, cells, asked.amounts
            self._touched(counters, asked.lines, cells)
        return answer

    def _settle(self, asked: Settle, counters: Sequence[Counter], now: int, holder: str) -> None:
        id = (holder, asked.id)
        if id in self._settled:
            return
        took = self._claims.pop(id, None)
        self._before.append((id, took))
        self._settled[id] = None
        if len(self._settled) > REMEMBERED:
            del self._settled[next(iter(self._settled))]
        if took is None:
            self._touched(counters, asked.lines, settled(counters, None, (), asked.used, now))
            return
        lines, cells, amounts = took
        self._touched(counters, lines, cells)
        self._touched(counters, lines, settled(counters, cells, amounts, asked.used, now))

    def _touched(self, counters: Sequence[Counter], lines: Sequence[Line], cells: Sequence[Cell]) -> None:
        for i, cell in enumerate(cells):
            self._dirty[lines[i].counter, cell] = counters[i]

    # --- what the file says

    def _now(self, db: sqlite3.Connection, wall: int, expected: int | None) -> int:
        version: int = db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or len(self._counters) > REMEMBERED:
            self.forget()
            self._version = version
            row = db.execute("SELECT last, shift FROM limit_clock").fetchone()
            self._last, self._shift = row if row is not None else (0, 0)
        now, self._shift = moment(wall, self._last, self._shift, expected)
        self._last = now
        return now

    def _renew(self, db: sqlite3.Connection, now: int, holder: str) -> None:
        written = self._renewed.get(holder)
        if written is not None and written <= now < written + RENEWED:
            return
        until = now + int(LEASE * 1000)
        kept = db.execute("UPDATE limit_holders SET until = ? WHERE holder = ?", (until, holder)).rowcount
        if not kept:
            # It was taken for dead, and what it held was given back; or it is new.
            for id in [id for id in self._claims if id[0] == holder]:
                self._before.append((id, self._claims.pop(id)))
            db.execute("INSERT INTO limit_holders (holder, until) VALUES (?, ?)", (holder, until))
        self._renewed[holder] = now

    def _bury(self, db: sqlite3.Connection, now: int) -> None:
        """Give back what those hold who were not heard of."""
        dead = db.execute("SELECT holder FROM limit_holders WHERE until <= ?", (now,)).fetchall()
        if dead:
            self._write(db, now)
            db.executemany("DELETE FROM limit_cells WHERE holder = ?", dead)
            db.executemany("DELETE FROM limit_holders WHERE holder = ?", dead)
            self._counters.clear()
            for (holder,) in dead:
                self._renewed.pop(holder, None)
        if now >= self._swept + SWEPT:
            self._swept = now
            db.execute("DELETE FROM limit_cells WHERE until BETWEEN 1 AND ?", (now,))

    def _known(self, db: sqlite3.Connection, lines: Sequence[Line], now: int) -> list[Counter]:
        found = []
        for line in lines:
            counter = self._counters.get(line.counter)
            if counter is None:
                rows = db.execute("SELECT until, holder, amount FROM limit_cells WHERE counter = ?", (line.counter,))
                counter = Counter({(until, holder): amount for until, holder, amount in rows})
                self._counters[line.counter] = counter
            if counter.at != now:
                for cell in counter.look(line, now):
                    self._dirty[line.counter, cell] = counter
            found.append(counter)
        return found

    def _write(self, db: sqlite3.Connection, now: int) -> None:
        gone, kept = [], []
        for (name, cell), counter in self._dirty.items():
            amount = counter.cells.get(cell, 0)
            if amount:
                kept.append((name, *cell, amount))
            else:
                gone.append((name, *cell))
        self._dirty.clear()
        if gone:
            db.executemany("DELETE FROM limit_cells WHERE counter = ? AND until = ? AND holder = ?", gone)
        if kept:
            db.executemany(
                "INSERT INTO limit_cells (counter, until, holder, amount) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET amount = excluded.amount",
                kept,
            )
        if kept or gone:
            db.execute("INSERT OR REPLACE INTO limit_clock (id, last, shift) VALUES (0, ?, ?)", (now, self._shift))
