from __future__ import annotations

import asyncio
import os
import re
import resource
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.images import thumbs as module
from proxy.images.base import Images
from proxy.images.scaler import CRASHED, Scaler, Unmade
from proxy.images.thumbs import NoThumbnail, Thumbs
from proxy.model.body import Body
from proxy.model.errors import ProxyError
from proxy.model.images import Stored
from proxy.testkit import Served, TurnedClock
from proxy.testkit.watch import LogKept

from .asking import code, get, house, kept
from .drawn import RED, bomb, halves, near, seen
from .pictures import SVG
from .shelf import StandingClock, blobs, keep, script, shelf

PICTURE = halves()


def at(served: Served) -> Images:
    """The pictures that the server keeps now: `State.images` would make another."""
    serving: Any = served.house.engine._generation.files  # type: ignore[union-attr]
    images: Images = serving._renewal._signed_anew.__self__
    return images


def thumbs(images: Any) -> set[str]:
    return {path.name for path in (images.files.folder / "thumbs").rglob("*") if path.is_file()}


async def test_a_thumbnail_is_served_as_harmless_as_its_picture() -> None:
    async with house('ttl = "forever"') as served:
        told = await kept(served, PICTURE)
        answer = await get(served, told["path"] + "?w=256")
        assert answer.status == 200 and seen(answer.body).size == (256, 128)
        stem = told["name"][:26]
        assert dict(answer.headers) == {
            b"content-type": b"image/webp",
            b"cache-control": b"public, max-age=86400, immutable",
            b"content-disposition": f'inline; filename="{stem}-256.webp"'.encode(),
            b"x-content-type-options": b"nosniff",
            b"content-security-policy": b"default-src 'none'; sandbox",
            b"cross-origin-resource-policy": b"cross-origin",
            b"etag": f'W/"{told["sha256"]}-256"'.encode(),
            b"content-length": str(len(answer.body)).encode(),
        }
        again = await get(served, told["path"] + "?v=2&w=256", "Range: bytes=0-3")
        assert (again.status, again.body, again.headers) == (200, answer.body, answer.headers)
        head = await get(served, told["path"] + "?w=512", method="HEAD")
        other = await get(served, told["path"] + "?w=512")
        assert (head.line, head.headers, head.body) == (other.line, other.headers, b"")
        assert seen(other.body).size == (512, 256)
        tag = (answer.get(b"etag") or b"").decode()
        same = await get(served, told["path"] + "?w=256", f"If-None-Match: {tag}")
        assert (same.status, same.body) == (304, b"")
        for foreign in (f'"{told["sha256"]}"', (other.get(b"etag") or b"").decode()):
            assert (await get(served, told["path"] + "?w=256", f"If-None-Match: {foreign}")).status == 200
        assert (await get(served, told["path"])).body == PICTURE


async def test_which_widths_there_are_is_said_to_who_knows_the_name() -> None:
    async with house() as served:
        path = (await kept(served, PICTURE))["path"]
        for query in ("w=", "w=0", "w=300", "w=-256", "w=256px", "w=%32%35%36", "w=256&w=512", "w=256&w=256"):
            answer = await get(served, f"{path}?{query}")
            assert code(answer) == (400, "invalid_request") and b"256, 512 or 1024" in answer.body, query
            unknown = await get(served, f"/files/{'a' * 26}.png?{query}")
            assert code(unknown) == (404, "file_not_found")
        assert (await get(served, path + "?W=256")).body == PICTURE


async def test_an_svg_scales_by_itself() -> None:
    async with house() as served:
        answer = await get(served, (await kept(served, SVG))["path"] + "?w=256")
        assert answer.body == SVG and answer.get(b"content-type") == b"image/svg+xml"
        assert (answer.get(b"content-disposition") or b"").startswith(b"attachment")


