"""Limits in SQLite: the writer thread's own copy of what counts, read again when another process has written.

A process's claims stand in its memory; the file says of each cell how much of it is held by which process. So a claim
costs no row of its own, and what a dead process held is gone with one statement.

Under load most of what is asked in one step is alike: one of each of the same limits. What is alike is taken at one
go, and settled at one go, which comes to the same as one by one, at a quarter of the price.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import repeat

from ..model.quota import LEASE, Claim, Claimed, Line, Settle, Tallied, Tally
from .tally import Cell, Counter, claimed, moment, settled

RENEWED = int(LEASE * 250)  # milliseconds after which a lease is written anew
LOOKED = 100  # milliseconds between two looks for processes that have died
SWEPT = 600_000  # milliseconds between two removals of what nobody asks about any more
REMEMBERED = 2**14  # counters, and settled claims
ROWS = 16  # written by one statement: for each the thread lets go of the interpreter's lock, and has to get it back
Asked = Sequence[Claim | Settle]
Took = tuple[Sequence[Line], Sequence[Cell], Sequence[int]]


class Holder:
    """A process that asks through this thread."""

    __slots__ = ("claims", "name", "renewed", "settled")

    def __init__(self, name: str) -> None:
        self.name = name
        self.renewed: int | None = None  # when its lease was written
        self.claims: dict[str, Took] = {}  # by id; those that were taken at one go share what they took
        # A plain dict finds its oldest by passing all that are gone: with thousands settled that was 10 us for each.
        self.settled: OrderedDict[str, None] = OrderedDict()


class Sheet:
    """What the thread knows of all counters. It is right for as long as its transactions are committed."""

    def __init__(self) -> None:
        self._holders: dict[str, Holder] = {}
        self._before: list[tuple[Holder, str, Took | None]] = []  # claims as they were, should it all be undone
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
        for holder, id, took in reversed(self._before[since:]):
            holder.settled.pop(id, None)
            if took is None:
                holder.claims.pop(id, None)
            else:
                holder.claims[id] = took
        del self._before[since:]
        for holder in self._holders.values():
            holder.renewed = None
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
        holder = self._renew(db, now, asked.holder)
        if now >= self._looked + LOOKED or now < self._looked:
            self._looked = now
            self._bury(db, now)
        seen: dict[int, list[Counter]] = {}  # requests of one caller have the very same lines
        for one in asked.asked:
            if id(one.lines) not in seen:
                seen[id(one.lines)] = self._known(db, one.lines, now)
        answers: list[Claimed | None] = []
        while rest := asked.asked[len(answers) :]:
            first, counters = rest[0], seen[id(rest[0].lines)]
            if isinstance(first, Settle):
                answers += repeat(None, self._settle(rest, seen, now, holder))
            else:
                answers += self._take(rest, counters, now, holder) or (self._claim(first, counters, now, holder),)
        self._write(db, now)
        return Tallied(now, answers)

    # --- claims

    def _take(self, asked: Asked, counters: Sequence[Counter], now: int, holder: Holder) -> list[Claimed]:
        """Take what the first asks for, and those behind it that ask for the same, as far as they fit."""
        first = asked[0]
        assert isinstance(first, Claim)
        lines, amounts = first.lines, first.amounts
        room, cells = len(asked) if lines else 0, []
        for counter, line, amount in zip(counters, lines, amounts, strict=True):
            cells.append((counter.until, holder.name))
            if amount and counter.level + room * amount > line.ceiling:
                room = (line.ceiling - counter.level) // amount
        if room <= 0:
            return []
        took, count = (lines, cells, amounts), 0
        for one in asked[:room]:
            if not isinstance(one, Claim) or one.lines is not lines or one.amounts != amounts:
                break
            id = one.id
            if not id or id in holder.claims or id in holder.settled:
                break
            self._before.append((holder, id, None))
            holder.claims[id] = took
            count += 1
        levels: list[Iterable[int]] = []  # of each line, from claim to claim
        resets = []
        for i, counter in enumerate(counters if count else ()):
            level, amount = counter.level, amounts[i]
            if amount:
                counter.add(cells[i], count * amount)
                self._dirty[lines[i].counter, cells[i]] = counter
            levels.append(range(level + amount, counter.level + 1, amount) if amount else repeat(level, count))
            resets.append(counter.reset(lines[i], now))
        waits, ends = (0,) * len(lines), tuple(resets)
        return [Claimed(True, each, waits, ends) for each in zip(*levels, strict=True)]

    def _claim(self, asked: Claim, counters: Sequence[Counter], now: int, holder: Holder) -> Claimed:
        """Answer one that does not fit, that only looks, or that was answered before."""
        if asked.id in holder.claims or asked.id in holder.settled:
            answer, _ = claimed(counters, asked.lines, (0,) * len(asked.lines), now, holder.name, take=False)
            return answer._replace(taken=True)
        answer, cells = claimed(counters, asked.lines, asked.amounts, now, holder.name, take=bool(asked.id))
        if answer.taken:
            self._before.append((holder, asked.id, None))
            holder.claims[asked.id] = asked.lines, cells, asked.amounts
        return answer

    def _settle(self, asked: Asked, seen: Mapping[int, Sequence[Counter]], now: int, holder: Holder) -> int:
        """Settle the first, and those behind it up to the next claim; how many they are."""
        count = 0
        alike: dict[tuple[int, int, tuple[int, ...]], list[tuple[Settle, Took | None]]] = {}
        for one in asked:
            if not isinstance(one, Settle):
                break
            count += 1
            if one.id in holder.settled:
                continue
            took = holder.claims.pop(one.id, None)
            self._before.append((holder, one.id, took))
            holder.settled[one.id] = None
            alike.setdefault((id(took), id(one.lines), tuple(one.used)), []).append((one, took))
        for several in alike.values():
            one, took = several[0]
            counters, used = seen[id(one.lines)], one.used
            lines, held, amounts = took or (one.lines, None, ())
            where = settled(counters, held, amounts, used, now, times=len(several))
            for i, counter in enumerate(counters):
                if held is not None and amounts[i]:
                    self._dirty[lines[i].counter, held[i]] = counter
                if used[i]:
                    self._dirty[lines[i].counter, where[i]] = counter
        while len(holder.settled) > REMEMBERED:
            holder.settled.popitem(last=False)
        return count

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

    def _renew(self, db: sqlite3.Connection, now: int, name: str) -> Holder:
        holder = self._holders.get(name)
        if holder is None:
            holder = self._holders[name] = Holder(name)
        if holder.renewed is not None and holder.renewed <= now < holder.renewed + RENEWED:
            return holder
        until = now + int(LEASE * 1000)
        kept = db.execute("UPDATE limit_holders SET until = ? WHERE holder = ?", (until, name)).rowcount
        if not kept:
            # It was taken for dead, and what it held was given back; or it is new.
            self._before += [(holder, id, took) for id, took in holder.claims.items()]
            holder.claims.clear()
            db.execute("INSERT INTO limit_holders (holder, until) VALUES (?, ?)", (name, until))
        holder.renewed = now
        return holder

    def _bury(self, db: sqlite3.Connection, now: int) -> None:
        """Give back what those hold who were not heard of."""
        dead = db.execute("SELECT holder FROM limit_holders WHERE until <= ?", (now,)).fetchall()
        if dead:
            self._write(db, now)
            db.executemany("DELETE FROM limit_cells WHERE holder = ?", dead)
            db.executemany("DELETE FROM limit_holders WHERE holder = ?", dead)
            self._counters.clear()
            for (name,) in dead:
                if name in self._holders:
                    self._holders[name].renewed = None
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
        gone: list[tuple[str | int, ...]] = []
        kept: list[str | int] = []
        for (name, cell), counter in self._dirty.items():
            amount = counter.cells.get(cell, 0)
            if amount:
                kept += (name, *cell, amount)
            else:
                gone.append((name, *cell))
        self._dirty.clear()
        if gone:
            db.executemany("DELETE FROM limit_cells WHERE counter = ? AND until = ? AND holder = ?", gone)
        for at in range(0, len(kept), 4 * ROWS):
            some = kept[at : at + 4 * ROWS]
            db.execute(_kept(len(some) // 4), some)
        if kept or gone:
            db.execute("INSERT OR REPLACE INTO limit_clock (id, last, shift) VALUES (0, ?, ?)", (now, self._shift))


@cache
def _kept(rows: int) -> str:
    """The statement that writes so many cells."""
    return (
        f"INSERT INTO limit_cells (counter, until, holder, amount) VALUES {', '.join(['(?, ?, ?, ?)'] * rows)} "
        "ON CONFLICT DO UPDATE SET amount = excluded.amount"
    )
