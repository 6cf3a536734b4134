from __future__ import annotations

import os
import re
from dataclasses import replace

import orjson
import pytest

from proxy.testkit import RawClient, TurnedClock, serve

from .asking import CHAIN, DATA, TAG, code, get, house, kept
from .pictures import SVG, jpeg, png
from .shelf import StandingClock


async def test_a_picture_is_served_as_harmless_as_can_be() -> None:
    async with house('ttl = "90s"') as served:
        told = await kept(served, Owner="k1")
        assert told["url"] == served.url + told["path"]
        answer = await get(served, told["path"])
        assert (answer.status, answer.body) == (200, DATA)
        age = int((answer.get(b"cache-control") or b"").partition(b"public, max-age=")[2])
        assert 60 < age <= 90
        assert {name: value for name, value in answer.headers if name != b"cache-control"} == {
            b"content-type": b"image/png",
            b"content-disposition": f'inline; filename="{told["name"]}"'.encode(),
            b"x-content-type-options": b"nosniff",
            b"content-security-policy": b"default-src 'none'; sandbox",
            b"cross-origin-resource-policy": b"cross-origin",
            b"etag": TAG.encode(),
            b"accept-ranges": b"bytes",
            b"content-length": b"300000",
        }
        head = await get(served, told["path"], method="HEAD")
        assert (head.line, head.body) == (answer.line, b"") and dict(head.headers).keys() == dict(answer.headers).keys()
        assert (await get(served, told["path"] + "?v=2", version="1.0")).body == DATA


async def test_an_svg_is_an_attachment() -> None:
    async with house() as served:
        answer = await get(served, (await kept(served, SVG))["path"])
        assert answer.get(b"content-type") == b"image/svg+xml" and answer.body == SVG
        assert (answer.get(b"content-disposition") or b"").startswith(b'attachment; filename="')
        assert (await kept(served, jpeg(3, 4)))["name"].endswith(".jpg")


@pytest.mark.parametrize(
    ("images", "clause"),
    [
        ('ttl = "forever"', b"public, max-age=86400, immutable"),
        ('ttl = "30d"', b"public, max-age=86400"),
        ('ttl = "30d"\nsign = true', rb"private, max-age=86(400|39\d)"),
        ('ttl = "30d"\nsign = true\nlink_ttl = "30s"', rb"private, max-age=(30|2\d)"),
        ('ttl = "30s"\nsign = true', rb"private, max-age=(30|2\d)"),
        ('ttl = "forever"\nsign = true', rb"private, max-age=86(400|39\d)"),
    ],
)
async def test_how_long_caches_may_keep_it(images: str, clause: bytes) -> None:
    async with house(images) as served:
        said = (await get(served, (await kept(served))["path"])).get(b"cache-control")
        assert said is not None and re.fullmatch(clause, said)


RANGES: list[tuple[str, tuple[int, int] | None]] = [
    ("bytes=0-0", (0, 0)),
    ("bytes=100-199", (100, 199)),
    ("bytes=299999-", (299_999, 299_999)),
    ("bytes=299990-999999999999", (299_990, 299_999)),
    ("bytes=-10", (299_990, 299_999)),
    ("bytes=-999999999", (0, 299_999)),
    ("Bytes= 5-6 ", (5, 6)),
    ("bytes=0-1,5-6", None),
    ("bytes=5-4", None),
    ("bytes=-", None),
    ("bytes=a-b", None),
    ("bytes=0x1-2", None),
    ("bytes=\u0661-2", None),
    ("lines=1-2", None),
    ("bytes=1-2-3", None),
    ("bytes=" + "9" * 5000 + "-", None),
]


async def test_ranges() -> None:
    async with house() as served:
        path = (await kept(served))["path"]
        for asked, part in RANGES:
            answer = await get(served, path, f"Range: {asked}")
            if part is None:
                assert (answer.status, answer.body) == (200, DATA), asked
                continue
            first, last = part
            assert (answer.status, answer.body) == (206, DATA[first : last + 1]), asked
            assert answer.get(b"content-range") == f"bytes {first}-{last}/300000".encode()
        for asked in ("bytes=300000-", "bytes=999999999999-", "bytes=-0"):
            answer = await get(served, path, f"Range: {asked}")
            assert code(answer) == (416, "range_not_satisfiable")
            assert answer.get(b"content-range") == b"bytes */300000"
        assert (await get(served, path, "Range: bytes=0-1", "Range: bytes=2-3")).status == 200
        assert (await get(served, path, "Range: bytes=0-1", method="HEAD")).status == 200


