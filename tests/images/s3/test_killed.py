"""What is left when a process is killed while its pictures go up."""

from __future__ import annotations

from pathlib import Path

from proxy.images.collector import GRACE
from proxy.images.s3 import GONE
from proxy.testkit import TurnedClock

from ..killing import are_whole, killed
from ..pictures import png
from ..shelf import keep, references, script, spools
from .store import Moto
from .test_keeping import far, there

KEEPING = """
import asyncio, sys
from pathlib import Path
from tests.images.killing import keep_on
from tests.images.s3.store import Moto
from tests.images.s3.test_keeping import far

async def main():
    moto = Moto(int(sys.argv[2]), sys.argv[3], sys.argv[4])
    async with far(Path(sys.argv[1]), moto) as images:
        await keep_on(images, begin=int(sys.argv[5]), end_some=True)

asyncio.run(main())
"""


async def test_every_name_that_was_told_leads_to_a_whole_picture(tmp_path: Path, moto: Moto) -> None:
    told: dict[str, str] = {}
    halves = 0
    for kill in range(2):
        process = await script(KEEPING, tmp_path, str(moto.port), moto.access_key, moto.secret_key, str(1000 * kill))
        told |= await killed(process, after=5 + 3 * kill)
        clock = TurnedClock()
        async with far(tmp_path, moto, clock) as images:
            halves += len(spools(images))
            assert await are_whole(images, told)
            clock.turn(2 * GRACE + GONE)
            await images.collector.collect()
            assert not spools(images)
            # What the store needs is there, and nothing else.
            assert await there(images) == await references(images) >= set(told.values())
            async for page in images.index.all():
                assert await are_whole(images, {stored.name: stored.sha256 for stored in page})
            await keep(images, png())
    assert len(told) >= 5 + 8 and halves
