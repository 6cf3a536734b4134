"""A store of pictures by itself, without a server before it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from proxy.core.config import Config
from proxy.images.base import Images, Rules
from proxy.images.index import REFERENCES
from proxy.images.s3 import S3
from proxy.images.threads import Workshop
from proxy.model.bucket import Account
from proxy.model.images import Lifetime, Stored
from proxy.state import State
from proxy.store.sqlite import SQLiteStore
from proxy.testkit import TurnedClock

ROOT = Path(__file__).parent.parent.parent
T = TypeVar("T")


class StandingClock(TurnedClock):
    """One that does not run by itself, so that what is over is so for certain."""

    def wall(self) -> float:
        return 1e9 + self._ahead

    def now(self) -> float:
        return self._ahead


@asynccontextmanager
async def shelf(
    folder: Path, clock: TurnedClock | None = None, *, threads: int = 4, account: Account | None = None, **rules: Any
) -> AsyncIterator[Images]:
    """Pictures in FOLDER/images, or in a bucket; their names in FOLDER/store.db."""
    clock = clock if clock is not None else TurnedClock()
    store = SQLiteStore(folder / "store.db", clock)
    workshop = Workshop(threads)
    bucket = None if account is None else S3(account, store, clock)
    try:
        yield Images(Rules(folder / "images", **rules), store, clock, workshop, bucket)
    finally:
        if bucket is not None:
            await bucket.aclose()
        await store.aclose()
        await workshop.aclose()


async def keep(
    images: Images,
    data: bytes,
    *,
    owner: str | None = None,
    request: str | None = None,
    ttl: Lifetime | None = None,
    piece: int = 50_000,
) -> Stored:
    async with images.spool(owner=owner, request=request) as spool:
        for at in range(0, len(data), piece):
            spool.write(data[at : at + piece])
            await spool.drained()
        return await spool.commit(ttl=ttl)


def on_images(config: Config, work: Callable[[Images], Awaitable[T]]) -> T:
    """What a server on that config does with its pictures."""

    async def main() -> T:
        state = State(config, os.environ, TurnedClock())
        try:
            return await work(state.images(config))
        finally:
            await state.aclose()

    return asyncio.run(main())


async def content(images: Images, name: str) -> bytes | None:
    """The bytes behind a name."""
    body = await images.body(name)
    if body is None:
        return None
    try:
        return b"".join([piece async for piece in body])
    finally:
        await body.aclose()


def blobs(images: Images) -> set[str]:
    """The files in their places."""
    return {path.name for path in (images.files.folder / "blobs").rglob("*") if path.is_file()}


def spools(images: Images) -> list[Path]:
    """The files on their way in."""
    return list((images.files.folder / "spool").glob("*"))


async def references(images: Images) -> set[str]:
    """The sums that have a reference."""
    return {key.partition("/")[0] for key, _ in await images.index._store.items(REFERENCES)}


async def script(text: str, *words: str | Path) -> asyncio.subprocess.Process:
    """Run Python of a test's own in a process of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        text,
        *words,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
