"""Places on the bench, shared through the store: what one process finds out, all others on it go by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import orjson

from ..model.store import StoreError
from .bench import PROBE, Place

if TYPE_CHECKING:
    from ..model.services import Clock, Log
    from ..model.store import Store

SPACE, PROBES = "health", "health-probes"  # of the store
EVERY = 0.5  # seconds between two looks at what others found out
LONGEST = 3600.0  # seconds that a pause may still take which another process wrote, whatever its clock says
KEPT = 3600.0  # seconds that a record outlives its pause, so that a breaker stays half open
Key = tuple[str, str, str]  # upstream, credential, capability


class Sharing:
    """Writes pauses down and reads those of others, while somebody is `inside`; else each process is alone."""

    def __init__(self, places: dict[Key, Place], store: Store, clock: Clock, log: Log) -> None:
        self._places, self._store, self._clock, self._log = places, store, clock, log
        self._writes: asyncio.Queue[Callable[[], Awaitable[Any]]] | None = None
        self._inside = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._deaf = False  # the store does not answer
        self._known: dict[str, bytes] = {}  # records as they were last read or written
        self._fresh: dict[str, int] = {}  # those whose writing is under way, or was since the last reading began

    # --- telling

    @property
    def alone(self) -> bool:
        """Whether nobody else hears of what we find out."""
        return self._writes is None or self._deaf

    def claim(self, key: Key, place: Place) -> None:
        """Ask the store for a probe, off the way; a later request may take it."""

        async def claim() -> None:
            place.claimed = await self._store.put(PROBES, _name(key), b"1", ttl=PROBE, new=True)
            if place.claimed:
                place.probing = 0.0  # the next request may go

        self._write(claim, "")

    def sat(self, key: Key, place: Place, seconds: float) -> None:
        """Say that it sits, for that long from now."""
        wall = self._clock.wall() + seconds
        record = orjson.dumps({"until": wall, "why": place.why, "firm": place.firm, "times": place.times})
        name = _name(key)
        self._known[name] = record

        async def tell() -> None:
            old = await self._store.get(SPACE, name)
            if old is None or not self._longer(key, name, old, wall):
                await self._store.put(SPACE, name, record, ttl=seconds + KEPT)
            await self._store.delete(PROBES, name)

        self._write(tell, name)

    def back(self, key: Key) -> None:
        """Say that it is well again."""
        name = _name(key)
        self._known.pop(name, None)

        async def tell() -> None:
            old = await self._store.get(SPACE, name)
            if old is None or not self._longer(key, name, old, self._clock.wall(), firm=True):
                await self._store.delete(SPACE, name)
            await self._store.delete(PROBES, name)

        self._write(tell, name)

    def _longer(self, key: Key, name: str, record: bytes, wall: float, *, firm: bool = False) -> bool:
        """Whether another process was told a longer pause, which holds here too then: pauses only get longer."""
        with suppress(ValueError, KeyError, TypeError):
            told = orjson.loads(record)
            if float(told["until"]) > wall and (told["firm"] or not firm) and self._known.get(name) != record:
                self._take(key, name, record)
                return True
        return False

    def _take(self, key: Key, name: str, record: bytes) -> None:
        """Take over what another process has written."""
        now, wall = self._clock.now(), self._clock.wall()
        told = orjson.loads(record)
        place = self._places.setdefault(key, Place())
        until = now + min(float(told["until"]) - wall, LONGEST)
        if until > place.until or not place.why:
            place.put(now, until, str(told["why"]), firm=bool(told["firm"]))
            place.times, place.reason = int(told["times"]), place.why
        self._known[name] = record

    def _write(self, call: Callable[[], Awaitable[Any]], name: str) -> None:
        if self._writes is None:
            return
        self._fresh[name] = self._fresh.get(name, 0) + 1

        async def written() -> None:
            try:
                await call()
            finally:
                self._fresh[name] -= 1

        self._writes.put_nowait(written)

    # --- at work

    @asynccontextmanager
    async def inside(self) -> AsyncIterator[None]:
        """While somebody is, what other processes found out is taken over within a second."""
        self._inside += 1
        if self._inside == 1:
            self._writes = asyncio.Queue()
            await self._try(self._read)
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(self._writing(self._writes), name="health-writing"),
                loop.create_task(self._reading(), name="health-reading"),
            ]
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                tasks, self._tasks, self._writes = self._tasks, [], None
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _writing(self, writes: asyncio.Queue[Callable[[], Awaitable[Any]]]) -> None:
        while True:
            await self._try(await writes.get())

    async def _reading(self) -> None:
        while True:
            await self._clock.sleep(EVERY)
            await self._try(self._read)

    async def _try(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Without the store, each process goes by what it sees itself; that is said once."""
        try:
            await call()
            self._deaf = False
        except StoreError as error:
            if not self._deaf:
                self._log.warning("health_not_shared", error=str(error))
            self._deaf = True

    async def _read(self) -> None:
        self._fresh = {name: count for name, count in self._fresh.items() if count}
        records = dict(await self._store.items(SPACE))
        for name, record in records.items():
            if name in self._fresh or self._known.get(name) == record:
                continue
            self._known[name] = record
            with suppress(ValueError, KeyError, TypeError):
                self._take(_key(name), name, record)
        for name in [name for name in self._known if name not in records and name not in self._fresh]:
            del self._known[name]
            with suppress(ValueError):
                key = _key(name)
                seat = self._places.get(key)
                if seat is not None and seat.why:
                    self._places.pop(key)  # somebody else found that it is well again


def _name(key: Key) -> str:
    return orjson.dumps(key).decode()


def _key(name: str) -> Key:
    upstream, credential, capability = orjson.loads(name)
    return upstream, credential, capability
