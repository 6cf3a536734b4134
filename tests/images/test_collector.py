from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from proxy.images.collector import BYTES, EVERY, FIRST, GRACE, JITTER, SOON, Collector
from proxy.images.files import Files
from proxy.model.store import Add
from proxy.testkit import TurnedClock
from proxy.testkit.watch import LogKept

from .pictures import png
from .shelf import blobs, content, keep, references, shelf, spools


async def test_two_owners_of_one_picture_end_it_each_for_themselves(tmp_path: Path) -> None:
    clock = TurnedClock()
    async with shelf(tmp_path, clock) as images:
        one, other = [await keep(images, png(), owner=owner) for owner in ("a", "b")]
        short = await keep(images, png(), owner="a", ttl=5.0)
        assert len({one.name, other.name, short.name}) == 3 and blobs(images) == {one.sha256}
        clock.turn(6)
        assert await images.find(short.name) is None and await content(images, one.name) == png()
        assert await images.delete(one.name) and not await images.delete(one.name)
        assert await images.find(one.name) is None and await images.body(one.name) is None
        assert await content(images, other.name) == png()
        assert await images.delete(other.name)
        assert blobs(images) == {one.sha256}  # the short one's reference outlives it
        clock.turn(2 * GRACE)
        assert (await images.collector.collect()).removed == 1 and not blobs(images)


