"""A judge as tests have it, what looks at pictures for it, and the layer that asks it about answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import IO

from plugins.moderation.outputs import Outputs
from plugins.moderation.verdict import Matter, Unreadable, View
from proxy.api import Exchange, Forward, Plugin, Rejected, Request, Response, Services, operation

WRONG = b"wrong"  # what a judge refuses, among the bytes of a picture


class Bench:
    """Refuses pictures that hold a word, and what nobody can look at. It may be made to wait."""

    def __init__(self, *, waits: bool = False, unseen: bool = True) -> None:
        self.seen: list[tuple[str, bytes]] = []  # where a picture stood, and its bytes
        self.unseen: list[str] = []  # what it was told that nobody can look at
        self.at_once = 0  # the most that were judged side by side
        self.decided = asyncio.Event()
        self.begun = asyncio.Event()
        self._running = 0
        self._refuses_unseen = unseen
        if not waits:
            self.decided.set()

    async def __call__(self, matter: Matter) -> None:
        assert matter.stage == "output" and not matter.texts
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        try:
            self.begun.set()
            for unseen in matter.unseen:
                self.unseen.append(str(unseen))
            datas = []
            for sight in matter.pictures:
                assert await sight.views() is await sight.views()
                datas.append((sight.path, b"".join(view.data for view in await sight.views())))
            self.seen += datas
            await self.decided.wait()
            if any(WRONG in data for _, data in datas) or (matter.unseen and self._refuses_unseen):
                raise refusal()
        finally:
            self._running -= 1


def refusal() -> Rejected:
    return Rejected("It was refused.", type="image_generation_user_error", code="content_policy_violation")


async def look(picture: bytes | IO[bytes]) -> Sequence[View]:
    """All of it, if it is a PNG."""
    data = picture if isinstance(picture, bytes) else picture.read()
    if not data.startswith(b"\x89PNG"):
        raise Unreadable("it is no picture")
    return [View("png", data)]


class Watches(Plugin):
    """Has the pictures of answers judged."""

    bench: Bench
    inside = ("quota",)
    reads = ("images",)

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        self.services = services
        yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        asked = await operation(request)
        outputs = Outputs(exchange, self.bench, look, self.services.remote, asked.kind)
        exchange.inspect(outputs)
        return await forward(request)
