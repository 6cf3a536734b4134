"""The arithmetic of limits: what counts now, what fits, and when the rest will.

What was taken stands in cells: each says until when it counts, and who holds it, which is nobody once it was used.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..model.quota import PIECES, Claimed, Line

STEP = 2000  # milliseconds by which two clocks may differ before one of them is taken to have stepped
KEPT = 86_400_000  # milliseconds that a period's counter is kept behind its end, whatever the clocks say
FAR = float("inf")
USED = ""  # the holder of what is no longer held
Cell = tuple[int, str]  # until when it counts (milliseconds; 0: as long as it is held), and its holder


def moment(wall: int, last: int, shift: int, expected: int | None) -> tuple[int, int]:
    """The store's time and its new distance from the wall clock, all in milliseconds.

    It follows the wall clock, but not where that steps: back is seen by itself (`last` was later), ahead by a process
    whose own clock says how much time can have passed (`expected`).
    """
    now = wall + shift
    if expected is not None and abs(now - expected) > STEP:
        now = expected
    now = max(now, last)
    return now, now - wall


def ends(line: Line, now: int) -> int:
    """Until when an amount counts that is taken now. It never counts shorter than its window."""
    if line.window:
        piece = max(1, line.window // PIECES)
        return (now // piece + 1) * piece + line.window
    return line.until + KEPT if line.until else 0


class Counter:
    """What counts against one limit."""

    __slots__ = ("at", "cells", "latest", "level", "soonest", "until")

    def __init__(self, cells: dict[Cell, int] | None = None) -> None:
        self.cells = cells if cells is not None else {}
        self.level = sum(self.cells.values())
        self.soonest: float = 0  # before that no cell is over
        self.latest = -1  # until when the last of it counts; -1: to be looked for
        self.at = -1  # the moment at which it was looked at, and until when an amount counts that is taken then
        self.until = 0

    def look(self, line: Line, now: int) -> Sequence[Cell]:
        """See it as it stands now: the cells that count no longer are taken out, and told."""
        self.at = now
        self.until = ends(line, now)
        if now < self.soonest:
            return ()
        gone = [cell for cell in self.cells if 0 < cell[0] <= now]
        for cell in gone:
            self.level -= self.cells.pop(cell)
        self.latest = -1
        self.soonest = min([until for until, _ in self.cells if until], default=FAR)
        return gone

    def add(self, cell: Cell, amount: int) -> None:
        """Count that much more in a cell, or less; a cell is never below nothing."""
        old = self.cells.get(cell, 0)
        new = old + amount
        if new > 0:
            self.cells[cell] = new
            if not old:
                if 0 < cell[0] < self.soonest:
                    self.soonest = cell[0]
                if self.latest >= 0:
                    self.latest = max(self.latest, cell[0])
        else:
            new = 0
            if self.cells.pop(cell, None) is not None and (cell[0], USED) not in self.cells and cell[0] >= self.latest:
                self.latest = -1
        self.level += new - old

    def counts(self, now: int) -> bool:
        """Whether anything of it counts."""
        return any(not until or until > now for until, _ in self.cells)

    def wait(self, amount: int, line: Line, now: int) -> int:
        """Milliseconds until the amount fits; 0: it does; -1: that can't be told."""
        excess = self.level + amount - line.ceiling
        if excess <= 0 or amount == 0:
            return 0
        if not line.window or amount > line.ceiling:
            return -1
        for (until, _), held in sorted(self.cells.items()):
            excess -= held
            if excess <= 0:
                return until - now
        return -1

    def reset(self, line: Line, now: int) -> int:
        """Milliseconds until nothing of it counts; -1: that can't be told."""
        if not self.cells:
            return 0
        if not line.window:
            return -1
        if self.latest < 0:
            self.latest = max(self.cells)[0]
        return self.latest - now


def claimed(
    counters: Sequence[Counter], lines: Sequence[Line], amounts: Sequence[int], now: int, holder: str, *, take: bool
) -> tuple[Claimed, list[Cell]]:
    """Take all that was asked, or nothing where one does not fit; and the cell in which each amount stands.

    The counters were looked at now.
    """
    cells: list[Cell] = []
    asked = list(zip(counters, lines, amounts, strict=True))
    if take:
        for counter, line, amount in asked:
            if amount and counter.level + amount > line.ceiling:
                break
        else:
            for counter, _, amount in asked:
                cells.append(cell := (counter.until, holder))
                if amount:
                    counter.add(cell, amount)
    waits = (0,) * len(asked) if cells else tuple([counter.wait(amount, line, now) for counter, line, amount in asked])
    levels = tuple([counter.level for counter in counters])
    resets = tuple([counter.reset(line, now) for counter, line, _ in asked])
    return Claimed(bool(cells) or (take and not lines), levels, waits, resets), cells


def settled(
    counters: Sequence[Counter],
    cells: Sequence[Cell] | None,
    took: Sequence[int],
    used: Sequence[int],
    now: int,
    *,
    times: int = 1,
) -> list[Cell]:
    """Give back what was taken and count what was used, where it was taken; and the cell of each limit in which it is.

    Where nothing is known to be taken (`cells` is None), it counts from now on. `times`: so often the same.
    """
    where = []
    for i, counter in enumerate(counters):
        until = counter.until if cells is None else cells[i][0]
        where.append(cell := (until, USED))
        if used[i] and until > now:
            counter.add(cell, times * used[i])
        if cells is not None and took[i]:  # behind the other, so that something is left at the counter's end
            counter.add(cells[i], -times * took[i])
    return where
