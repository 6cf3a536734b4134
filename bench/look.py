"""A plugin of the bench's own, which looks at every piece of an answer and changes none."""

from __future__ import annotations

from collections.abc import AsyncIterator

from proxy.api import Exchange, Forward, Plugin, Request, Response


class Look(Plugin):
    """Looks at the answer as it flows: what any plugin pays that reads one."""

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        return (await forward(request)).through(_same)


async def _same(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece
