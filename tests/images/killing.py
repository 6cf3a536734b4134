"""Processes that keep pictures until they are killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import suppress

from proxy.images.base import Images

from .pictures import png
from .shelf import content, keep


async def keep_on(images: Images, *, begin: int = 0, end_some: bool = False) -> None:
    """Keep pictures for ever, four at a time, and say a name once it is told: what the process does that is killed."""

    async def one(seed: int) -> None:
        for n in range(begin + seed, 10**6, 4):
            # Every third has been there before: it is put there once more.
            data = png(300_000 + n % 7, seed=n // 3, width=n % 1000 + 1)
            stored = await keep(images, data, owner=f"k{seed}", ttl="forever", piece=20_000)
            if end_some and not n % 5:
                await images.delete(stored.name)
            else:
                print(json.dumps([stored.name, stored.sha256]), flush=True)

    await asyncio.gather(*[one(seed) for seed in range(4)])


async def killed(process: asyncio.subprocess.Process, *, after: int) -> dict[str, str]:
    """Kill it once it has told so many names; all that it told, with their sums."""
    assert process.stdout is not None
    lines = []
    with suppress(asyncio.IncompleteReadError):
        for _ in range(after):
            lines.append(await process.stdout.readuntil())
    process.kill()
    lines += (await process.stdout.read()).split(b"\n")[:-1]
    await process.wait()
    return dict(json.loads(line) for line in lines)


async def are_whole(images: Images, told: dict[str, str]) -> bool:
    """Whether each name leads to the bytes that it was told for."""
    found = {name: hashlib.sha256(await content(images, name) or b"").hexdigest() for name in told}
    return found == told
