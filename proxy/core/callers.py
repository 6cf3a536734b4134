"""Who may call: declared keys and stored ones. Only hashes are kept, and looked up."""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import orjson

from ..model.errors import ProxyError, Rejected
from ..model.limit import NO_LIMITS, Limits
from ..model.services import Clock, Log
from ..model.slots import Caller, Rehosting
from ..model.store import Store, StoreError

SPACE = "keys"  # of the store
FORM = re.compile(r"sk-fg-([a-z2-7]{10})-[A-Za-z0-9]{40}", re.ASCII)
LONGEST = 1024  # characters of a key; a longer one is nobody's
FRESH = 2.0  # seconds that a verified key is believed without asking: a revoked one is dead everywhere within 5
STALE = 600.0  # and seconds that it is believed while the store can't be asked
REMEMBERED = 2**16  # verified keys
Digest = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as the store has it. Times are seconds since 1970."""

    id: str
    hash: str
    name: str
    group: str | None = None
    endpoints: tuple[str, ...] = ("inference",)
    models: tuple[str, ...] = ()  # globs; none: all
    tags: dict[str, str] = field(default_factory=dict)
    state: Literal["active", "revoked"] = "active"
    created: float = 0.0
    expires: float | None = None
    previous: str | None = None  # the hash of the key that rotation replaced
    previous_until: float = 0.0
    rehost: Rehosting | None = None
    limits: dict[str, Any] = field(default_factory=dict)  # as they are written; read when somebody calls

    def takes(self, digest: bytes, now: float) -> bool:
        """Whether a key with this hash is valid."""
        mine = hmac.compare_digest(bytes.fromhex(self.hash), digest)
        old = hmac.compare_digest(bytes.fromhex(self.previous or "00"), digest) and now < self.previous_until
        alive = self.state == "active" and (self.expires is None or now < self.expires)
        return alive and (mine or old)

    def caller(self) -> Caller:
        """Who that is. Raises ValueError for limits that can't be read."""
        limits = Limits.read(self.limits) if self.limits else NO_LIMITS
        return Caller(self.id, self.group, self.name, frozenset(self.endpoints), self.models, self.rehost, limits)

    def dump(self) -> bytes:
        """As it is stored."""
        return orjson.dumps(asdict(self))

    @classmethod
    def load(cls, id: str, raw: bytes) -> StoredKey:
        """From what is stored; a record that speaks of another key is an error, not an answer."""
        read: dict[str, Any] = orjson.loads(raw)
        if read["id"] != id:
            raise StoreError("The store answered with another key's record.")
        return cls(**{**read, "endpoints": tuple(read["endpoints"]), "models": tuple(read.get("models", ()))})


def invalid() -> Rejected:
    """The one answer for unknown, revoked and expired keys."""
    return Rejected("This API key is not valid.", status=401, type="authentication_error", code="invalid_api_key")


