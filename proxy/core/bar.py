"""The double bar, where plugins hold or inspect: no good answer comes in before they have let it."""

from __future__ import annotations

import asyncio

from ..model.errors import ProxyError
from ..model.exchange import Exchange
from ..model.message import Response


class Withheld(ProxyError):
    """An answer was not let in; whoever holds it says why, further out."""

    def __init__(self) -> None:
        super().__init__("The answer was withheld.")
        self.layer = "held"  # none of the layers on the way out has refused anything


def refused(exchange: Exchange) -> None:
    """Raise Withheld where a verdict has fallen that lets nothing in."""
    for verdict in exchange.holding:
        if verdict.done() and (verdict.cancelled() or verdict.exception() is not None):
            raise Withheld


async def let_in(exchange: Exchange, answer: Response, *, inspected: bool) -> Response:
    """The answer as it comes in. An error does at once: it holds nothing to judge, and failover need not wait."""
    if answer.status >= 400:
        return answer
    try:
        if exchange.holding:
            await asyncio.wait(exchange.holding)
            refused(exchange)
        if inspected and 200 <= answer.status < 300 and answer.socket is None:
            from .reading import read  # loaded by then: a plugin of the route reads pictures

            for inspector in exchange.inspectors:
                answer = await inspector(read(answer))
    except BaseException:
        await answer.aclose()
        raise
    return answer
