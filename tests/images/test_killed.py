"""What is left when a process is killed while it keeps pictures."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import suppress
from pathlib import Path

from proxy.images.collector import GRACE
from proxy.testkit import TurnedClock

from .shelf import blobs, content, references, script, shelf, spools

KEEPING = """
import asyncio, json, sys
from pathlib import Path
from tests.images.pictures import png
from tests.images.shelf import keep, shelf

async def one(images, seed):
    for n in range(seed, 10**6, 4):
        # Every third has been there before: it is put in its place once more.
        data = png(300_000 + n % 7, seed=n // 3, width=n % 1000 + 1)
        stored = await keep(images, data, owner=f"k{seed}", ttl="forever", piece=20_000)
        print(json.dumps([stored.name, stored.sha256]), flush=True)

async def main():
    async with shelf(Path(sys.argv[1])) as images:
        await asyncio.gather(*[one(images, seed) for seed in range(4)])

asyncio.run(main())
"""


async def test_every_name_that_was_told_leads_to_a_whole_picture(tmp_path: Path) -> None:
    told: dict[str, str] = {}
    halves = 0
    for kill in range(4):
        process = await script(KEEPING, tmp_path)
        assert process.stdout is not None
        with suppress(asyncio.IncompleteReadError):
            for _ in range(3 + 4 * kill):
                name, sha256 = json.loads(await process.stdout.readuntil())
                told[name] = sha256
        process.kill()
        for line in (await process.stdout.read()).split(b"\n")[:-1]:
            name, sha256 = json.loads(line)
            told[name] = sha256
        await process.wait()
        clock = TurnedClock()
        async with shelf(tmp_path, clock) as images:
            for path in (images.files.folder / "blobs").rglob("*"):
                assert not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            halves += len(spools(images))
            clock.turn(2 * GRACE)
            await images.collector.collect()
            assert not spools(images)
            assert blobs(images) == await references(images) >= set(told.values())
            for name, sha256 in told.items():
                assert hashlib.sha256(await content(images, name) or b"").hexdigest() == sha256
    assert len(told) >= 4 * 3 and halves


HOLDING = """
import asyncio, sys
from pathlib import Path
from tests.images.pictures import png
from tests.images.shelf import shelf

async def main():
    async with shelf(Path(sys.argv[1])) as images, images.spool() as spool:
        spool.write(png(300_000))
        [_ async for _ in spool.read()]
        print("written", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_half_a_picture_is_left_alone_while_somebody_writes_it(tmp_path: Path) -> None:
    process = await script(HOLDING, tmp_path)
    clock = TurnedClock()
    async with shelf(tmp_path, clock) as images:
        try:
            assert process.stdout is not None and await process.stdout.readline() == b"written\n"
            clock.turn(10 * GRACE)
            assert (await images.collector.collect()).abandoned == 0 and len(spools(images)) == 1
        finally:
            process.kill()
            await process.wait()
        assert (await images.collector.collect()).abandoned == 1 and not spools(images)