class Callers:
    """Knows callers by their keys, and remembers for a moment whom it has verified."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        digest: Digest,
        declared: Sequence[tuple[bytes, Caller]],
        groups: Collection[str],
        log: Log | None = None,
    ) -> None:
        self._groups = groups
        self._log = log
        self._store = store
        self._clock = clock
        self._digest = digest
        self._declared: Mapping[bytes, Caller] = dict(declared)
        self._verified: dict[bytes, tuple[Caller, float]] = {}

    async def find(self, key: str) -> Caller:
        """Whose key it is. Raises Rejected (the same for all that are not valid), or StoreError."""
        digest = self._digest(key[:LONGEST])
        caller = self._declared.get(digest)
        if caller is not None:
            return caller
        now = self._clock.now()
        known = self._verified.get(digest)
        if known is not None and now - known[1] < FRESH:
            return known[0]
        # A key of no known form asks the store too, so that time tells nobody what forms there are.
        form = FORM.fullmatch(key)
        id = form[1] if form is not None else digest.hex()[:10]
        try:
            raw = await self._store.get(SPACE, id)
        except StoreError:
            if known is not None and now - known[1] < STALE:
                return known[0]
            raise
        record = NOBODY if raw is None else StoredKey.load(id, raw)
        if not record.takes(digest, self._clock.wall()):
            self._verified.pop(digest, None)
            raise invalid()
        if record.group is not None and record.group not in self._groups:
            # Its credential, or its limits, may have gone with the group: nobody may fall back on the house's own.
            raise Rejected(
                f"This key belongs to the group '{record.group}', which is not set up here.",
                status=403,
                type="permission_error",
                code="permission_denied",
                param="group",
            )
        if len(self._verified) >= REMEMBERED:
            self._verified.clear()
        caller = self._caller(record)
        self._verified[digest] = (caller, now)
        return caller

    def _caller(self, record: StoredKey) -> Caller:
        try:
            return record.caller()
        except ValueError as exc:
            # Written by a later version, or by hand: whoever it is, they must not be without limits.
            if self._log is not None:
                self._log.error("key_unreadable", key=record.id, reason=f"its limits can't be read: {exc}")
            raise ProxyError(
                "What this key may do can't be read here; who runs this proxy has been told.",
                status=503,
                type="service_unavailable_error",
                code="api_key_touch_failed",
            ) from exc


NOBODY = StoredKey("", "00" * 32, "", state="revoked")


class KeyRing:
    """The stored keys in an operator's hands: each change is one write, so a killed process leaves none half-made."""

    def __init__(self, store: Store, clock: Clock, digest: Digest) -> None:
        self._store = store
        self._clock = clock
        self._digest = digest

    async def create(
        self,
        name: str,
        *,
        group: str | None = None,
        endpoints: Sequence[str] = ("inference",),
        models: Sequence[str] = (),
        ttl: float | None = None,
        tags: Mapping[str, str] | None = None,
        rehost: Rehosting | None = None,
        limits: Limits = NO_LIMITS,
    ) -> tuple[str, StoredKey]:
        """A new key: its text, which nobody will see again, and its record."""
        now = self._clock.wall()
        while True:
            id = base64.b32encode(secrets.token_bytes(7)).decode().lower()[:10]
            key = _text(id)
            record = StoredKey(
                id,
                self._digest(key).hex(),
                name,
                group,
                tuple(endpoints),
                tuple(models),
                dict(tags or {}),
                created=now,
                expires=None if ttl is None else now + ttl,
                rehost=rehost,
                limits=limits.written(),
            )
            if await self._store.put(SPACE, id, record.dump(), new=True):
                return key, record

    async def pages(self) -> AsyncIterator[list[StoredKey]]:
        """Every stored key, by id, a thousand at a time."""
        last = ""
        while page := await self._store.items(SPACE, after=last):
            yield [StoredKey.load(id, raw) for id, raw in page]
            last = page[-1][0]

    async def all(self) -> list[StoredKey]:
        """Every stored key, by id."""
        return [record async for page in self.pages() for record in page]

    async def get(self, id: str) -> StoredKey:
        """One of them; raises KeyError."""
        raw = await self._store.get(SPACE, id)
        if raw is None:
            raise KeyError(id)
        return StoredKey.load(id, raw)

    async def rotate(self, id: str, *, grace: float) -> tuple[str, StoredKey]:
        """A new text for the key; the old one is valid for `grace` more seconds.

        Raises KeyError where there is none, ValueError where it was revoked.
        """
        key = _text(id)

        def rotated(old: StoredKey) -> StoredKey:
            if old.state != "active":
                raise ValueError(f"key {id} is {old.state} and stays so")
            until = self._clock.wall() + grace
            return replace(old, hash=self._digest(key).hex(), previous=old.hash, previous_until=until)

        return key, await self._change(id, rotated)

    async def revoke(self, id: str) -> StoredKey:
        """End it for good. Raises KeyError."""
        return await self._change(id, lambda old: replace(old, state="revoked"))

    async def _change(self, id: str, change: Callable[[StoredKey], StoredKey]) -> StoredKey:
        """Change a record as it stands now: of two changes at once neither is lost."""
        while True:
            raw = await self._store.get(SPACE, id)
            if raw is None:
                raise KeyError(id)
            new = change(StoredKey.load(id, raw))
            if await self._store.swap(SPACE, id, raw, new.dump()):
                return new


def _text(id: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return f"sk-fg-{id}-{''.join(secrets.choice(alphabet) for _ in range(40))}"
