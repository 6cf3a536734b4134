"""Waiting for bytes: who waits is run the moment they come, while they are still in the processor's cache."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from functools import partial
from typing import Any


class Round:
    """Who is to go on in the loop's next round: one call of the loop for all of them, in the order in which they came.

    A call of its own for each takes the loop a handle and ten frames, a fiftieth of what a small request costs.
    """

    __slots__ = ("_turns", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._turns: deque[Callable[[], object]] = deque()

    def add(self, go_on: Callable[[], object]) -> None:
        """Have this called in the next round."""
        if not self._turns:
            self.loop.call_soon(self._run)
        self._turns.append(go_on)

    def _run(self) -> None:
        turns = self._turns
        try:
            for _ in range(len(turns)):  # who is added meanwhile goes on in the round after this
                turns.popleft()()
        finally:
            if turns:
                self.loop.call_soon(self._run)


class Turn:
    """Like a future that one task awaits, but `take` runs that task at once, inside the call.

    A future's waiter is run one round of the loop later. With many busy connections that is megabytes later, and image
    bytes must come back from main memory to be written (a third of the CPU of an image that a plugin looks at).
    `take` is for callbacks of the loop, where no task runs; from within a task use `later`.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_done", "_round")

    def __init__(self, round: Round) -> None:
        self._round = round
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
        if asyncio.current_task(self._round.loop) is not None:  # one task can't run inside another
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
            assert self._context is not None
            self._round.add(partial(self._context.run, callback, self))

    # What a task asks of what it waits for.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it belongs to."""
        return self._round.loop

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
