"""One takes bytes away while another keeps the same. S3 has no lock for that."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.images.collector import GRACE
from proxy.images.s3 import GOING, GONE, LATE, WAIT
from proxy.model.images import ImageStoreError
from proxy.testkit import TurnedClock

from ..pictures import png
from ..shelf import content, keep, references, spools
from .store import Moto, door, refusal
from .test_keeping import far, impatient, there


async def test_who_keeps_waits_for_a_deletion_that_has_looked_already(tmp_path: Path, moto: Moto) -> None:
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as one, far(tmp_path, moto) as other:
        old = await keep(one, png())
        await one.index.delete(old.name)
        way.shut(b"DELETE")
        dropping = asyncio.create_task(one.collector.drop(old.sha256))
        await way.come.wait()  # nobody needed it, and the deletion is on its way
        keeping = asyncio.create_task(keep(other, png()))
        while not await references(other):
            await asyncio.sleep(0)
        done, _ = await asyncio.wait({keeping}, timeout=0.3)
        assert not done
        way.go.set()
        assert await dropping
        stored = await keeping
        assert await content(other, stored.name) == png() and await there(one) == {stored.sha256}
        assert not await one._store.items(GOING)


async def test_a_reference_that_came_before_the_look_keeps_the_bytes(tmp_path: Path, moto: Moto) -> None:
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as one, far(tmp_path, moto) as other:
        old = await keep(other, png())
        await other.index.delete(old.name)
        way.shut(b"PUT")
        keeping = asyncio.create_task(keep(one, png()))
        await way.come.wait()
        assert not await other.collector.drop(old.sha256)
        way.go.set()
        assert await content(other, (await keeping).name) == png() and not await one._store.items(GOING)


async def test_between_the_look_and_the_deletion_there_is_no_way_in(tmp_path: Path, moto: Moto) -> None:
    """The look is over, the deletion has not begun: then the same is kept. Without a mark it would be lost."""
    async with far(tmp_path, moto) as one, far(tmp_path, moto) as other:
        old = await keep(one, png())
        await one.index.delete(old.name)
        keeping: list[asyncio.Task[object]] = []

        async def looked(sha256: str) -> bool:
            found = await one.index.needed(sha256)
            keeping.append(asyncio.create_task(keep(other, png())))
            while not await one.index.needed(sha256):
                await asyncio.sleep(0)
            await asyncio.wait(keeping, timeout=0.2)
            assert not keeping[0].done()
            return found

        assert await one.blobs.drop(old.sha256, looked)
        await keeping[0]
        assert await there(one) == {old.sha256}


async def test_two_do_not_take_the_same_away(tmp_path: Path, moto: Moto) -> None:
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as one, far(tmp_path, moto) as other:
        old = await keep(one, png())
        await one.index.delete(old.name)
        way.shut(b"DELETE")
        dropping = asyncio.create_task(one.collector.drop(old.sha256))
        await way.come.wait()
        assert not await other.collector.drop(old.sha256)
        assert await other._store.items(GOING)  # the first one's is left alone
        way.go.set()
        assert await dropping and not await there(one)


async def test_one_that_was_held_up_gives_up(tmp_path: Path, moto: Moto) -> None:
    clock = TurnedClock()
    async with door(moto) as way, far(tmp_path, moto, clock, port=way.port) as images:
        old = await keep(images, png())
        await images.index.delete(old.name)

        async def slowly(sha256: str) -> bool:
            clock.turn(LATE + 1)
            return False

        assert not await images.blobs.drop(old.sha256, slowly)
        assert not way.said(b"DELETE") and not await images._store.items(GOING)


async def test_while_nobody_knows_what_became_of_a_deletion_the_same_is_not_kept(tmp_path: Path, moto: Moto) -> None:
    clock = TurnedClock()
    async with door(moto) as way, far(tmp_path, moto, clock, port=way.port) as images:
        old = await keep(images, png())
        other = await keep(images, png(seed=1))
        way.shut(b"DELETE")
        with impatient(images), pytest.raises(ImageStoreError, match=r"S3 did not answer within 0\.3 s"):
            await images.delete(old.name)
        way.go.set()
        way.only = b"nothing"
        assert not await images.collector.drop(old.sha256)
        async with images.spool() as spool:
            spool.write(png())
            with impatient(images), pytest.raises(ImageStoreError, match="S3 did not answer"):
                await spool.commit()
            assert b"".join([piece async for piece in spool.read()]) == png()
        assert not spools(images) and await references(images) == {other.sha256}
        assert await content(images, (await keep(images, png(seed=2))).name) == png(seed=2)
        clock.turn(GONE + 1)
        assert await content(images, (await keep(images, png())).name) == png()


async def test_the_one_who_waits_is_told_why(tmp_path: Path, moto: Moto) -> None:
    clock = TurnedClock()
    async with far(tmp_path, moto, clock) as images:
        stored = await keep(images, png())
        await images._store.put(GOING, stored.sha256, b"", ttl=GONE)
        keeping = asyncio.create_task(keep(images, png()))
        while len(await images._store.items("blobs")) < 2:
            await asyncio.sleep(0)
        await asyncio.wait({keeping}, timeout=0.2)
        clock.turn(WAIT + 1)
        with pytest.raises(ImageStoreError, match="just being taken away; try again later"):
            await keeping


async def test_a_deletion_of_more_than_one_attempt_leaves_its_mark(tmp_path: Path, moto: Moto) -> None:
    """The first may have been heard, and be done only later."""
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as images:
        old = await keep(images, png())
        way.only, way.answer, way.times = b"DELETE", refusal(503, "SlowDown"), 1
        assert await images.delete(old.name) and not await there(images)
        assert await images._store.items(GOING)


@pytest.mark.parametrize(("status", "code", "marks"), [(403, "AccessDenied", 0), (500, "InternalError", 1)])
async def test_a_deletion_that_is_refused_is_over_and_one_that_failed_may_not_be(
    tmp_path: Path, moto: Moto, status: int, code: str, marks: int
) -> None:
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as images:
        old = await keep(images, png())
        way.only, way.answer = b"DELETE", refusal(status, code)
        with pytest.raises(ImageStoreError, match=code):
            await images.delete(old.name)
        assert len(await images._store.items(GOING)) == marks


async def test_kept_and_cleared_away_at_once(tmp_path: Path, moto: Moto) -> None:
    clock = TurnedClock()
    async with far(tmp_path, moto, clock) as one, far(tmp_path, moto, clock) as other:
        for n in range(5):
            async with one.spool() as spool:
                spool.write(png())
                clock.turn(2 * GRACE)  # what lies there is old, and nobody needs it
                stored, _ = await asyncio.gather(spool.commit(), other.collector.collect())
            assert await content(one, stored.name) == png(), n
            await one.index.delete(stored.name)
