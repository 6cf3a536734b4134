"""Waiting for one of a limited number of connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from ..model.errors import UpstreamError

T = TypeVar("T")


class Crowded(UpstreamError):
    """All the connections that an upstream may have were busy for too long.

    Nothing is wrong with the upstream, so this is no failed connection (502): a line of ours did not move.
    """

    status = 503
    type = "service_unavailable_error"

    def __init__(self, limit: int, seconds: float) -> None:
        busy = "its one connection was" if limit == 1 else f"all its {limit} connections were"
        super().__init__(f"{busy} busy for {seconds:g} s", sent=False)
        self.code = "queue_unavailable"


class Line:
    """First come, first served.

    Nothing is handed to who waits. The first in line is woken when something may have come free, takes it itself, and
    only then makes place for the next. So there is nothing that one who leaves could take away.
    """

    def __init__(self, limit: int, room: Callable[[], bool]) -> None:
        self._limit = limit
        self._room = room
        self._waiting: deque[asyncio.Event] = deque()

    async def enter(self, take: Callable[[], T | None], timeout: float) -> T | None:
        """What `take` gives, or None: there is room for one more connection, to be dialled before anything is awaited.

        Raises Crowded when neither comes about in time.
        """
        if not self._waiting and ((taken := take()) is not None or self._room()):
            return taken
        woken = asyncio.Event()
        self._waiting.append(woken)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await woken.wait()
                    woken.clear()
                    if (taken := take()) is not None or self._room():
                        return taken
        except TimeoutError as exc:
            raise Crowded(self._limit, timeout) from exc
        finally:
            self._waiting.remove(woken)
            self.nudge()

    def nudge(self) -> None:
        """Something may have come free."""
        if self._waiting:
            self._waiting[0].set()
