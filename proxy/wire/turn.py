"""Waiting for bytes: who waits is run the moment they come, while they are still in the processor's cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Turn:
    """Like a future that one task awaits, but `take` runs that task at once, inside the call.

    A future's waiter is run one round of the loop later. With many busy connections that is megabytes later, and image
    bytes must come back from main memory to be written (a third of the CPU of an image that a plugin looks at).
    `take` is for callbacks of the loop, where no task runs; from within a task use `later`.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_done", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False  # by this tasks know what they may await
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._done = self._cancelled = False

    def __await__(self) -> Generator[Any, None, None]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        if self._cancelled:
            raise asyncio.CancelledError

    def take(self) -> None:
        """Run who waits, now."""
        if asyncio.current_task(self._loop) is not None:  # one task can't run inside another
            self.later()
            return
        self._done = True
        callback, self._callback = self._callback, None
        if callback is not None:
            assert self._context is not None
            self._context.run(callback, self)

    def later(self) -> None:
        """Run who waits in the loop's next round."""
        self._done = True
        callback, self._callback = self._callback, None
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)

    # What a task asks of what it waits for.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it belongs to."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Have this called when it is done; a task calls it once."""
        self._callback, self._context = callback, context
        if self._done:
            self.later()

    def result(self) -> None:
        """Nothing, or CancelledError."""
        if self._cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg: object = None) -> bool:
        """Its task is cancelled."""
        if self._done:
            return False
        self._cancelled = True
        self.later()
        return True
