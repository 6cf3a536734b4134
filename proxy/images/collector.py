"""Takes away what no name needs any more, and the oldest pictures where there are too many. One process at a time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from ..model.errors import ProxyError
from ..model.services import Clock, Log
from ..model.store import Add, Store
from .blobs import Blobs
from .cache import Cache
from .files import Blob, Files
from .index import Index

EVERY = 600.0  # seconds between two rounds
FIRST = 30.0  # seconds before the first, so that a restart is not the moment for it
JITTER = 0.2  # a part of either, lest all processes come at once
SOON = 5.0  # seconds between two rounds where there is too much
GRACE = 600.0  # seconds in which bytes without a reference are left alone: a folder may have been put back by a backup
ROOM = 0.9  # of max_bytes is left when there was too much, so that not every picture costs a round
SHARDS = "0123456789abcdef"  # a round takes those with the same first digit together: in a sixteenth of the memory
LEASES, BYTES = "leases", "images.bytes"


@dataclass(slots=True)
class Round:
    """What a round found and did."""

    kept: int = 0  # pictures' bytes that stay, by sum
    kept_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0
    evicted: int = 0  # names that ended before their time, since there was too much
    abandoned: int = 0  # half pictures of killed processes


class Collector:
    """Clears away by listing what there is: it believes no count."""

    def __init__(
        self,
        index: Index,
        blobs: Blobs,
        files: Files,
        cache: Cache,
        store: Store,
        clock: Clock,
        *,
        max_bytes: int | None,
    ) -> None:
        self.wanted = asyncio.Event()  # there is too much, or the end has come
        self._index = index
        self._blobs = blobs
        self._files = files  # those on their way in, wherever the whole ones lie
        self._cache = cache
        self._store = store
        self._clock = clock
        self._max_bytes = max_bytes

    async def run(self, stop: asyncio.Event, log: Log) -> None:
        """Collect from time to time until told to stop."""
        wait = FIRST
        while not stop.is_set():
            await self._pause(wait * random.uniform(1 - JITTER, 1 + JITTER))
            full = self.wanted.is_set()
            self.wanted.clear()
            wait = EVERY
            if stop.is_set():
                return
            await asyncio.to_thread(self._cache.trim)  # everybody: it may be a machine's own, and costs little
            try:
                # The lease is never given back: who has it need not be asked again so soon by the next process.
                lease, seconds = ("images-full", SOON) if full else ("images", EVERY * (1 - JITTER))
                if await self._store.put(LEASES, lease, b"", ttl=seconds, new=True):
                    done = await self.collect()
                    if done.removed or done.evicted or done.abandoned:
                        log.info("images_collected", removed=done.removed, evicted=done.evicted, left=done.kept_bytes)
            except ProxyError as error:
                log.warning("images_not_collected", why=error.message)

    async def _pause(self, seconds: float) -> None:
        over = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self.wanted.wait())]
        try:
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in over:
                one.cancel()

    async def count(self, size: int) -> None:
        """So many bytes have come; ask for a round when there are too many. The next round corrects the count."""
        added = await self._store.add(Add(BYTES, size))
        if self._max_bytes is not None and added.values[0] > self._max_bytes:
            self.wanted.set()

    async def collect(self) -> Round:
        """One round. Raises ImageStoreError or StoreError."""
        done = Round()
        now = self._clock.wall()
        counted = (await self._store.add(Add(BYTES, 0))).values[0]
        done.abandoned = await asyncio.to_thread(self._files.sweep)
        for begins in SHARDS:
            kept = set()
            for blob in await self._shard(begins, now):
                if blob.written < now - GRACE and await self.drop(blob.sha256):
                    done.removed += 1
                    done.removed_bytes += blob.size
                else:
                    kept.add(blob.sha256)
                    done.kept += 1
                    done.kept_bytes += blob.size
            await asyncio.to_thread(self._cache.orphaned, begins, kept)
        if self._max_bytes is not None and done.kept_bytes > self._max_bytes:
            await self._evict(done, int(self._max_bytes * ROOM))
        if self._max_bytes is not None:
            await self._store.add(Add(BYTES, done.kept_bytes - counted))
        return done

    async def drop(self, sha256: str) -> bool:
        """Take these bytes away unless a name needs them, and their thumbnails; whether they are gone."""
        gone = await self._blobs.drop(sha256, self._index.needed)
        if gone:
            await asyncio.to_thread(self._cache.forget, sha256)
        return gone

    async def _shard(self, begins: str, now: float) -> list[Blob]:
        """The bytes there, of which those with a reference that leads to a name count as new."""
        blobs = {blob.sha256: blob for blob in await self._blobs.shard(begins)}
        async for page in self._index.references(begins):
            names = await asyncio.gather(*[self._index.get(name) for _, name, _ in page])
            for (sha256, name, since), stored in zip(page, names, strict=True):
                if stored is None and since < now - GRACE:  # left behind by who was killed between the two
                    await self._index.release(sha256, name)
                elif sha256 in blobs:
                    blobs[sha256] = blobs[sha256]._replace(written=now)
        return list(blobs.values())

    async def _evict(self, done: Round, room: int) -> None:
        """End the oldest names until what is left has room."""
        names = []
        users: dict[str, int] = {}
        async for page in self._index.all():
            for stored in page:
                names.append((stored.created, stored.name, stored.sha256, stored.size))
                users[stored.sha256] = users.get(stored.sha256, 0) + 1
        for _, name, sha256, size in sorted(names):
            if done.kept_bytes <= room:
                return
            await self._index.delete(name)
            done.evicted += 1
            users[sha256] -= 1
            if not users[sha256] and await self.drop(sha256):
                done.kept -= 1
                done.kept_bytes -= size
                done.removed += 1
                done.removed_bytes += size
