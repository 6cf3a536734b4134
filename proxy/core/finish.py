"""What runs when an exchange has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..model.exchange import Finisher, Outcome
    from ..model.services import Log


def begin(finishers: Sequence[Finisher], outcome: Outcome, log: Log, id: str) -> Coroutine[Any, Any, None] | None:
    """Run them in turn as far as nobody has to wait, and say what is left to be awaited, if anything is.

    One that crashes keeps none of the others from it.
    """
    for at, finisher in enumerate(finishers):
        try:
            waiting = finisher(outcome)
        except Exception as error:
            log.error("finisher_crashed", id=id, exc_info=error)
        else:
            if waiting is not None:
                return _rest(waiting, finishers[at + 1 :], outcome, log, id)
    return None


async def _rest(
    waiting: Awaitable[None] | None, others: Sequence[Finisher], outcome: Outcome, log: Log, id: str
) -> None:
    while waiting is not None:
        try:
            await waiting
        except Exception as error:
            log.error("finisher_crashed", id=id, exc_info=error)
        waiting = begin(others, outcome, log, id)
        others = ()
