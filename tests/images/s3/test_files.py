"""Pictures in S3 under /files/."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.images.s3 import S3
from proxy.images.s3_client import READERS
from proxy.testkit import RawClient, Served

from ..asking import DATA, TAG, code, get, house, kept
from ..drawn import halves, seen
from ..pictures import SVG, png
from .store import Door, Moto, door
from .test_keeping import impatient


@asynccontextmanager
async def far(moto: Moto, folder: Path, more: str = "") -> AsyncIterator[tuple[Served, Door]]:
    """A house whose pictures lie in the bucket, and the door on the way there."""
    async with door(moto) as way:
        keys = 'access_key = "env:S3_KEY"\nsecret_key = "env:S3_SECRET"\n'
        url = f'url = "{moto.url(f"t/{folder.name}", way.port)}"\n'
        async with house(url + keys + more, S3_KEY=moto.access_key, S3_SECRET=moto.secret_key) as served:
            yield served, way


async def test_served_as_from_a_folder(tmp_path: Path, moto: Moto) -> None:
    async with far(moto, tmp_path) as (served, way):
        path = (await kept(served))["path"]
        answer = await get(served, path)
        assert (answer.status, answer.body) == (200, DATA) and answer.get(b"etag") == TAG.encode()
        assert answer.get(b"content-length") == b"300000" and answer.get(b"content-type") == b"image/png"
        for asked, first, last in (("0-0", 0, 0), ("100-199", 100, 199), ("-10", 299_990, 299_999), ("5-", 5, 299_999)):
            part = await get(served, path, f"Range: bytes={asked}")
            assert (part.status, part.body) == (206, DATA[first : last + 1]), asked
            assert part.get(b"content-range") == f"bytes {first}-{last}/300000".encode()
        assert [head for head in way.heads if b"Range: bytes=100-199" in head]
        gets = way.said(b"GET")
        assert (await get(served, path, f"If-None-Match: {TAG}")).status == 304
        assert code(await get(served, path, "Range: bytes=300000-")) == (416, "range_not_satisfiable")
        head = await get(served, path, method="HEAD")
        assert (head.status, head.body, head.get(b"content-length")) == (200, b"", b"300000")
        assert way.said(b"GET") == gets  # none of these three has asked for the bytes
        svg = await get(served, (await kept(served, SVG))["path"])
        assert svg.body == SVG and (svg.get(b"content-disposition") or b"").startswith(b"attachment")
        async with RawClient(served.port) as client:
            request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            await client.send(request * 3)
            assert [(await client.answer()).body == DATA for _ in range(3)] == [True] * 3
        assert served.house.config.images is not None
        spool = served.house.config.images.path
        assert spool == served.house.config.store.path.parent / "images"
        assert sorted(path.name for path in spool.rglob("*")) == ["spool"]


async def test_thumbnails_are_made_here_and_stay_here(tmp_path: Path, moto: Moto) -> None:
    async with far(moto, tmp_path) as (served, way):
        told, other = await kept(served, halves()), await kept(served, halves(size=(700, 300)))
        small = await get(served, told["path"] + "?w=256")
        assert seen(small.body).size == (256, 128) and small.get(b"content-type") == b"image/webp"
        assert served.house.config.images is not None
        folder = served.house.config.images.path
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert files == {f"thumbs/{told['sha256'][:2]}/{told['sha256']}.256.webp"}
        await way.down()
        assert (await get(served, told["path"] + "?w=256")).body == small.body
        # What can't be read now is no reason to believe that it never can.
        assert code(await get(served, other["path"] + "?w=256")) == (503, "image_store_unavailable")
        way.go.set()
        await way.up()
        assert (await get(served, other["path"] + "?w=256")).status == 200
        images = served.house.state.images(served.house.config)
        assert await images.delete(told["name"]) and not list(folder.rglob(f"{told['sha256']}*"))


async def test_what_is_missing_is_the_same_404_and_a_line_in_the_log(tmp_path: Path, moto: Moto) -> None:
    async with far(moto, tmp_path) as (served, _):
        told = await kept(served)
        images = served.house.state.images(served.house.config)

        async def nobody(sha256: str) -> bool:
            return False

        await images.blobs.drop(told["sha256"], nobody)
        for method in ("GET", "HEAD"):
            assert (await get(served, told["path"], method=method)).status == 404
        assert code(await get(served, told["path"])) == (404, "file_not_found")
        assert len([line for line in served.log if line["event"] == "image_missing"]) == 3


async def test_while_s3_is_down_it_is_a_503_and_afterwards_all_is_well(tmp_path: Path, moto: Moto) -> None:
    async with far(moto, tmp_path) as (served, way):
        told = await kept(served)
        way.shut()
        images = served.house.state.images(served.house.config)
        with impatient(images):
            assert code(await get(served, told["path"])) == (503, "image_store_unavailable")
            assert (await get(served, told["path"], method="HEAD")).status == 503
        await way.down()
        assert code(await get(served, told["path"], "Range: bytes=1-2")) == (503, "image_store_unavailable")
        way.go.set()
        await way.up()
        assert (await get(served, told["path"])).body == DATA
        # In the middle: the head has gone, so that the answer can only be seen to be cut.
        way.most = 100_000
        async with RawClient(served.port) as client:
            await client.send(f"GET {told['path']} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            with impatient(images):
                await client.head()
                assert len(await client.ended()) < 300_000
        way.most = None
        assert (await get(served, told["path"])).body == DATA
        raw = served.raw_log.decode()
        assert moto.secret_key not in raw and moto.access_key not in raw


async def test_a_client_that_leaves_frees_the_connection(tmp_path: Path, moto: Moto) -> None:
    async with far(moto, tmp_path) as (served, way):
        told = await kept(served, png(12_000_000))
        blobs = served.house.state.images(served.house.config).blobs
        assert isinstance(blobs, S3)
        readers = blobs._client.readers
        async with RawClient(served.port, window=4096) as client:
            await client.send(f"GET {told['path']} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await client.head()
            assert readers._value == READERS - 1
            client.reset()
        line = (await served.ended(2))[1]
        assert not line["complete"] and line["bytes_out"] < 12_000_000 and readers._value == READERS
        assert "delivery_crashed" not in {line["event"] for line in served.log}
        await served.house.stop()
        await asyncio.wait_for(way.closed.wait(), 5)


async def test_a_slow_client_slows_s3_and_costs_no_memory(tmp_path: Path, moto: Moto) -> None:
    data = png(32_000_000)
    async with far(moto, tmp_path) as (served, way):
        told = await kept(served, data)
        before = way.passed
        tracemalloc.start()
        try:
            async with RawClient(served.port, window=4096) as client:
                await client.send(f"GET {told['path']} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                await client.head()
                passed = -1
                while passed != way.passed:  # it fills what the kernel holds, and comes to rest
                    passed = way.passed
                    await asyncio.sleep(0.1)
                _, peak = tracemalloc.get_traced_memory()
                assert way.passed - before < 24_000_000 and peak < 2 * 2**20
                rest = 0
                while rest < len(data):
                    rest += len(await client.reader.read(2**16))
                assert rest == len(data)
        finally:
            tracemalloc.stop()


async def test_a_reload_cuts_nobody_off(tmp_path: Path, moto: Moto) -> None:
    async with far(moto, tmp_path) as (served, _):
        told = await kept(served)
        data = png(8_000_000)
        large = await kept(served, data)
        async with RawClient(served.port, window=4096) as client:
            await client.send(f"GET {large['path']} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await client.head()
            await served.house.reload(served.house.config)
            assert (await get(served, told["path"])).body == DATA
            assert await client.reader.readexactly(len(data)) == data
        again = await kept(served)
        assert again["sha256"] == told["sha256"] and (await get(served, again["path"])).body == DATA


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_names_that_are_none_do_not_reach_s3(tmp_path: Path, moto: Moto, method: str) -> None:
    async with far(moto, tmp_path) as (served, way):
        seen = len(way.heads)
        for target in ("/files/" + "a" * 26 + ".png", "/files/../" + "a" * 64, "/files/%00"):
            assert (await get(served, target, method=method)).status == 404
        assert len(way.heads) == seen
