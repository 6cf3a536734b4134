"""What the requests of this process hold of their limits: claimed together, settled for certain, held by one lease."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from typing import Protocol

from ..model.quota import LEASE, Claim, Claimed, Line, Settle, Tallied, Tally
from ..model.services import Clock, Log
from ..model.store import StoreError
from ..model.timeout import Within

TOGETHER = 64  # that are asked of the store in one step: it works on them for about a millisecond
# A step costs the same whatever is asked in it. So what was used waits for the next claim, that many seconds at the
# most; and claims wait for each other, the longer the more is held: who asks alone is answered at once.
LATER = 0.01
APART, FARTHEST = 0.0003, 0.003  # seconds between two steps: for each claim that is held, and at the most
PAUSE = 0.25  # seconds before a store that failed is asked again for what nobody waits for
RENEW = LEASE / 4  # seconds between two signs of life
BACKLOG = 100_000  # settlements that are kept while the store can't be asked; each is some hundred bytes

Waiting = asyncio.Future[Claimed]
Asked = tuple[Claim | Settle, Waiting | None]


class Tallies(Protocol):
    """What counts: a store, or the memory of this process."""

    async def tally(self, asked: Tally) -> Tallied: ...


class Claims:
    """All of one process. What is asked while the store is at work goes there in one step when it is done."""

    def __init__(self, store: Tallies, clock: Clock, log: Log, *, timeout: float) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._timeout = timeout  # seconds that nobody waits longer than
        self._holder = secrets.token_hex(8)
        self._asked: deque[Asked] = deque()
        self._waiting = 0  # of those, who waits for an answer
        self._held = 0  # claims that are not settled
        self._last = 0.0  # when the store was last asked, by the loop
        self._soon = False  # whether somebody has a line behind them
        self._due = False  # whether the store is to be asked although nobody waits
        self._later: asyncio.TimerHandle | None = None  # when it will be, at the latest
        self._alarm: asyncio.TimerHandle | None = None  # when it may be, for those who wait
        self._seen: tuple[int, float] | None = None  # the store's time (ms), and ours at least as early
        self._failing = False
        self._closing = False
        self._loop: asyncio.AbstractEventLoop  # once begun: to ask which one is running is a system call each time
        self._context = Context()  # of what outlives the request that happens to ask first
        self._woken: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._pulse: asyncio.Task[None] | None = None

    async def claim(self, id: str, lines: Sequence[Line], amounts: Sequence[int], *, soon: bool = False) -> Claimed:
        """Take the amounts, all or none; without an id, only look. Raises StoreError when nobody could say in time.

        Whoever is cancelled, or hears an error, holds nothing. What was taken must be settled, by the same id. `soon`:
        without waiting for other claims, for there is a line behind it.
        """
        if self._closing:
            raise StoreError("The store is closed.")
        if self._worker is None:
            self._begin()
        waiting: Waiting = self._loop.create_future()
        self._asked.append((Claim(id, lines, amounts), waiting))
        self._waiting += 1
        self._soon = self._soon or soon
        if self._alarm is None or soon:
            self._rouse()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None and waiting.result().taken:
                self.settle(id, lines, (0,) * len(lines))  # the answer came in the same moment
            raise

    def settle(self, id: str, lines: Sequence[Line], used: Sequence[int]) -> None:
        """End a claim with what was used. Nobody waits: it is kept until the store has taken it."""
        if self._worker is None:
            self._begin()
        self._held -= 1
        self._asked.append((Settle(id, lines, used), None))
        if self._later is None:
            self._later = self._loop.call_later(LATER, self._overdue, context=self._context)

    async def aclose(self) -> None:
        """Settle what is to be settled, within the time that a request would wait, and stop."""
        self._closing = True
        if self._pulse is not None:
            self._pulse.cancel()
        if self._worker is not None:
            self._wake()
            await self._worker
        if self._later is not None:
            self._later.cancel()

    # --- the worker

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        begin = self._loop.create_task
        self._worker = self._context.run(begin, self._work(), name="framegate-claims")
        self._pulse = self._context.run(begin, self._beat(), name="framegate-lease")

    def _apart(self) -> float:
        """Seconds until the store may be asked again."""
        if self._soon:
            return 0.0
        return self._last + min(FARTHEST, APART * self._held) - self._loop.time()

    def _rouse(self) -> None:
        """Have the worker ask as soon as it may. Where it is at work it looks for itself."""
        if self._woken is None:
            return
        apart = self._apart()
        if apart <= 0:
            self._wake()
        elif self._alarm is None:
            self._alarm = self._loop.call_later(apart, self._wake, context=self._context)

    def _wake(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _now(self) -> None:
        self._due = True
        self._wake()

    def _overdue(self) -> None:
        """What nobody waits for has waited for long, unless the store was asked since. One timer serves many steps."""
        self._later = None
        if self._closing or not self._asked:
            return
        more = LATER if self._failing else self._last + LATER - self._loop.time()
        if more > 0:
            self._later = self._loop.call_later(more, self._overdue, context=self._context)
        else:
            self._now()

    async def _beat(self) -> None:
        """Give signs of life while anything is held."""
        while True:
            await self._clock.sleep(RENEW)
            if self._held and not self._asked:
                self._asked.append((Claim("", (), ()), None))
                self._now()

    async def _work(self) -> None:
        while True:
            if self._closing:
                if not self._asked:
                    return
            elif not (self._waiting or self._due) or self._apart() > 0:
                self._woken = self._loop.create_future()
                if self._waiting or self._due:
                    self._rouse()
                await self._woken
                self._woken = None
                continue
            self._soon = False
            self._last = self._loop.time()
            batch = self._batch()
            if batch and not await self._tally(batch):
                if self._closing:
                    self._log.error("quota_not_settled", requests=len(self._asked))
                    return
                await self._rest()
                self._due = True

    def _batch(self) -> list[Asked]:
        """What is asked next. What has ended goes first: it makes room for who asks, and like stands by like."""
        ended: list[Asked] = []
        asking: list[Asked] = []
        for _ in range(min(TOGETHER, len(self._asked))):
            one = self._asked.popleft()
            if one[1] is None:
                ended.append(one)
            else:
                self._waiting -= 1
                if not one[1].done():
                    asking.append(one)
        self._due = bool(self._asked)
        return ended + asking

    async def _rest(self) -> None:
        """Wait a moment, or for somebody who waits."""
        if any(waiting is not None for _, waiting in self._asked):
            return
        self._woken = self._loop.create_future()
        pause = asyncio.ensure_future(self._clock.sleep(PAUSE))
        await asyncio.wait((self._woken, pause), return_when=asyncio.FIRST_COMPLETED)
        self._woken = None
        pause.cancel()
        with suppress(asyncio.CancelledError):
            await pause

    async def _tally(self, batch: list[Asked]) -> bool:
        """Ask the store for all of them; whether it answered."""
        began = self._clock.now()
        expected = None
        if self._seen is not None:
            expected = self._seen[0] + int((began - self._seen[1]) * 1000)
        try:
            async with Within(self._timeout):
                tallied = await self._store.tally(Tally(self._holder, [asked for asked, _ in batch], expected))
        except TimeoutError:
            self._failed(batch, StoreError("The store gave no answer in time."), late=True)
            return False
        except StoreError as error:
            self._failed(batch, error)
            return False
        except Exception as error:
            self._log.error("quota_crashed", exc_info=error)
            self._failed(batch, StoreError("The store could not be read or written."))
            return False
        self._seen = (tallied.now, began)
        if self._failing:
            self._failing = False
            self._log.info("store_back")
        for (asked, waiting), answer in zip(batch, tallied.answers, strict=True):
            if waiting is None or answer is None:
                continue
            if not waiting.done():
                waiting.set_result(answer)
                self._held += answer.taken
            elif answer.taken:  # whoever asked has left
                self._asked.appendleft((_back(asked), None))
                self._due = True
        return True

    def _failed(self, batch: list[Asked], error: StoreError, *, late: bool = False) -> None:
        """Tell those who wait; what nobody waits for is asked again, and what may have been taken is given back."""
        if not self._failing:
            self._failing = True
            self._log.warning("store_failing", reason=error.message)
        again = [(asked if waiting is None else _back(asked), None) for asked, waiting in batch if asked.id]
        waiting = [one for one in batch if one[1] is not None]
        if late:  # they have waited as well
            waiting += [one for one in self._asked if one[1] is not None]
            self._asked = deque(one for one in self._asked if one[1] is None)
            self._waiting = 0
        self._asked.extendleft(reversed(again[: max(0, BACKLOG - len(self._asked))]))
        for _, future in waiting:
            if future is not None and not future.done():
                future.set_exception(error)


def _back(asked: Claim | Settle) -> Settle:
    """All of it given back."""
    return Settle(asked.id, asked.lines, (0,) * len(asked.lines))
