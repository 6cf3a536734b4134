"""What outlives a generation of the config: store, vault, directory of callers; each opened when first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from .core.clock import SystemClock
from .core.health import Health

if TYPE_CHECKING:  # and at run time where the config has a use for it
    from .core.callers import Callers, KeyRing
    from .core.claims import Claims
    from .core.config import Config, StoreTable
    from .core.quota import Quotas
    from .core.waiting import Waiting
    from .images.base import Images
    from .images.s3 import S3
    from .images.threads import Workshop
    from .model.bucket import Account
    from .model.quota import Tallied, Tally
    from .model.services import Clock, Log
    from .model.slots import Caller
    from .model.store import Add, Added, Store
    from .model.values import Secret
    from .openai.demand import Means
    from .store.vault import Vault
    from .wire.fetch import Gate

    Declared = Sequence[tuple[Secret, Caller]]


class State:
    """The store behind `[store] url`, and what stands on it. It is a store itself: the first call opens the file."""

    def __init__(self, config: Config, environ: Mapping[str, str], clock: Clock) -> None:
        self._at = config.store
        self.environ = environ
        self._clock = clock
        self.address = ""  # on which the process listens, once it does
        self._lock = asyncio.Lock()
        self._store: Store | None = None
        self._pepper: bytes | None = None
        self._workshop: Workshop | None = None  # outlives a reload, as do the spools of the config before
        self._health: Health | None = None
        self._waiting: dict[str, Waiting] = {}
        self._claims: tuple[Claims, Claims] | None = None
        self._buckets: dict[Account, S3] = {}  # connections outlive a reload, and what is being read from them
        self._gate: Gate | None = None

    @cached_property
    def means(self) -> Means:
        """What models write; it outlives every config."""
        from .openai.demand import Means

        return Means()

    async def _open(self) -> Store:
        async with self._lock:
            if self._store is None:
                self._store = opened(self._at, self._clock)
            return self._store

    def vault(self) -> Vault:
        """The vault with the master keys that were given, or made beside the store."""
        from .store.vault import Vault, masters

        return Vault(masters(self.environ, self._at.beside))

    def lent_vault(self) -> LentVault:
        """The vault as plugins have it."""
        return LentVault(self)

    async def pepper(self) -> bytes:
        """What key hashes are made with. Raises StoreError when the store was written under another master key."""
        if self._pepper is None:
            from .store.vault import pepper

            await self._open()
            self._pepper = await pepper(self, self.vault())
        return self._pepper

    def images(self, config: Config) -> Images:
        """The pictures, as that config wants them kept. Raises StoreError where links can't be signed."""
        from .images.base import Images, Rules
        from .images.threads import Workshop

        table, rules, blobs, links = config.images, None, None, None
        if table is not None:
            if table.sign:
                from .images.signing import Links
                from .store.vault import masters

                links = Links(masters(self.environ, self._at.beside), ttl=table.link_ttl)
            base = partial(self._base, config.server.public_url.rstrip("/"))
            rules = Rules(table.path, table.ttl, table.max_bytes, base, links)
            blobs = None if table.account is None else self._bucket(table.account)
        if self._workshop is None:
            self._workshop = Workshop()
        return Images(rules, self, self._clock, self._workshop, blobs)

    def _base(self, url: str) -> str:
        """Where links begin. A port that the system chose is known when somebody listens on it."""
        return self.address if self.address and url.endswith(":0") else url

    def _bucket(self, account: Account) -> S3:
        if account not in self._buckets:
            from .images.s3 import S3  # and with it hundreds of modules

            self._buckets[account] = S3(account, self, self._clock)
        return self._buckets[account]

    async def keys(self) -> KeyRing:
        """The stored keys, for an operator."""
        from .core.callers import KeyRing
        from .store.vault import digester

        return KeyRing(self, self._clock, digester(await self.pepper()))

    def callers(self, declared: Declared, groups: Collection[str], log: Log | None = None) -> Directory:
        """The directory of callers: the declared ones of one config, and those stored that belong to its groups."""
        return Directory(self, self._clock, declared, groups, log)

    def health(self, log: Log) -> Health:
        """What is known of the upstreams; it outlives every config."""
        if self._health is None:
            self._health = Health(self, self._clock, log)
        return self._health

    def quotas(self, config: Config, log: Log) -> Quotas:
        """The limits of that config; what is held of them outlives it."""
        from .core.claims import Claims
        from .core.quota import Quotas
        from .store.memory import Memory

        if self._claims is None:
            memory = Claims(Memory(self._clock), self._clock, log, timeout=self._at.timeout)
            self._claims = Claims(self, self._clock, log, timeout=self._at.timeout), memory
        return Quotas(
            *self._claims,
            self._clock,
            groups={name: group.limits for name, group in config.groups.items()},
            models={glob: table.limits for glob, table in config.models.items()},
            routes={route.match: route.limits for route in config.routes},
            zone=config.store.zone,
        )

    def waiting(self, upstream: str) -> Waiting:
        """Who waits before that upstream; it outlives every config."""
        from .core.waiting import Waiting

        return self._waiting.setdefault(upstream, Waiting())

    def gate(self) -> Gate:
        """How many pictures are fetched at once, by all configs together."""
        if self._gate is None:
            from .wire.fetch import Gate

            self._gate = Gate()
        return self._gate

    # --- the store

    async def get(self, space: str, key: str) -> bytes | None:
        """The record, or None."""
        return await (self._store or await self._open()).get(space, key)

    async def put(self, space: str, key: str, value: bytes, *, ttl: float | None = None, new: bool = False) -> bool:
        """Write a record; whether it was written."""
        return await (self._store or await self._open()).put(space, key, value, ttl=ttl, new=new)

    async def swap(self, space: str, key: str, old: bytes, new: bytes) -> bool:
        """Write over a record only where it still is `old`."""
        return await (self._store or await self._open()).swap(space, key, old, new)

    async def delete(self, space: str, key: str) -> bool:
        """Take a record away; whether there was one."""
        return await (self._store or await self._open()).delete(space, key)

    async def items(self, space: str, *, after: str = "", limit: int = 1000) -> list[tuple[str, bytes]]:
        """The records of a space by key."""
        return await (self._store or await self._open()).items(space, after=after, limit=limit)

    async def add(self, *steps: Add) -> Added:
        """Do all steps or none."""
        return await (self._store or await self._open()).add(*steps)

    async def tally(self, asked: Tally) -> Tallied:
        """Take of limits and settle."""
        return await (self._store or await self._open()).tally(asked)

    async def aclose(self) -> None:
        """Close what was opened."""
        for claims in self._claims or ():
            await claims.aclose()
        try:
            for bucket in self._buckets.values():
                await bucket.aclose()
        finally:
            store, self._store = self._store, None
            if store is not None:
                await store.aclose()
            if self._workshop is not None:
                await self._workshop.aclose()


