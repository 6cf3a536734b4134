"""The store of pictures: spools, names, links, and what is taken away again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..model.body import Body
from ..model.errors import ProxyError
from ..model.images import ImageStoreError, Lifetime, Stored
from ..model.services import Clock, Services
from ..model.store import Store, StoreError
from .blobs import Blobs, Folder
from .cache import Cache
from .collector import GRACE, Collector
from .files import Files
from .index import Index, new_name
from .signing import Links
from .spool import Spooling
from .threads import Workshop
from .thumbs import Thumbs

PATIENCE = 60.0  # seconds that the index may take to learn a name; a slower one has failed


@dataclass(frozen=True, slots=True)
class Rules:
    """What the config says of pictures."""

    folder: Path
    ttl: Lifetime = 30 * 86400.0  # seconds
    max_bytes: int | None = None
    base: Callable[[], str] = str  # of the links
    links: Links | None = None  # None: they are not signed


class Images:
    """Pictures in a folder or in S3, names in the store. `rules` is None where the config has no place for any."""

    def __init__(
        self, rules: Rules | None, store: Store, clock: Clock, threads: Workshop, blobs: Blobs | None = None
    ) -> None:
        self.rules = rules
        self.files = Files(rules.folder if rules is not None else Path(), lasting=blobs is None)
        # Not given: whole pictures stay in the folder. Else only those on their way in lie there.
        self.blobs: Blobs = blobs if blobs is not None else Folder(self.files)
        self.index = Index(store, clock)
        max_bytes = None if rules is None else rules.max_bytes
        cache = Cache(self.files, max_bytes=max_bytes)
        self.collector = Collector(self.index, self.blobs, self.files, cache, store, clock, max_bytes=max_bytes)
        self.thumbs = Thumbs(self.files, cache, clock, self._whole)
        self._store = store
        self.clock = clock
        self.threads = threads

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """See that the place can be used, and clear away what is over from time to time."""
        if self.rules is None:
            yield
            return
        try:
            await asyncio.to_thread(self.files.prepare)
            await self.blobs.prepare()
        except ImageStoreError as error:
            # The disk may have room again soon, and what needs no pictures is to be served meanwhile.
            services.log.error("images_unusable", folder=str(self.rules.folder), why=error.message)
        stop = asyncio.Event()
        services.spawn(self.collector.run(stop, services.log), name="images-collector")
        try:
            yield
        finally:
            stop.set()
            self.collector.wanted.set()
            await self.thumbs.aclose()

    def spool(self, *, owner: str | None = None, request: str | None = None) -> Spooling:
        """Take a picture in. Raises ImageStoreError where the config has no place for it."""
        if self.rules is None:
            raise ImageStoreError("The config has no [images] table, so there is no place for pictures.")
        keep = partial(self._keep, self.rules)
        return Spooling(self.files, self.threads, keep, owner=owner, request=request)

    async def find(self, name: str) -> Stored | None:
        """The picture of that name, with its link."""
        stored = await self.index.get(name)
        if stored is None or self.rules is None:
            return None
        return self._linked(self.rules, stored, self._ends(self.rules, stored.expires))

    async def signed_anew(self, name: str, *, owner: str | None) -> tuple[Stored, float | None] | None:
        """The same for its owner alone, with when the link ends, if it does; nobody has what has no owner.

        Somebody else's is as unknown as one that never was, and takes as long.
        """
        stored = await self.index.get(name)
        if stored is None or self.rules is None or owner is None or stored.owner != owner:
            return None
        ends = self._ends(self.rules, stored.expires)
        return self._linked(self.rules, stored, ends), ends

    async def body(self, name: str) -> Body | None:
        """The bytes of that picture."""
        stored = await self.index.get(name)
        return None if stored is None else await self.opened(stored, 0, stored.size)

    async def opened(self, stored: Stored, first: int, length: int) -> Body | None:
        """Its bytes from there on; None when they are gone, or not as many as there were. Raises ImageStoreError."""
        return await self.blobs.open(stored.sha256, stored.size, first, length)

    async def _whole(self, stored: Stored) -> Body | None:
        return await self.opened(stored, 0, stored.size)

    async def delete(self, name: str) -> bool:
        """End a name, and the bytes with their last name."""
        stored = await self.index.delete(name)
        if stored is not None:
            await self.collector.drop(stored.sha256)
        return stored is not None

    async def _keep(self, rules: Rules, spool: Spooling, ttl: Lifetime | None) -> Stored:
        """Bytes and reference, then the name: a process may be killed anywhere and nothing that is named is lost."""
        finished = await spool.finish(self.blobs.placing)
        picture, size, sha256 = finished
        ttl = rules.ttl if ttl is None else ttl
        seconds = None if ttl == "forever" else float(ttl)
        now = self.clock.wall()
        name = new_name(picture.type)
        expires = None if seconds is None else now + seconds
        path = self._path(rules, name, self._ends(rules, expires))
        stored = Stored(
            name=name,
            type=picture.type,
            size=size,
            width=picture.width,
            height=picture.height,
            sha256=sha256,
            created=now,
            expires=expires,
            owner=spool.owner,
            request=spool.request,
            path=path,
            url=rules.base() + path,
        )

        async def refer() -> None:
            await self.index.refer(sha256, name, seconds)

        async def put() -> None:
            if self.clock.wall() - now > GRACE / 2:
                # This process, or its machine, has stood still. By now its reference may have been taken for one that
                # was left behind by who was killed.
                raise ImageStoreError("The store of pictures can't be used: it took too long.")
            await self.index.put(stored)

        try:
            async with asyncio.timeout(PATIENCE + self.blobs.patience):
                await self.blobs.put(spool, finished, refer, put)
                if rules.max_bytes is not None:
                    await self.collector.count(size)
        except (StoreError, TimeoutError) as error:
            if isinstance(error, StoreError):  # of the two that were written in one moment the name may be there alone
                with suppress(ProxyError):
                    await self.index.delete(name)
            raise ImageStoreError("The store of pictures can't be used: its index does not answer.") from error
        except ImageStoreError:
            with suppress(ProxyError):
                await self.index.release(sha256, name)
            raise
        finally:
            spool.release()
        return stored

    def _ends(self, rules: Rules, expires: float | None) -> float | None:
        """When a link that is made now ends; None: never."""
        ends = [] if expires is None else [expires]
        if rules.links is not None:
            ends.append(self.clock.wall() + rules.links.ttl)
        return min(ends, default=None)

    def _path(self, rules: Rules, name: str, ends: float | None) -> str:
        path = f"/files/{name}"
        return path if rules.links is None or ends is None else f"{path}?{rules.links.sign(name, ends)}"

    def _linked(self, rules: Rules, stored: Stored, ends: float | None) -> Stored:
        path = self._path(rules, stored.name, ends)
        return replace(stored, path=path, url=rules.base() + path)
