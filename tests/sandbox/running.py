"""A sandbox on a loopback socket of its own, for the length of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from proxy import sandbox


@asynccontextmanager
async def running() -> AsyncIterator[str]:
    """Starts the sandbox with `serve`, gives its base URL, and stops it by cancelling."""
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(sandbox.serve("127.0.0.1", 0, ready=told.set_result))
    try:
        await asyncio.wait((told, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield told.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
