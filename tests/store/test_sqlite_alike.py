"""SQLite counts as the arithmetic in Python does one by one, however many of a step are alike and who else writes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.model.quota import Claim, Line, Settle, Tallied, Tally
from proxy.store.sqlite import SQLiteStore

from .test_tally_alike import LINES, LOOK, Plain, StoodClock

MINUTE, SECOND, ODD, SLOTS, MONTH = LINES[:5]
# A request's lines go by its id, as one caller's are always the very same objects.
CALLERS: Sequence[Sequence[Line]] = ((MINUTE, SLOTS), (SLOTS, SECOND, ODD), (MONTH,), (ODD, MINUTE), ())
AMOUNTS = ((1, 1, 1), (1, 1, 1), (2, 0, 1), (0, 1, 3))
IDS = st.integers(0, 39)
Asked = Claim | Settle
Step = tuple[int, str, list[Asked]]


class Remembering(Plain):
    """The store of one machine keeps in mind longer what was settled."""

    def tally(self, wall: int, asked: Tally) -> Tallied:
        told = super().tally(wall, asked)
        self.known.clear()
        return told


def ask(kind: type[Claim] | type[Settle], number: int, amounts: Sequence[int] = (1, 1, 1)) -> Asked:
    lines = CALLERS[number % len(CALLERS)]
    return kind(f"{number}" if number else "", lines, amounts[: len(lines)])


ASKED = st.builds(ask, st.sampled_from((Claim, Claim, Settle)), IDS, st.sampled_from(AMOUNTS))


@st.composite
def alike(draw: st.DrawFn) -> list[Asked]:
    """One caller's, in a row: what a burst asks."""
    caller, kind, amounts = (
        draw(st.integers(0, 4)),
        draw(st.sampled_from((Claim, Settle))),
        draw(st.sampled_from(AMOUNTS)),
    )
    numbers = draw(st.lists(st.integers(0, 7), max_size=8))
    return [ask(kind, 5 * number + caller, amounts) for number in numbers]


# All within ten seconds: leases have tests of their own.
STEPS = st.tuples(
    st.sampled_from((0, 0, 1, 59, 120, 1000)),
    st.sampled_from("xy"),
    st.lists(alike() | ASKED.map(lambda one: [one]), max_size=6).map(lambda runs: [one for run in runs for one in run]),
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


BURST = [ask(Claim, 5 * number) for number in range(1, 8)]
ENDED = [ask(Settle, 5 * number) for number in range(1, 8)]


@settings(max_examples=80, deadline=None)
@example([(0, "x", BURST), (0, "y", BURST), (0, "x", ENDED), (0, "x", BURST), (59, "y", [*ENDED, *BURST])])
@example([(0, "x", BURST[:3]), (1, "x", [*ENDED, *ENDED]), (0, "x", BURST)])
@given(st.lists(STEPS, max_size=8))
def test_counts_as_the_arithmetic_does(runner: asyncio.Runner, steps: list[Step]) -> None:
    async def main(folder: Path) -> None:
        clock, plain = StoodClock(), Remembering()
        doors = {holder: SQLiteStore(folder / "framegate.db", clock) for holder in "xy"}
        try:
            for turn, holder, asked in steps:
                clock.ms += turn
                one = Tally(holder, [*asked, LOOK])
                assert await doors[holder].tally(one) == plain.tally(clock.ms, one)
        finally:
            for door in doors.values():
                await door.aclose()

    with tempfile.TemporaryDirectory() as folder:
        runner.run(main(Path(folder)))
