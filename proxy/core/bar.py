"""The double bar, where plugins hold or inspect: no good answer comes in before they have let it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache

from ..model.errors import ProxyError
from ..model.exchange import Exchange
from ..model.message import Request, Response


class Withheld(ProxyError):
    """An answer was not let in; whoever holds it says why, further out."""

    def __init__(self) -> None:
        super().__init__("The answer was withheld.")
        self.layer = "held"  # none of the layers on the way out has refused anything


@cache
def reader() -> tuple[Callable[..., Response], Callable[[Request], Request]]:
    """The reader of answers, and what asks for one that it can read; loaded with the first route that reads."""
    from .reading import read, uncoded

    return read, uncoded


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
            read, _ = reader()
            for inspector in exchange.inspectors:
                answer = await inspector(read(answer))
    except BaseException:
        await answer.aclose()
        raise
    return answer
