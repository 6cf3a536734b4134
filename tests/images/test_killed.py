"""What is left when a process is killed while it keeps pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

from proxy.images.collector import GRACE
from proxy.testkit import TurnedClock

from .killing import are_whole, killed
from .shelf import blobs, references, script, shelf, spools

KEEPING = """
import asyncio, sys
from pathlib import Path
from tests.images.killing import keep_on
from tests.images.shelf import shelf

async def main():
    async with shelf(Path(sys.argv[1])) as images:
        await keep_on(images)

asyncio.run(main())
"""


async def test_every_name_that_was_told_leads_to_a_whole_picture(tmp_path: Path) -> None:
    told: dict[str, str] = {}
    halves = 0
    for kill in range(4):
        told |= await killed(await script(KEEPING, tmp_path), after=3 + 4 * kill)
        clock = TurnedClock()
        async with shelf(tmp_path, clock) as images:
            for path in (images.files.folder / "blobs").rglob("*"):
                assert not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            halves += len(spools(images))
            clock.turn(2 * GRACE)
            await images.collector.collect()
            assert not spools(images)
            assert blobs(images) == await references(images) >= set(told.values())
            assert await are_whole(images, told)
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
