from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import shutil
import subprocess
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.images.files import Files, Temp
from proxy.images.spool import PIECE
from proxy.model.images import ImageStoreError, NotAnImage
from proxy.model.store import StoreError
from proxy.testkit import TurnedClock

from ..end_to_end.process import opened
from .pictures import SVG, png
from .shelf import blobs, content, keep, references, shelf, spools


async def test_tells_all_of_a_picture_that_was_kept(tmp_path: Path) -> None:
    clock = TurnedClock()
    data = png(700_000, width=1024, height=1536)
    async with shelf(tmp_path, clock, ttl=3600.0, base=lambda: "https://img.example.com") as images:
        before = clock.wall()
        stored = await keep(images, data, owner="k1", request="r1")
        name = stored.name
        assert len(name) == 30 and name.endswith(".png") and name[:26].isalnum() and name.islower()
        assert (stored.type, stored.size, stored.width, stored.height) == ("png", 700_000, 1024, 1536)
        assert (stored.owner, stored.request, stored.sha256) == ("k1", "r1", hashlib.sha256(data).hexdigest())
        assert (stored.path, stored.url) == (f"/files/{name}", f"https://img.example.com/files/{name}")
        assert before <= stored.created <= clock.wall() and stored.expires == stored.created + 3600
        assert await images.find(name) == stored and await content(images, name) == data
        assert (await keep(images, SVG, ttl="forever")).expires is None
        assert not spools(images)