async def test_a_width_is_free_where_links_are_signed() -> None:
    clock = TurnedClock()
    async with house('sign = true\nlink_ttl = "60s"', clock=clock) as served:
        told = await kept(served, PICTURE)
        path, _, query = told["path"].partition("?")
        expires, signature = query.split("&")
        for parts in ([expires, signature, "w=256"], ["w=256", signature, expires], [signature, "w=256", expires]):
            answer = await get(served, f"{path}?{'&'.join(parts)}")
            assert answer.status == 200 and answer.get(b"content-type") == b"image/webp"
            assert re.fullmatch(rb"private, max-age=(60|5\d)", answer.get(b"cache-control") or b"")
        assert (await get(served, f"{path}?{signature}&{expires}")).body == PICTURE
        for bad in ("w=256", f"{expires}&w=256", f"{query}&w=256&x=1", f"{query}&{expires}", f"{query}&", f"&{query}"):
            assert code(await get(served, f"{path}?{bad}")) == (404, "file_not_found"), bad
        assert code(await get(served, f"{path}?{query}&w=9")) == (400, "invalid_request")
        clock.turn(61)
        assert code(await get(served, f"{path}?{query}&w=256")) == (403, "link_expired")


async def test_it_is_made_once_and_kept_and_goes_with_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = StandingClock()
    made: list[tuple[str, int]] = []
    scaled = Scaler.scaled

    def counted(self: Scaler, descriptor: int, sort: Any, width: int) -> bytes:
        made.append((sort, width))
        return scaled(self, descriptor, sort, width)

    monkeypatch.setattr(Scaler, "scaled", counted)
    async with house(clock=clock) as served:
        one, other = [await kept(served, PICTURE) for _ in range(2)]
        answers = await asyncio.gather(*[get(served, told["path"] + "?w=256") for told in (one, other) * 5])
        assert made == [("png", 256)] and len({answer.body for answer in answers}) == 1
        config = served.house.config
        await served.house.reload(replace(config))  # others, and the next process, find it there
        assert (await get(served, one["path"] + "?w=256")).body == answers[0].body and len(made) == 1
        await get(served, one["path"] + "?w=1024")
        images = at(served)
        assert thumbs(images) == {f"{one['sha256']}.256.webp", f"{one['sha256']}.1024.webp"}
        assert await images.delete(one["name"]) and len(thumbs(images)) == 2
        assert await images.delete(other["name"]) and not thumbs(images) and not blobs(images)
        clock.turn(3)
        assert code(await get(served, one["path"] + "?w=256")) == (404, "file_not_found")


async def test_the_collector_clears_away_what_belongs_to_nothing_and_what_is_too_much(tmp_path: Path) -> None:
    clock, log = TurnedClock(), LogKept()
    async with shelf(tmp_path, clock, max_bytes=100_000) as images:
        stored = [await keep(images, halves(size=(300 + n, 300))) for n in range(3)]
        sizes = []
        for n, one in enumerate(stored):
            thumb = await images.thumbs.get(one, 256, log)
            assert thumb is not None and thumb.place is not None
            sizes.append(thumb.size)
            await thumb.body.aclose()
            os.utime(images.files.folder / thumb.place, (n, n))
        cache = images.collector._cache
        cache.put("ab" * 32, 512, b"whose picture is gone")
        await images.collector.collect()
        assert thumbs(images) == {f"{one.sha256}.256.webp" for one in stored}
        assert cache.room == 10_000 and cache.trim() == sum(sizes)
        cache.room = sum(sizes) - 1
        assert cache.trim() == sum(sizes[1:]) and f"{stored[0].sha256}.256.webp" not in thumbs(images)
        await images.thumbs.aclose()


async def test_a_bomb_is_refused_and_costs_nothing() -> None:
    async with house() as served:
        told = await kept(served, bomb(10_000, 10_000))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = await get(served, told["path"] + "?w=256")
        assert code(answer) == (422, "thumbnail_unavailable") and b"40,000,000 pixels" in answer.body
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5000  # KiB
        assert at(served).thumbs._scaler.pid is None  # nobody was even asked
        assert answer.get(b"etag") is None and answer.get(b"cache-control") is None
        assert (await get(served, told["path"])).status == 200