async def test_the_last_name_takes_the_file_with_it(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        one, other = [await keep(images, png()) for _ in range(2)]
        await images.delete(one.name)
        assert blobs(images) == {one.sha256}
        await images.delete(other.name)
        assert not blobs(images) and not await references(images)


async def test_who_reads_reads_on_when_it_is_taken_away(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        stored = await keep(images, png(600_000))
        body = await images.body(stored.name)
        assert body is not None
        reading = aiter(body)
        data = await anext(reading)
        await images.delete(stored.name)
        data += b"".join([piece async for piece in reading])
        await body.aclose()
        assert data == png(600_000) and not blobs(images)


async def test_what_has_just_come_without_a_reference_is_left_alone_for_a_while(tmp_path: Path) -> None:
    clock = TurnedClock()
    async with shelf(tmp_path, clock) as images:
        stored = await keep(images, png())
        await images.index.delete(stored.name)  # as if a backup had put the folder back, and not yet the store
        assert (await images.collector.collect()).removed == 0
        clock.turn(GRACE + 1)
        done = await images.collector.collect()
        assert (done.removed, done.removed_bytes, done.kept) == (1, 100, 0) and not blobs(images)


async def test_a_picture_kept_while_the_same_is_cleared_away_stays(tmp_path: Path) -> None:
    clock = TurnedClock()
    async with shelf(tmp_path, clock) as images:
        for n in range(20):
            async with images.spool() as spool:
                spool.write(png())
                clock.turn(2 * GRACE)  # what lies there is old, and nobody needs it
                stored, _ = await asyncio.gather(spool.commit(), images.collector.collect())
            assert await content(images, stored.name) == png(), n
            await images.index.delete(stored.name)


async def test_what_is_damaged_heals_when_it_is_kept_again(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        stored = await keep(images, png())
        os.truncate(images.files.path(stored.sha256), 50)
        assert await images.body(stored.name) is None
        again = await keep(images, png())
        assert await content(images, stored.name) == await content(images, again.name) == png()


async def test_while_somebody_puts_a_picture_in_its_place_nobody_takes_it_away(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        stored = await keep(images, png())
        with images.files.alone(stored.sha256) as alone:
            assert alone
            with images.files.alone(stored.sha256) as second:
                assert not second
            deleting = asyncio.ensure_future(images.delete(stored.name))
            while await images.find(stored.name) is not None:
                await asyncio.sleep(0)
            assert not deleting.done() and blobs(images)
        assert await deleting and not blobs(images)


async def test_what_has_been_put_in_its_place_stays_until_it_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another of the same bytes ends meanwhile, whose file it was."""
    monkeypatch.setattr("proxy.images.blobs.TRIES", 3)
    clock = TurnedClock()
    async with shelf(tmp_path, clock) as images, shelf(tmp_path, clock) as other:
        old = await keep(other, png())
        placed, go = asyncio.Event(), asyncio.Event()
        refer = images.index.refer

        async def slowly(*given: Any) -> None:
            placed.set()
            await go.wait()
            await refer(*given)

        monkeypatch.setattr(images.index, "refer", slowly)
        keeping = asyncio.create_task(keep(images, png()))
        await placed.wait()
        assert await other.delete(old.name) and blobs(other) == {old.sha256}
        os.utime(images.files.path(old.sha256), (1, 1))
        assert not await references(other) and (await other.collector.collect()).kept == 1
        go.set()
        assert await content(other, (await keeping).name) == png()


async def test_while_one_is_taken_away_the_same_waits_for_its_place(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        old = await keep(images, png())
        await images.index.delete(old.name)
        with images.files.alone(old.sha256) as alone:
            assert alone and not await images.index.needed(old.sha256)
            keeping = asyncio.ensure_future(keep(images, png()))
            done, _ = await asyncio.wait({keeping}, timeout=0.2)
            assert not done and len(spools(images)) == 1  # a thread stands before the lock
            images.files.remove(old.sha256)
        assert await content(images, (await keeping).name) == png()


async def test_a_reference_is_left_alone_until_its_name_can_have_come(tmp_path: Path) -> None:
    clock = TurnedClock()
    async with shelf(tmp_path, clock) as images:
        stored = await keep(images, png())
        await images.index.delete(stored.name)
        os.utime(images.files.path(stored.sha256), (1, 1))
        await images.index.refer(stored.sha256, stored.name, None)
        clock.turn(GRACE - 1)
        assert (await images.collector.collect()).kept == 1
        await images.index.put(stored)
        clock.turn(2)
        assert (await images.collector.collect()).kept == 1 and await content(images, stored.name) == png()


async def test_over_the_cap_the_oldest_go(tmp_path: Path) -> None:
    clock = TurnedClock()
    async with shelf(tmp_path, clock, max_bytes=1000) as images:
        kept = []
        for n in range(10):
            kept.append(await keep(images, png(seed=n)))
            clock.turn(1)
        assert not images.collector.wanted.is_set()
        twice = await keep(images, png(seed=0))  # a new name for the oldest
        assert images.collector.wanted.is_set()
        done = await images.collector.collect()
        assert done.evicted == 0 and done.kept_bytes == 1000  # counted twice, and there is room after all
        assert (await images._store.add(Add(BYTES, 0))).values == (1000,)
        kept.append(await keep(images, png(seed=10)))
        done = await images.collector.collect()
        # 1100 bytes, of which a tenth of the cap is to be free: two go, and neither is the one with a younger name.
        assert (done.evicted, done.removed, done.kept_bytes) == (3, 2, 900)
        left = [stored.name for stored in kept if await images.find(stored.name)]
        assert left == [stored.name for stored in kept[3:]] and await content(images, twice.name) == png(seed=0)
        assert (await images._store.add(Add(BYTES, 0))).values == (900,)


async def test_runs_by_itself_one_process_at_a_time_and_at_once_when_there_is_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, log, stop = TurnedClock(), LogKept(), asyncio.Event()
    rounds = asyncio.Queue[Collector]()
    collect = Collector.collect

    async def counted(self: Collector) -> object:
        done = await collect(self)
        rounds.put_nowait(self)
        return done

    monkeypatch.setattr(Collector, "collect", counted)
    async with shelf(tmp_path, clock, max_bytes=250) as one, shelf(tmp_path, clock, max_bytes=250) as other:
        tasks = [asyncio.create_task(images.collector.run(stop, log)) for images in (one, other)]
        while len(clock.watchers) < 2:
            await asyncio.sleep(0)
        await keep(one, png(seed=1), ttl=1.0)
        clock.turn(FIRST * (1 - JITTER) / 2)
        await asyncio.sleep(0)
        assert rounds.empty()
        for _ in range(3):
            clock.turn(EVERY * (1 + JITTER))
            await rounds.get()
            while len(clock.watchers) < 2:  # the other has come, found the lease taken, and gone back to sleep
                await asyncio.sleep(0.001)
            assert rounds.empty()
        clock.turn(SOON)
        for n in range(3):  # no more than it takes: what comes while a round runs is the next one's
            await keep(other, png(seed=n))
        assert await rounds.get() is other.collector and len(blobs(other)) == 2
        stop.set()
        for images in (one, other):
            images.collector.wanted.set()
        await asyncio.gather(*tasks)
    assert {line["event"] for line in log.lines} == {"images_collected"}


async def test_a_round_that_fails_is_told_of_and_not_the_last(tmp_path: Path) -> None:
    clock, log, stop = TurnedClock(), LogKept(), asyncio.Event()
    async with shelf(tmp_path, clock) as images:
        await keep(images, png())
        db = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        db.execute("ALTER TABLE counters RENAME TO away")
        task = asyncio.create_task(images.collector.run(stop, log))
        images.collector.wanted.set()
        while not log.lines:
            await asyncio.sleep(0.001)
        assert [line["event"] for line in log.lines] == ["images_not_collected"]
        db.execute("ALTER TABLE away RENAME TO counters")
        db.close()
        os.close(images.files.create().descriptor)  # half a picture, of somebody who is gone
        while not clock.watchers:
            await asyncio.sleep(0.001)
        clock.turn(2 * EVERY)
        while spools(images):
            await asyncio.sleep(0.001)
        stop.set()
        images.collector.wanted.set()
        await task


async def test_one_who_sweeps_never_takes_a_file_that_is_just_being_made(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.prepare()
    over = asyncio.Event()

    def make() -> int:
        try:
            there = 0
            for _ in range(1500):
                temp = files.create()
                there += os.fstat(temp.descriptor).st_nlink
                files.discard(temp)
            return there
        finally:
            over.set()

    making = asyncio.ensure_future(asyncio.to_thread(make))
    while not over.is_set():
        await asyncio.to_thread(files.sweep)
    assert await making == 1500 and not list(tmp_path.glob("spool/*"))
