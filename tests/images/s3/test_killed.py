"""What is left when a process is killed while its pictures go up."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import suppress
from pathlib import Path

from proxy.images.collector import GRACE
from proxy.images.s3 import GONE
from proxy.testkit import TurnedClock

from ..pictures import png
from ..shelf import content, keep, references, script, spools
from .store import Moto
from .test_keeping import far, there

KEEPING = """
import asyncio, json, sys
from pathlib import Path
from tests.images.pictures import png
from tests.images.s3.store import Moto
from tests.images.s3.test_keeping import far
from tests.images.shelf import keep

async def one(images, seed):
    for n in range(int(sys.argv[5]) + seed, 10**6, 4):
        # Every third has been there before: it is put there once more, and some end at once.
        data = png(300_000 + n % 7, seed=n // 3, width=n % 1000 + 1)
        stored = await keep(images, data, owner=f"k{seed}", ttl="forever", piece=20_000)
        if n % 5:
            print(json.dumps([stored.name, stored.sha256]), flush=True)
        else:
            await images.delete(stored.name)

async def main():
    moto = Moto(int(sys.argv[2]), sys.argv[3], sys.argv[4])
    async with far(Path(sys.argv[1]), moto) as images:
        await asyncio.gather(*[one(images, seed) for seed in range(4)])

asyncio.run(main())
"""


async def test_every_name_that_was_told_leads_to_a_whole_picture(tmp_path: Path, moto: Moto) -> None:
    told: dict[str, str] = {}
    halves = 0
    for kill in range(2):
        process = await script(KEEPING, tmp_path, str(moto.port), moto.access_key, moto.secret_key, str(1000 * kill))
        assert process.stdout is not None
        with suppress(asyncio.IncompleteReadError):
            for _ in range(5 + 3 * kill):
                name, sha256 = json.loads(await process.stdout.readuntil())
                told[name] = sha256
        process.kill()
        for line in (await process.stdout.read()).split(b"\n")[:-1]:
            name, sha256 = json.loads(line)
            told[name] = sha256
        await process.wait()
        clock = TurnedClock()
        async with far(tmp_path, moto, clock) as images:
            halves += len(spools(images))
            for name, sha256 in told.items():
                assert hashlib.sha256(await content(images, name) or b"").hexdigest() == sha256
            clock.turn(2 * GRACE + GONE)
            await images.collector.collect()
            assert not spools(images)
            # What the store needs is there, and nothing else.
            assert await there(images) == await references(images) >= set(told.values())
            async for page in images.index.all():
                for stored in page:
                    data = await content(images, stored.name)
                    assert data is not None and hashlib.sha256(data).hexdigest() == stored.sha256
            await keep(images, png())
    assert len(told) >= 5 + 8 and halves