async def test_what_can_not_be_made_is_not_tried_again_soon() -> None:
    clock = StandingClock()
    async with house(clock=clock) as served:
        told = await kept(served, PICTURE[:-200])
        scaler = at(served).thumbs._scaler
        for width in (256, 512, 256):
            answer = await get(served, told["path"] + f"?w={width}")
            assert code(answer) == (422, "thumbnail_unavailable") and b"damaged or cut off" in answer.body
        pid = scaler.pid
        assert pid is not None and not [line for line in served.log if line["event"] == "thumbnail_failed"]
        scaler.stop()
        await get(served, told["path"] + "?w=256")
        assert scaler.pid is None
        clock.turn(600)
        assert (await get(served, told["path"] + "?w=256")).status == 422
        assert scaler.pid is not None


async def test_a_crash_is_told_to_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: Scaler, *given: object) -> bytes:
        raise Unmade(CRASHED, crashed=True)

    monkeypatch.setattr(Scaler, "scaled", crash)
    monkeypatch.setattr(module, "REMEMBERED", 1)
    async with house() as served:
        one, other = [await kept(served, halves(size=(300, n))) for n in (200, 300)]
        for told in (one, other, one, one):
            assert code(await get(served, told["path"] + "?w=256")) == (422, "thumbnail_unavailable")
        lines = [line for line in served.log if line["event"] == "thumbnail_failed"]
        # Of the one it was forgotten for the other's sake.
        assert [line["sha256"] for line in lines] == [told["sha256"][:8] for told in (one, other, one)]
        monkeypatch.setattr(Scaler, "scaled", lambda *given: os.open("/nowhere/at/all", os.O_RDONLY))
        third = await kept(served, halves(size=(300, 400)))
        assert code(await get(served, third["path"] + "?w=256")) == (503, "image_store_unavailable")


