"""A second call beside the first, where that lets one wait: who answers well first is heard, the other let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from .judge import Tried


async def race(
    first: Coroutine[Any, Any, Tried],
    pause: Awaitable[Any],
    another: Callable[[], Coroutine[Any, Any, Tried] | None],
) -> list[Tried]:
    """What came of the calls that ended, the one that counts last: an answer if there is one, else the last failure.

    When `pause` is over before `first`, `another` may begin a second call. Whatever is still under way at the end is
    cancelled and waited for, and an answer that came too late is closed.
    """
    tasks = [asyncio.ensure_future(first)]
    waiting = asyncio.ensure_future(pause)
    ended: list[Tried] = []
    try:
        await asyncio.wait((tasks[0], waiting), return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done() and (second := another()) is not None:
            tasks.append(asyncio.ensure_future(second))
        running = set(tasks)
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=tasks.index):
                ended.append(task.result())
                if ended[-1].failure is None:
                    return ended
        return ended
    finally:
        for task in (*tasks, waiting):
            task.cancel()
        for late in await asyncio.gather(*tasks, waiting, return_exceptions=True):
            if isinstance(late, Tried) and not any(late is one for one in ended) and late.response is not None:
                await late.response.aclose()
