"""Which names lead to which bytes, in the store: one record for each name, one for each reference to bytes.

A reference is written before its name, or with it, and taken away behind it. So wherever a process is killed, bytes
that a name needs have a reference; at most one too many is left over.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any

import orjson

from ..model.images import ImageType, Stored
from ..model.services import Clock
from ..model.store import Store

NAMES, REFERENCES = "images", "blobs"  # spaces of the store
NAME = re.compile(r"[a-z2-7]{26}\.(?:png|jpg|webp|gif|svg)", re.ASCII)
ENDINGS: dict[ImageType, str] = {"png": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif", "svg": "svg"}
BITS = 128  # of a name: whoever knows one may see the picture
PAGE = 500
# What a record holds: all but its key, and what depends on when it is asked for.
KEPT = ("type", "size", "width", "height", "sha256", "created", "expires", "owner", "request")
LONGER = 600.0  # seconds that a reference outlives its name, so that it is never the first of the two to end


def new_name(type: ImageType) -> str:
    """A name that nobody can guess."""
    return f"{base64.b32encode(secrets.token_bytes(BITS // 8)).decode().rstrip('=').lower()}.{ENDINGS[type]}"


class Index:
    """Names and references."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def refer(self, sha256: str, name: str, ttl: float | None) -> None:
        """Say that this name is going to need these bytes."""
        since = orjson.dumps(self._clock.wall())
        await self._store.put(REFERENCES, f"{sha256}/{name}", since, ttl=None if ttl is None else ttl + LONGER)

    async def release(self, sha256: str, name: str) -> None:
        """Say that it needs them no more."""
        await self._store.delete(REFERENCES, f"{sha256}/{name}")

    async def put(self, stored: Stored) -> None:
        """Let the name lead there, until its time is over."""
        record = {key: getattr(stored, key) for key in KEPT}
        ttl = None if stored.expires is None else stored.expires - self._clock.wall()
        await self._store.put(NAMES, stored.name, orjson.dumps(record), ttl=ttl)

    async def get(self, name: str) -> Stored | None:
        """What the name leads to; None for one that leads nowhere, and for what is no name."""
        if not NAME.fullmatch(name):
            return None
        raw = await self._store.get(NAMES, name)
        return None if raw is None else _stored(name, raw)

    async def delete(self, name: str) -> Stored | None:
        """End a name: what it led to, or None."""
        stored = await self.get(name)
        if stored is None or not await self._store.delete(NAMES, name):
            return None
        await self.release(stored.sha256, name)
        return stored

    async def needed(self, sha256: str) -> bool:
        """Whether any name needs these bytes, or is going to."""
        found = await self._store.items(REFERENCES, after=f"{sha256}/", limit=1)
        return bool(found) and found[0][0].startswith(f"{sha256}/")

    async def all(self) -> AsyncIterator[list[Stored]]:
        """All names that lead somewhere, page by page, in no order that means anything."""
        after = ""
        while page := await self._store.items(NAMES, after=after, limit=PAGE):
            after = page[-1][0]
            yield [_stored(name, raw) for name, raw in page]

    async def references(self, begins: str) -> AsyncIterator[list[tuple[str, str, float]]]:
        """The references to bytes whose sum begins so, page by page: sum, name, since when."""
        after = begins
        while page := await self._store.items(REFERENCES, after=after, limit=PAGE):
            after = page[-1][0]
            here = [(*key.partition("/")[::2], orjson.loads(raw)) for key, raw in page if key.startswith(begins)]
            if here:
                yield here
            if len(here) < len(page):
                return


def _stored(name: str, raw: bytes) -> Stored:
    record: dict[str, Any] = orjson.loads(raw)
    return Stored(name, **record)
