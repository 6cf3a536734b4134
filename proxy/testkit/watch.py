"""What a stage keeps an eye on: spawned work, tasks that nobody holds, crashes that nobody would hear of."""

from __future__ import annotations

import asyncio
import io
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import orjson

from ..core.engine import Engine
from ..model.exchange import Client, Exchange
from ..model.message import Request
from ..model.services import Clock
from ..telemetry.log import make

UNHEARD = frozenset(("finisher_crashed", "task_crashed"))  # crashes that no client is told of
_stage: ContextVar[Watch | None] = ContextVar("framegate_stage", default=None)


class LogKept:
    """The house's own log, kept in memory: its lines as written, and the exceptions that they speak of."""

    def __init__(self) -> None:
        self.raw = io.BytesIO()
        self.crashes: list[tuple[str, dict[str, Any], BaseException]] = []
        self._log = make("json", self.raw)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every line so far."""
        return [orjson.loads(line) for line in self.raw.getvalue().splitlines()]

    def info(self, event: str, **details: Any) -> None:
        """What somebody may want to know."""
        self._log.info(event, **details)

    def warning(self, event: str, **details: Any) -> None:
        """What a person should look at."""
        self._log.warning(event, **details)

    def error(self, event: str, **details: Any) -> None:
        """What a person must act on."""
        crash = details.get("exc_info")
        if isinstance(crash, BaseException):
            self.crashes.append((event, details, crash))
        self._log.error(event, **details)


class Watch:
    """Holds every task that is begun inside, and says which are left over.

    "Inside" is told by a context variable, which tasks inherit: a test's own tasks are its own affair.
    """

    def __init__(self) -> None:
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._loop = asyncio.get_running_loop()
        self._before = self._loop.get_task_factory()
        self._known = False  # the task that is being made has somebody who holds it
        self._loop.set_task_factory(self._make)

    def _make(self, loop: asyncio.AbstractEventLoop, coro: Any, **kw: Any) -> Any:
        task = asyncio.Task(coro, loop=loop, **kw) if self._before is None else self._before(loop, coro, **kw)
        if _stage.get() is self and not self._known and isinstance(task, asyncio.Task):
            self._tasks.add(task)
        return task

    @contextmanager
    def inside(self, *, known: bool = False) -> Iterator[None]:
        """What is begun in here is watched; `known`: it is held by somebody, and only what it begins is watched."""
        before, self._known = self._known, known
        token = _stage.set(self)
        try:
            yield
        finally:
            _stage.reset(token)
            self._known = before

    async def left(self) -> list[str]:
        """The tasks that still run, in words; they are cancelled."""
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [
            f"a task still ran that nobody holds: {getattr(task.get_coro(), '__qualname__', '?')} ({task.get_name()}); "
            "services.spawn(...) holds and drains what it is given"
            for task in tasks
        ]

    def close(self) -> None:
        """Let the loop make its tasks as before."""
        if self._loop.get_task_factory() == self._make:
            self._loop.set_task_factory(self._before)


class WatchedEngine(Engine):
    """The engine itself, that tells of each exchange it opens and of spawned work that had to be cut off."""

    def __init__(self, clock: Clock, log: LogKept, watch: Watch, opened: Callable[[Exchange], None]) -> None:
        super().__init__(clock, log, None)
        self._watch = watch
        self._opened = opened
        self.cut: list[str] = []

    def open(self, received: Request, client: Client) -> Exchange:
        """Begin an exchange, and tell of it."""
        exchange = super().open(received, client)
        self._opened(exchange)
        return exchange

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> None:
        """Start work that the app owns."""
        with self._watch.inside(known=True):
            super().spawn(self._until_cut(work, name), name=name)

    async def _until_cut(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        try:
            await work
        except asyncio.CancelledError:
            if self.draining:
                self.cut.append(name)
            raise
