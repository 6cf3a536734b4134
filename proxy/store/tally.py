"""The arithmetic of limits: what counts now, what fits, and when the rest will.

What was taken stands in cells: each says until when it counts, and who holds it, which is nobody once it was used.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..model.quota import PIECES, Claimed, Line

STEP = 2000  # milliseconds by which two clocks may differ before one of them is taken to have stepped
KEPT = 86_400_000  # milliseconds that a period's counter is kept behind its end, whatever the clocks say
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

    __slots__ = ("cells", "level")

    def __init__(self, cells: dict[Cell, int] | None = None) -> None:
        self.cells = cells if cells is not None else {}
        self.level = sum(self.cells.values())

    def add(self, cell: Cell, amount: int) -> None:
        """Count that much more in a cell, or less; a cell is never below nothing."""
        old = self.cells.get(cell, 0)
        new = max(0, old + amount)
        if new:
            self.cells[cell] = new
        else:
            self.cells.pop(cell, None)
        self.level += new - old

    def over(self, now: int) -> list[Cell]:
        """Take out the cells that count no longer, and say which."""
        gone = [cell for cell in self.cells if 0 < cell[0] <= now]
        for cell in gone:
            self.level -= self.cells.pop(cell)
        return gone

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
        return max(until for until, _ in self.cells) - now if line.window else -1


def claimed(
    counters: Sequence[Counter], lines: Sequence[Line], amounts: Sequence[int], now: int, holder: str, *, take: bool
) -> tuple[Claimed, list[tuple[str, Cell, int]]]:
    """Take all that was asked, or nothing where one does not fit; and what was taken of which cell."""
    asked = zip(counters, amounts, lines, strict=True)
    waits = tuple([counter.wait(amount, line, now) for counter, amount, line in asked])
    took: list[tuple[str, Cell, int]] = []
    taken = take and not any(waits)
    if taken:
        for counter, line, amount in zip(counters, lines, amounts, strict=True):
            if amount:
                cell = (ends(line, now), holder)
                counter.add(cell, amount)
                took.append((line.counter, cell, amount))
    levels = tuple([counter.level for counter in counters])
    resets = tuple([counter.reset(line, now) for counter, line in zip(counters, lines, strict=True)])
    return Claimed(taken, levels, waits, resets), took
