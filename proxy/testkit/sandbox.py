"""The sandbox for the length of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from .. import sandbox


@dataclass(frozen=True, slots=True)
class Running:
    """A sandbox at work; `url` is its base URL, with /v1."""

    url: str


@asynccontextmanager
async def Sandbox() -> AsyncIterator[Running]:
    """Serve it on a free port of 127.0.0.1."""
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(sandbox.serve("127.0.0.1", 0, ready=told.set_result))
    try:
        await asyncio.wait((told, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield Running(told.result())
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