class Directory:
    """The callers of one config. Hashing needs the pepper, so it opens with the store."""

    def __init__(
        self, state: State, clock: Clock, declared: Declared, groups: Collection[str], log: Log | None
    ) -> None:
        self._state = state
        self._clock = clock
        self._declared = declared
        self._groups = groups
        self._log = log
        self._callers: Callers | None = None

    async def open(self) -> None:
        """Open the store and hash the declared keys. Raises StoreError."""
        if self._callers is None:
            from .core.callers import Callers
            from .store.vault import digester

            digest = digester(await self._state.pepper())
            hashed = [(digest(key.reveal()), caller) for key, caller in self._declared]
            self._callers = Callers(self._state, self._clock, digest, hashed, self._groups, self._log)

    def find(self, key: str) -> Coroutine[Any, Any, Caller]:
        """Whose key it is."""
        return self._find(key) if self._callers is None else self._callers.find(key)

    async def _find(self, key: str) -> Caller:
        await self.open()
        assert self._callers is not None
        return await self._callers.find(key)


class LentVault:
    """`services.vault`. It opens with the store: nothing is ever sealed under a master key that is not the store's."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._vault: Vault | None = None

    async def digester(self, purpose: str, /) -> Callable[[bytes], bytes]:
        """A keyed hash for that purpose."""
        from .store.vault import hasher

        return hasher(await self._state.pepper(), purpose)

    async def seal(self, name: str, text: str, /) -> bytes:
        """The text sealed under its name."""
        vault = await self._open()
        return vault.seal(self._named(name), text)

    async def open(self, name: str, sealed: bytes, /) -> str:
        """The text that was sealed under that name."""
        vault = await self._open()
        return vault.open(self._named(name), sealed)

    async def _open(self) -> Vault:
        if self._vault is None:
            await self._state.pepper()
            self._vault = self._state.vault()
        return self._vault

    def _named(self, name: str) -> str:
        from .store.vault import lent

        return lent(name)


def opened(at: StoreTable, clock: Clock) -> Store:
    """The store that the config names. Only a clock that is not the machine's own counts in place of Redis's."""
    if at.redis is None:
        from .store.sqlite import SQLiteStore

        return SQLiteStore(at.path, clock)
    from .store.redis import RedisStore

    return RedisStore(at.redis, clock, testing=not isinstance(clock, SystemClock))


def kept(environ: Mapping[str, str]) -> Callable[[StoreTable], Callable[[str], str | None]]:
    """Finds secrets in the store for the config that is being read, before anything of the house stands."""

    def of(at: StoreTable) -> Callable[[str], str | None]:
        def find(name: str) -> str | None:
            from .store.vault import SPACE, Vault, masters

            sealed = read(at, SPACE, name)
            return None if sealed is None else Vault(masters(environ, at.beside)).open(name, sealed)

        return find

    return of


def read(at: StoreTable, space: str, key: str) -> bytes | None:
    """One record, read at once: for whoever has no loop yet. Raises StoreError."""
    if at.redis is None:
        from .store.sqlite import read

        return read(at.path, space, key)

    async def main() -> bytes | None:
        store = opened(at, SystemClock())
        try:
            return await store.get(space, key)
        finally:
            await store.aclose()

    # In a thread and a loop of its own: the way through sentinels and clusters is the same, and a reload has a loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, main()).result()