async def test_validators() -> None:
    async with house() as served:
        path = (await kept(served))["path"]
        for given in (TAG, f"W/{TAG}", f'"other", {TAG}', "*", f'"a,b",{TAG} , "c"'):
            answer = await get(served, path, f"If-None-Match: {given}", "Range: bytes=0-1")
            assert (answer.status, answer.get(b"etag"), answer.body) == (304, TAG.encode(), b""), given
            assert answer.get(b"cache-control") is not None
        for given in ('"other"', TAG.strip('"'), TAG[:-2] + '"', "", f'"x{TAG[1:]}'):
            assert (await get(served, path, f"If-None-Match: {given}")).status == 200, given
        for given, status in ((TAG, 206), (f"W/{TAG}", 200), ('"other"', 200), ("Sat, 21 Nov 2026 10:00:00 GMT", 200)):
            assert (await get(served, path, "Range: bytes=0-1", f"If-Range: {given}")).status == status, given


HOSTILE = [
    "/files/",
    "/files/?",
    "/files/{stem}",
    "/files/{name}/",
    "/files/{name}%00",
    "/files/{name}.png",
    "/files/{stem}.PNG",
    "/files/{stem}.jpg",
    "/files/{upper}",
    "/files/{name};v=1",
    "/files/./{name}",
    "/files//{name}",
    "/files/../files/{name}",
    "/files/%2e%2e/files/{name}",
    "/files/..%2f..%2flock",
    "/files/../lock",
    "/files/..\\lock",
    "/files/%",
    "/files/" + "a" * 26 + ".png",
    "/files/" + "a" * 8000,
    "/files/" + "%C4%B1" * 26 + ".png",
    "/files/%{hex}",
    "/files/{name}/link",
    "/files/{sha256}",
    "/files/blobs/{shard}/{sha256}",
    "/files/' OR 1=1--.png",
    "/files/%25.png",
]


async def test_whatever_else_is_asked_for_is_one_and_the_same_404() -> None:
    clock = TurnedClock()
    async with house(clock=clock) as served:
        told = await kept(served, Owner="k1")
        over = await kept(served, TTL="5")
        deleted = await kept(served)
        images = served.house.state.images(served.house.config)
        assert await images.delete(deleted["name"])
        clock.turn(6)
        name = told["name"]
        parts = {
            "name": name,
            "stem": name[:-4],
            "upper": name[:-4].upper() + ".png",
            "hex": name.encode().hex(),
            "sha256": told["sha256"],
            "shard": told["sha256"][:2],
        }
        words = set()
        targets = [over["path"], deleted["path"], *[re.sub(r"{(\w+)}", lambda m: parts[m[1]], one) for one in HOSTILE]]
        for target in targets:
            answer = await get(served, target.replace(" ", "%20"))
            assert code(answer) == (404, "file_not_found"), target
            words.add((answer.line, answer.body))
        assert len(words) == 1
        for target in ("/files", "/Files/" + name, "/file/" + name, "//files/" + name):
            assert (await get(served, target)).status in (400, 404) and target != told["path"]
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            answer = await get(served, told["path"], "Content-Length: 0", method=method)
            assert code(answer) == (405, "method_not_allowed") and answer.get(b"allow") == b"GET, HEAD"
        assert (await get(served, told["path"])).body == DATA


