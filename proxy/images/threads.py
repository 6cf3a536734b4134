"""Threads that work for the loop, and wake it once for all that came of a moment.

A picture takes several turns of a thread. A pool of the standard library costs the loop a lock, two futures and a
wake-up for each: 600 of 4,000 calls for a rehosted picture of 1.5 MB.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
WRITING = 4  # that write pictures; each is busy for some milliseconds
ENDING = 8  # pictures at a time that are synced and put in their places


class Came(NamedTuple, Generic[T]):
    """What came of some work: its error, or what it gave."""

    error: BaseException | None
    gave: T | None


Told = Callable[[Came[Any]], object]
Job = tuple[Callable[[], Any], Told | None]


class Threads:
    """Some threads, made as they are needed. After `close` they end, but nothing that is still given them is lost."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0  # jobs given of which nothing has been heard
        self._closed = False
        self._came: deque[tuple[Told | None, Came[Any]]] = deque()
        self._woken = False  # the loop is going to look at what came
        self._loop: asyncio.AbstractEventLoop | None = None

    def do(self, work: Callable[[], T], told: Callable[[Came[T]], object] | None = None) -> None:
        """Have a thread do it, then the loop tell what came of it. Nobody's leaving keeps it from being done."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._jobs.put((work, told))
        self._busy += 1
        if self._closed or len(self._threads) < min(self._busy, self._most):
            thread = threading.Thread(target=self._run, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
            if self._closed:
                self._jobs.put(None)

    async def run(self, work: Callable[[], T]) -> T:
        """The same, waited for."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.do(work, partial(_settle, done))
        return await done  # type: ignore[no-any-return]

    def close(self) -> None:
        """Have each thread end when all is done that was given so far; who comes later gets one of his own."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)

    @property
    def begun(self) -> bool:
        """Whether there is any."""
        return bool(self._threads)

    def join(self) -> None:
        """Wait for them to end: they are daemons, so that one who forgets them does not hang."""
        for thread in self._threads:
            thread.join()

    def _tell(self) -> None:
        self._woken = False  # before we look: what comes from now on wakes the loop anew
        came = self._came
        try:
            while came:
                told, what = came.popleft()
                self._busy -= 1
                if told is not None:
                    told(what)
        finally:
            if came and self._loop is not None:
                self._loop.call_soon(self._tell)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, told = job
            try:
                came = Came(None, work())
            except BaseException as error:
                came = Came(error, None)
            self._came.append((told, came))
            if not self._woken and self._loop is not None:
                self._woken = True
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    self._loop.call_soon_threadsafe(self._tell)
            del job, work, told, came  # or a picture's bytes would stay here until the next comes


class Workshop:
    """Both sorts of threads that take pictures in."""

    def __init__(self, writing: int = WRITING, ending: int = ENDING) -> None:
        # Of their own, lest a slow disk keep those waiting who look up names in the default pool.
        self.writing = Threads(writing, "framegate-images")
        # Apart: who waits for the disk keeps nobody from summing, and the more wait, the more a disk does at once.
        self.ending = Threads(ending, "framegate-images-last")

    async def aclose(self) -> None:
        """Have both end, and wait for what is being done."""
        for threads in (self.writing, self.ending):
            threads.close()
            if threads.begun:
                await asyncio.to_thread(threads.join)


def _settle(done: asyncio.Future[Any], came: Came[Any]) -> None:
    if done.done():
        return
    if came.error is not None:
        done.set_exception(came.error)
    else:
        done.set_result(came.gave)