async def test_what_is_not_committed_is_gone(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        with pytest.raises(ZeroDivisionError):
            async with images.spool() as spool:
                spool.write(png(3 * PIECE))
                assert len(b"".join([piece async for piece in spool.read()])) == 3 * PIECE
                assert len(spools(images)) == 1
                raise ZeroDivisionError
        assert not spools(images) and not blobs(images) and not await references(images)
        assert not opened(tmp_path / "images")


async def test_who_does_not_wait_is_told_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shelf(tmp_path, threads=1) as images:
        go, told = threading.Event(), asyncio.Event()
        images.threads.writing.do(go.wait)
        async with images.spool() as spool:
            assert spool.free and spool.room(told.set)
            spool.write(png(PIECE))  # waits for the thread
            assert spool.free and spool.room(told.set)
            spool.write(bytes(PIECE))
            assert not spool.free and not spool.room(told.set)
            assert not told.is_set()
            go.set()
            await told.wait()
            assert spool.free and spool.room(told.set)
            await spool.commit()

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr("os.writev", full)
        told.clear()
        async with images.spool() as spool:
            spool.write(png(PIECE))
            spool.write(bytes(PIECE))
            assert not spool.room(told.set)
            await told.wait()
            # Nothing more is going to be taken: there is nothing to wait for, and `drained` says why.
            assert not spool.free and spool.room(told.set)
            with pytest.raises(ImageStoreError):
                await spool.drained()


async def test_a_task_cancelled_while_it_writes_leaves_nothing(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        writing = asyncio.Event()

        async def work() -> None:
            async with images.spool() as spool:
                while True:
                    spool.write(png(PIECE))
                    writing.set()
                    await spool.drained()

        task = asyncio.create_task(work())
        await writing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not spools(images) and not opened(tmp_path / "images")


async def test_one_that_is_cancelled_while_it_tidies_up_leaves_nothing_either(tmp_path: Path) -> None:
    async with shelf(tmp_path, threads=1) as images:
        held, go = asyncio.Event(), threading.Event()

        async def work() -> None:
            async with images.spool() as spool:
                spool.write(png(PIECE))
                [_ async for _ in spool.read()]
                images.threads.writing.do(go.wait)
                held.set()

        task = asyncio.create_task(work())
        await held.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(spools(images)) == 1
        go.set()
        await images.threads.writing.run(bool)
        assert not spools(images) and not opened(tmp_path / "images")


async def test_one_that_is_cancelled_while_it_is_committed_leaves_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small picture: its file is made by the thread that ends it."""
    async with shelf(tmp_path) as images:
        making, go = threading.Event(), threading.Event()
        create = images.files.create

        def slowly() -> Temp:
            making.set()
            go.wait()
            return create()

        monkeypatch.setattr(images.files, "create", slowly)
        task = asyncio.create_task(keep(images, png()))
        await asyncio.to_thread(making.wait)
        task.cancel()
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not spools(images) and not await references(images)
        assert not opened(tmp_path / "images")


async def test_one_whose_file_has_been_replaced_leaves_nothing_open(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        async with images.spool() as spool:
            spool.write(png())
            await spool.commit()
            again = await keep(images, png())
            assert b"".join([piece async for piece in spool.read()]) == png()
        await images.threads.ending.run(bool)
        while opened(tmp_path / "images"):
            await asyncio.sleep(0.001)
        assert await content(images, again.name) == png()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, PIECE + 5), max_size=12), st.booleans())
async def test_pieces_of_any_size_become_the_same_picture(tmp_path: Path, sizes: list[int], drained: bool) -> None:
    data = png(100 + sum(sizes), seed=len(sizes))
    async with shelf(Path(tempfile.mkdtemp(dir=tmp_path))) as images, images.spool() as spool:
        at = 0
        for size in [*sizes, 100]:
            spool.write(memoryview(data)[at : at + size])
            at += size
            if drained:
                await spool.drained()
        assert spool.size == len(data)
        assert b"".join([piece async for piece in spool.read()]) == data
        stored = await spool.commit()
        assert b"".join([piece async for piece in spool.read()]) == data
        assert await content(images, stored.name) == data


async def test_a_spool_is_committed_once(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        async with images.spool() as spool:
            spool.write(png())
            await spool.commit()
            with pytest.raises(ValueError, match="committed once"):
                await spool.commit()
            with pytest.raises(ValueError, match="nothing more can be written"):
                spool.write(b"x")


async def test_what_is_no_picture_is_refused_and_can_still_be_read(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        for data in (b"", b"\0" * 1000, b"<html>" + b"x" * 2 * PIECE):
            async with images.spool() as spool:
                spool.write(data)
                with pytest.raises(NotAnImage, match="no picture in PNG, JPEG, WebP, GIF or SVG"):
                    await spool.commit()
                assert b"".join([piece async for piece in spool.read()]) == data
        assert not spools(images) and not blobs(images) and not await references(images)


async def test_memory_is_flat_for_64_mib(tmp_path: Path) -> None:
    piece = png(2**16)
    async with shelf(tmp_path) as images:
        await keep(images, piece)
        tracemalloc.start()
        try:
            async with images.spool() as spool:
                for _ in range(2**10):
                    spool.write(piece)
                    await spool.drained()
                stored = await spool.commit()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert stored.size == 2**26 and peak < 2 * 2**20


# --- Disks that refuse


@pytest.fixture(params=["a full disk", "a limit of the process"])
def little_room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder in which no file can become larger than a megabyte."""
    if request.param == "a full disk":
        mount = shutil.which("mount")
        place = tmp_path / "disk"
        place.mkdir()
        command = [mount or "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
        if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a small disk")
        (tmp_path / "images").symlink_to(place)
        yield tmp_path
        subprocess.run(["umount", str(place)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("drained", [True, False])
async def test_a_full_disk_is_one_error_and_loses_no_byte(little_room: Path, drained: bool) -> None:
    data = png(2_500_000)
    async with shelf(little_room) as images:
        async with images.spool() as spool:
            written = 0
            with pytest.raises(ImageStoreError, match=r"can't be used: (No space left on device|File too large)\."):
                for at in range(0, len(data), 50_000):
                    spool.write(data[at : at + 50_000])
                    written = at + 50_000
                    if drained:
                        await spool.drained()
                await spool.commit()
            assert 2**20 < written <= (2**20 + 3 * PIECE if drained else len(data))
            for _ in range(2):
                assert b"".join([piece async for piece in spool.read()]) == data[:written]
            with pytest.raises(ImageStoreError):
                await spool.commit()
        assert not spools(images) and not blobs(images) and not await references(images)
        small = await keep(images, png(1000))  # there is room again
        assert await content(images, small.name) == png(1000)


async def test_a_disk_that_is_full_when_the_place_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a sum may be what finds no room, when all of the picture has been written."""
    async with shelf(tmp_path) as images:
        await keep(images, png(seed=1))
        shutil.rmtree(images.files.folder / "blobs")
        (images.files.folder / "blobs").write_text("in the way")
        async with images.spool() as spool:
            spool.write(png(seed=2))
            with pytest.raises(ImageStoreError, match="Not a directory"):
                await spool.commit()
            assert b"".join([piece async for piece in spool.read()]) == png(seed=2)
        assert not spools(images) and len(await references(images)) == 1


@pytest.fixture(params=["another's folder", "a disk mounted read-only"])
def read_only(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder in which this process may not write, with a store's database in one beside it where it may."""
    with tempfile.TemporaryDirectory(prefix="framegate-read-only-") as name:
        folder = Path(name)
        if request.param == "another's folder":
            for path in (folder, folder / "images", folder / "images/spool", folder / "images/blobs"):
                path.mkdir(exist_ok=True)
                path.chmod(0o555 if path != folder else 0o777)
            root = os.geteuid() == 0
            if root:
                os.seteuid(65534)
            try:
                yield folder
            finally:
                if root:
                    os.seteuid(0)
            return
        (folder / "images").mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(folder / "images")]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a disk")
        yield folder
        subprocess.run(["umount", str(folder / "images")], check=True)


@pytest.mark.parametrize("size", [1000, 3 * PIECE])
async def test_where_nothing_may_be_written_nothing_is_lost(read_only: Path, size: int) -> None:
    data = png(size)
    async with shelf(read_only) as images:
        with pytest.raises(ImageStoreError):
            images.files.prepare()
        async with images.spool() as spool:
            spool.write(data)
            with pytest.raises(ImageStoreError, match=r"can't be used: (Permission denied|Read-only file system)\."):
                await spool.commit()
            assert b"".join([piece async for piece in spool.read()]) == data


async def test_a_thread_that_fails_in_another_way_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = png(2 * PIECE)

    def nowhere() -> Temp:
        raise MemoryError

    async with shelf(tmp_path) as images, images.spool() as spool:
        monkeypatch.setattr(images.files, "create", nowhere)
        spool.write(data)
        with pytest.raises(ImageStoreError):
            await spool.commit()
        assert b"".join([piece async for piece in spool.read()]) == data


async def test_a_disk_that_loses_what_was_written_is_heard(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        async with images.spool() as spool:
            spool.write(png(2 * PIECE))
            assert len([piece async for piece in spool.read()]) == 2
            [path] = spools(images)
            os.truncate(path, 100)
            with pytest.raises(ImageStoreError, match="has lost what was written"):
                [piece async for piece in spool.read()]


def test_every_error_of_a_disk_has_words() -> None:
    from proxy.images.files import translated

    assert translated(OSError(errno.EROFS, "x", "/secret/path")).message == (
        "The store of pictures can't be used: Read-only file system."
    )
    assert "Input/output error" in translated(OSError()).message


async def test_an_index_that_does_not_answer_is_the_same_error(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        async with images.spool() as spool:
            spool.write(png())
            await images.index._store.aclose()
            with pytest.raises(ImageStoreError, match="its index does not answer"):
                await spool.commit()
            assert b"".join([piece async for piece in spool.read()]) == png()


async def test_a_name_without_its_reference_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shelf(tmp_path) as images:

        async def failing(*given: object) -> None:
            raise StoreError("the first of two transactions")

        monkeypatch.setattr(images.index, "refer", failing)
        async with images.spool() as spool:
            spool.write(png())
            with pytest.raises(ImageStoreError, match="its index does not answer"):
                await spool.commit()
            assert b"".join([piece async for piece in spool.read()]) == png()
            with images.files.alone(hashlib.sha256(png()).hexdigest()) as alone:
                assert alone
        assert not [stored async for page in images.index.all() for stored in page]


def test_the_folders_are_not_for_everybody(tmp_path: Path) -> None:
    files = Files(tmp_path / "images")
    files.prepare()
    temp = files.create()
    assert (tmp_path / "images").stat().st_mode & 0o007 == 0 and temp.path.stat().st_mode & 0o007 == 0
    files.discard(temp)