async def test_nothing_is_there_where_no_pictures_are_kept() -> None:
    async with serve(CHAIN) as served:
        assert code(await get(served, "/files/" + "a" * 26 + ".png")) == (404, "route_not_found")
        async with RawClient(served.port) as client:
            answer = await client.ask(b"POST /v1/keep HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert code(answer) == (503, "image_store_unavailable")
        assert "no [images] table" in orjson.loads(answer.body)["error"]["message"]


async def test_a_reload_brings_pictures_and_takes_them_away() -> None:
    async with house() as served:
        told = await kept(served)
        config = served.house.config
        await served.house.reload(replace(config, images=None))
        assert code(await get(served, told["path"])) == (404, "route_not_found")
        await served.house.reload(config)
        assert (await get(served, told["path"])).body == DATA


async def test_signed_links_end_and_keys_rotate() -> None:
    clock = TurnedClock()
    old, new = "b2xk" * 10 + "b28=", "bmV3" * 10 + "bmU="
    async with house('sign = true\nlink_ttl = "60s"', clock=clock, FRAMEGATE_MASTER_KEY=old) as served:
        told = await kept(served, Owner="k1")
        assert (await get(served, told["path"])).body == DATA
        bare = told["path"].partition("?")[0]
        for bad in (bare, bare + "?", told["path"] + "&x=1", told["path"][:-1], told["path"].replace("signature", "s")):
            assert code(await get(served, bad)) == (404, "file_not_found"), bad
        other = await kept(served, png(400, seed=2))
        crossed = bare + "?" + other["path"].partition("?")[2]
        assert code(await get(served, crossed)) == (404, "file_not_found")
        clock.turn(61)
        answer = await get(served, told["path"])
        assert code(answer) == (403, "link_expired")
        served.house.state.environ = {"FRAMEGATE_MASTER_KEY": f"{new},{old}"}
        anew = await served.house.state.images(served.house.config).signed_anew(told["name"], owner="k1")
        assert anew is not None
        before = anew[0]
        await served.house.reload(served.house.config)
        assert (await get(served, before.path)).body == DATA
        for given, sound in ((new, True), (old, False)):
            served.house.state.environ = {"FRAMEGATE_MASTER_KEY": given}
            await served.house.reload(served.house.config)
            assert ((await get(served, before.path)).status == 200) is sound
        images = served.house.state.images(served.house.config)
        assert await images.signed_anew(told["name"], owner="k2") is None
        assert await images.signed_anew((await kept(served))["name"], owner=None) is None


async def test_the_log_does_not_tell_the_name() -> None:
    async with house("sign = true") as served:
        told = await kept(served)
        await get(served, told["path"])
        await get(served, told["path"].partition("?")[0].replace("png", "gif"))
        lines = await served.ended(3)
        assert [line["path"] for line in lines[1:]] == [f"/files/{told['name'][:4]}..."] * 2
        assert [line["status"] for line in lines[1:]] == [200, 404] and lines[1]["bytes_out"] == len(DATA)
        raw = served.raw_log.decode()
        assert told["name"][:20] not in raw and told["path"].rpartition("=")[2] not in raw


async def test_a_file_that_is_gone_or_cut_is_told_to_the_operator() -> None:
    async with house() as served:
        told = await kept(served)
        path = served.house.state.images(served.house.config).files.path(told["sha256"])
        os.truncate(path, 100)
        assert code(await get(served, told["path"])) == (404, "file_not_found")
        path.unlink()
        assert code(await get(served, told["path"])) == (404, "file_not_found")
        missing = [line for line in served.log if line["event"] == "image_missing"]
        assert [line["sha256"] for line in missing] == [told["sha256"][:8]] * 2


async def test_a_name_is_believed_for_a_moment_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.images.serving.NAMES", 2)
    clock = StandingClock()
    async with house(clock=clock) as served:
        told = [await kept(served, png(200, seed=n), TTL="100") for n in range(3)]
        for one in told:
            assert (await get(served, one["path"])).status == 200
        assert code(await get(served, "/files/" + "a" * 26 + ".png")) == (404, "file_not_found")
        images = served.house.state.images(served.house.config)
        for one in told:
            await images.index.delete(one["name"])
        # The first has been forgotten for the third; the others were asked for a moment ago.
        assert [(await get(served, one["path"])).status for one in told] == [404, 200, 200]
        clock.turn(2)
        assert [(await get(served, one["path"])).status for one in told] == [404, 404, 404]
        over = await kept(served, TTL="1.5")
        assert (await get(served, over["path"])).status == 200
        clock.turn(1.6)
        assert (await get(served, over["path"])).status == 404