class Held:
    """Makes nothing until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        monkeypatch.setattr(Scaler, "scaled", lambda scaler, *given: self.go.wait(60) and b"made")


async def test_so_many_may_wait_and_the_next_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING", 2)
    held, log = Held(monkeypatch), LogKept()
    async with shelf(tmp_path) as images:
        one, other, third = [await keep(images, halves(size=(300, n))) for n in (200, 300, 400)]
        waiting = [asyncio.ensure_future(images.thumbs.get(stored, 256, log)) for stored in (one, other, one)]
        await asyncio.sleep(0)
        with pytest.raises(ProxyError) as busy:
            await images.thumbs.get(third, 256, log)
        assert (busy.value.status, busy.value.headers) == (503, {"retry-after": "1"})
        waiting[0].cancel()  # who leaves takes nothing from the others
        await asyncio.wait(waiting[:1])
        held.go.set()
        for thumb in await asyncio.gather(*waiting[1:]):
            assert thumb is not None and thumb.size == 4
            await thumb.body.aclose()
        assert not images.thumbs._making
        await images.thumbs.aclose()


async def test_a_stop_waits_for_what_is_made_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, log = Held(monkeypatch), LogKept()
    async with shelf(tmp_path) as images:
        one, other = [await keep(images, halves(size=(300, n))) for n in (200, 300)]
        first = asyncio.ensure_future(images.thumbs.get(one, 256, log))
        second = asyncio.ensure_future(images.thumbs.get(other, 256, log))
        await asyncio.sleep(0)
        monkeypatch.setattr(module.scaler, "PATIENCE", 0.01)
        closing = asyncio.ensure_future(images.thumbs.aclose())
        for late in (first, second):
            with pytest.raises(ProxyError, match="ask again"):
                await late
        held.go.set()
        await closing
        with pytest.raises(ProxyError, match="ask again"):  # one that was on its way when the config was replaced
            await images.thumbs.get(other, 256, log)


async def test_a_process_with_nothing_to_do_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.0)
    async with shelf(tmp_path) as images:
        for width in (256, 512):
            thumb = await images.thumbs.get(await keep(images, PICTURE), width, LogKept())
            assert thumb is not None
            await thumb.body.aclose()
            while images.thumbs._scaler.pid is not None:
                await asyncio.sleep(0.001)
        await images.thumbs.aclose()


async def test_a_disk_without_room_costs_the_keeping_and_not_the_thumbnail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shelf(tmp_path) as images:
        stored = await keep(images, PICTURE)
        (images.files.folder / "thumbs").write_text("not a folder")
        thumb = await images.thumbs.get(stored, 256, LogKept())
        assert thumb is not None and thumb.place is None
        assert near(seen(await thumb.body.read(2**20)).getpixel((5, 5)), RED)
        assert not list((images.files.folder / "spool").iterdir())
        await images.thumbs.aclose()


class Streamed(Body):
    """A picture that comes from elsewhere."""

    __slots__ = ("closed", "data", "length")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.length = len(data)
        self.closed = False

    def now(self) -> bytes | None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), 500):
            yield self.data[start : start + 500]

    async def aclose(self) -> None:
        self.closed = True


async def test_a_picture_that_is_kept_elsewhere_is_fetched_first(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        stored = await keep(images, PICTURE)
        body = Streamed(PICTURE)

        async def opened(stored: Stored) -> Body | None:
            return body if stored.type == "png" else None

        log = LogKept()
        found = Thumbs(images.files, images.collector._cache, images.clock, opened)
        thumb = await found.get(stored, 256, log)
        assert thumb is not None and seen(await thumb.body.read(2**20)).size == (256, 128)
        await thumb.body.aclose()
        assert body.closed and not list((images.files.folder / "spool").iterdir())
        assert await found.get(replace(stored, sha256="ab" * 32, type="gif"), 256, log) is None
        with pytest.raises(NoThumbnail):
            await found.get(replace(stored, width=9000, height=9000, sha256="ab" * 32), 256, log)
        await found.aclose()


async def test_without_pillow_the_picture_itself_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.scaler.importlib.util, "find_spec", lambda name: None)
    async with house() as served:
        path = (await kept(served, PICTURE))["path"]
        for _ in range(2):
            assert (await get(served, path + "?w=256")).body == PICTURE
        assert (await get(served, path + "?w=9")).status == 400
        lines = [line for line in served.log if line["event"] == "thumbnails_not_made"]
        assert len(lines) == 1 and "framegate[images]" in lines[0]["why"]


async def test_a_picture_that_is_gone_is_a_404_at_every_width() -> None:
    async with house() as served:
        told = await kept(served, PICTURE)
        at(served).files.path(told["sha256"]).unlink()
        assert code(await get(served, told["path"] + "?w=256")) == (404, "file_not_found")
        assert [line["sha256"] for line in served.log if line["event"] == "image_missing"] == [told["sha256"][:8]]
        images = at(served)
        assert not images.thumbs._making and not thumbs(images)


async def test_the_house_itself_never_loads_pillow() -> None:
    code = """
import asyncio, sys
from proxy.testkit import serve
from tests.images.asking import CHAIN, get, kept
PICTURE = bytes.fromhex(sys.argv[1])
async def main():
    async with serve("[images]\\n" + CHAIN) as served:
        told = await kept(served, PICTURE)
        assert (await get(served, told["path"] + "?w=256")).body[8:12] == b"WEBP"
        print(sorted(name for name in sys.modules if name.startswith("PIL")))
asyncio.run(main())
"""
    process = await script(code, PICTURE.hex())
    assert process.stdout is not None
    said = await process.stdout.read()
    assert (await process.wait(), said) == (0, b"[]\n")
