"""What runs when an exchange has ended."""

from __future__ import annotations

from collections.abc import Sequence

from ..model.exchange import Finisher, Outcome
from ..model.services import Log


async def run(finishers: Sequence[Finisher], outcome: Outcome, log: Log, id: str) -> None:
    """Run all of them; one that crashes keeps none of the others from it."""
    for finisher in finishers:
        try:
            await finisher(outcome)
        except Exception as error:
            log.error("finisher_crashed", id=id, exc_info=error)
