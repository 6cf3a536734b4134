from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.images.base import Images
from proxy.images.collector import GRACE
from proxy.images.s3 import S3
from proxy.images.upload import Upload
from proxy.model.body import Body
from proxy.model.errors import BodyConsumed
from proxy.model.images import ImageStoreError
from proxy.testkit import TurnedClock

from ..pictures import SVG, png
from ..shelf import content, keep, references, shelf, spools
from .store import NAME, Door, Moto, door


@asynccontextmanager
async def far(
    folder: Path, moto: Moto, clock: TurnedClock | None = None, *, port: int | None = None, **rules: Any
) -> AsyncIterator[Images]:
    """A store of pictures whose bytes lie in the bucket, under a prefix of the test's own."""
    account = moto.account(f"t/{folder.name}", port, timeout=rules.pop("timeout", 20.0))
    async with shelf(folder, clock, account=account, **rules) as images:
        assert isinstance(images.blobs, S3)
        await images.blobs._client.ready()  # which takes longer than some tests have patience
        yield images


@contextmanager
def impatient(images: Images, seconds: float = 0.3) -> Iterator[None]:
    """S3 has only so long for a moment, and all the time that it takes on a busy machine before and after."""
    assert isinstance(images.blobs, S3)
    client = images.blobs._client
    client.patience, before = seconds, client.patience
    try:
        yield
    finally:
        client.patience = before


async def there(images: Images) -> set[str]:
    """The sums of the objects that there are."""
    return {blob.sha256 for blob in await images.blobs.shard("")}


async def read(body: Body | None) -> bytes:
    assert body is not None
    try:
        return b"".join([piece async for piece in body])
    finally:
        await body.aclose()


async def test_a_picture_goes_up_whole_and_comes_back(tmp_path: Path, moto: Moto) -> None:
    data = png(700_000)
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as images:
        stored = await keep(images, data, owner="k1")
        sha256 = stored.sha256
        assert images.blobs.place(sha256) == f"s3://{NAME}/t/{tmp_path.name}/blobs/{sha256[:2]}/{sha256}"
        assert await content(images, stored.name) == data and await there(images) == {sha256}
        assert not spools(images) and await images.blobs.size(sha256) == 700_000
        assert await read(await images.opened(stored, 100, 50)) == data[100:150]
        assert await read(await images.opened(stored, 699_990, 10)) == data[-10:]
        [put] = [head for head in way.heads if head.startswith(b"PUT")]
        fields = dict(line.lower().split(b": ", 1) for line in put.split(b"\r\n")[1:])
        assert put.startswith(f"PUT /{NAME}/t/{tmp_path.name}/blobs/{sha256[:2]}/{sha256} ".encode())
        assert fields[b"content-type"] == b"image/png" and fields[b"content-length"] == b"700000"
        # What newer clients send by themselves, and R2, OSS and COS refuse: a sum behind the body.
        assert not {b"x-amz-trailer", b"transfer-encoding", b"content-encoding"} & set(fields)
        assert b"content-md5" in fields[b"authorization"] and b"x-amz-checksum-sha256" not in fields
        body = await images.body(stored.name)
        await read(body)
        with pytest.raises(BodyConsumed):
            await read(body)


async def test_the_type_is_what_the_bytes_show(tmp_path: Path, moto: Moto) -> None:
    async with far(tmp_path, moto) as images:
        stored = await keep(images, SVG)
        assert isinstance(images.blobs, S3)
        async with images.blobs._client.asking(None) as client:
            found = await client.head_object(Bucket=NAME, Key=images.blobs._key(stored.sha256))
        assert found["ContentType"] == "image/svg+xml"


async def test_bytes_that_changed_on_the_way_are_refused(tmp_path: Path, moto: Moto) -> None:
    async with far(tmp_path, moto) as images:
        async with images.spool() as spool:
            spool.write(png(1000))
            await spool.drained()
            pread = spool.pread
            asked: list[int] = []

            def changed(at: int, count: int) -> bytes:
                asked.append(at)
                return pread(at, count) if len(asked) < 3 else b"x" * len(pread(at, count))

            spool.pread = changed  # type: ignore[method-assign]
            with pytest.raises(ImageStoreError, match=r"S3 refuses \(BadDigest: .* on the way\)"):
                await spool.commit()
            spool.pread = pread  # type: ignore[method-assign]
            assert b"".join([piece async for piece in spool.read()]) == png(1000)
        assert not await there(images) and not await references(images)


async def test_two_owners_of_one_picture_end_it_each_for_themselves(tmp_path: Path, moto: Moto) -> None:
    clock = TurnedClock()
    async with far(tmp_path, moto, clock) as images:
        one, other = [await keep(images, png(), owner=owner) for owner in ("a", "b")]
        assert await there(images) == {one.sha256}
        assert await images.delete(one.name) and await content(images, other.name) == png()
        assert await images.delete(other.name) and not await there(images)
        assert not await references(images) and not await images._store.items("blobs-going")
        assert await images.blobs.size(one.sha256) is None and await images.blobs.drop(one.sha256, images.index.needed)


