"""Plugins that tests name in configs: layers that do what the test itself says."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from proxy.api import Exchange, Forward, Plugin, Request, Response, Services

Layer = Callable[[Exchange, Request, Forward], Awaitable[Response]]
Running = Callable[[Services], AsyncIterator[None]]

_layers: dict[str, tuple[Layer, Running | None]] = {}
_numbers = itertools.count(1)


def told(layer: Layer, running: Running | None = None) -> str:
    """A word under which `Told` finds this function in a config."""
    word = f"layer-{next(_numbers)}"
    _layers[word] = (layer, running)
    return word


class Told(Plugin):
    """Does what a test has told it."""

    word: str

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        running = _layers[self.word][1]
        if running is None:
            yield
            return
        async with asynccontextmanager(running)(services):
            yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        return await _layers[self.word][0](exchange, request, forward)


class Skippable(Told):
    """One whose absence can't hurt."""

    skippable = True


class Reads(Told):
    """One that reads answers."""

    reads = frozenset({"verdict", "usage", "images"})