async def test_the_collector_takes_what_no_name_needs_and_nothing_else(tmp_path: Path, moto: Moto) -> None:
    clock = TurnedClock()
    async with far(tmp_path, moto, clock, max_bytes=1000) as images:
        kept = []
        for n in range(4):
            kept.append(await keep(images, png(seed=n)))
            clock.turn(1)
        short = await keep(images, png(seed=9), ttl=5.0)
        await images.index.delete(kept.pop().name)  # as if a backup had brought back the bucket, and not yet the store
        assert isinstance(images.blobs, S3)
        async with images.blobs._client.asking(None) as client:
            foreign = [f"t/{tmp_path.name}/blobs/ab/README", f"t/{tmp_path.name}/blobs/{'a' * 64}"]
            for key in foreign:
                await client.put_object(Bucket=NAME, Key=key, Body=b"not ours")
        assert (await images.collector.collect()).removed == 0
        clock.turn(2 * GRACE + 6)
        done = await images.collector.collect()
        assert (done.removed, done.removed_bytes, done.kept) == (2, 200, 3)
        assert await there(images) == {stored.sha256 for stored in kept} and await images.find(short.name) is None
        for n in range(8):
            await keep(images, png(seed=20 + n))
            clock.turn(1)
        done = await images.collector.collect()
        assert (done.evicted, done.kept_bytes) == (2, 900)
        assert [bool(await images.find(stored.name)) for stored in kept] == [False, False, True]
        async with images.blobs._client.asking(None) as client:
            for key in foreign:
                await client.head_object(Bucket=NAME, Key=key)


async def test_a_listing_goes_on_behind_its_first_page(
    tmp_path: Path, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with far(tmp_path, moto) as images:
        sums = {(await keep(images, png(seed=n))).sha256 for n in range(7)}
        assert isinstance(images.blobs, S3)
        async with images.blobs._client.asking(None) as client:
            whole = client.list_objects_v2

            async def paged(**given: Any) -> Any:
                return await whole(**given, MaxKeys=2)

            monkeypatch.setattr(client, "list_objects_v2", paged)
        assert {blob.sha256 for blob in await images.blobs.shard("")} == sums


async def test_what_is_missing_or_cut_is_none(tmp_path: Path, moto: Moto) -> None:
    async with far(tmp_path, moto) as images:
        stored = await keep(images, png(1000))
        assert isinstance(images.blobs, S3)
        async with images.blobs._client.asking(None) as client:
            await client.put_object(Bucket=NAME, Key=images.blobs._key(stored.sha256), Body=b"short")
        for first, length in ((0, 1000), (0, 5), (2, 2), (900, 10), (0, 0)):
            assert await images.opened(stored, first, length) is None, (first, length)
        await images.blobs.drop(stored.sha256, _nobody)
        for first, length in ((0, 1000), (900, 10), (0, 0)):
            assert await images.opened(stored, first, length) is None
        assert images.blobs._client.readers._value == 128


async def _nobody(sha256: str) -> bool:
    return False


async def test_memory_is_flat_for_several_of_64_mib_at_once(tmp_path: Path, moto: Moto) -> None:
    piece = png(2**16)
    async with far(tmp_path, moto, timeout=60.0) as images:
        await keep(images, png())

        async def one(n: int) -> str:
            async with images.spool() as spool:
                spool.write(png(seed=n))
                for _ in range(2**10):
                    spool.write(piece)
                    await spool.drained()
                spool.write(bytes(n))
                return (await spool.commit()).name

        async def down(name: str) -> int:
            body = await images.body(name)
            assert body is not None
            size = 0
            async for data in body:
                size += len(data)
            await body.aclose()
            return size

        tracemalloc.start()
        try:
            names = await asyncio.gather(*[one(n) for n in range(3)])
            size = await down(names[2])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size == 2**26 + 102 and peak < 8 * 2**20
        for name in names:
            await images.delete(name)


def test_an_upload_is_a_file_to_who_reads_it() -> None:
    data = bytes(range(100))
    upload = Upload(lambda at, count: data[at : at + count], 100)
    assert upload.readable() and upload.seekable() and upload.seek(0, 2) == 100 and upload.tell() == 100
    assert upload.read(5) == b"" and upload.seek(-10, 1) == 90 and upload.read() == data[90:]
    assert upload.seek(3) == 3 and upload.read(2) == data[3:5] and upload.tell() == 5


async def test_a_door_that_is_open_changes_nothing(tmp_path: Path, moto: Moto) -> None:
    """The tests' own: what it counts is so."""
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as images:
        assert isinstance(way, Door)
        await keep(images, png())
        await keep(images, png())
        assert (way.said(b"PUT"), way.said(b"GET")) == (2, 0)
        assert isinstance(images.blobs, S3)
        await images.blobs.aclose()
        await way.closed.wait()
        with pytest.raises(ImageStoreError, match="has been closed"):
            await images.blobs.prepare()
