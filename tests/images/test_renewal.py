"""`/files/NAME.ext/link`: who may have a link anew, and who learns nothing."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from proxy.testkit import Answer, Served, TurnedClock, serve

from .asking import CHAIN, DATA, code, get, kept

MINE, THEIRS = [f"sk-{secrets.token_hex(24)}" for _ in range(2)]
# Those who call are known by their keys on another route than the one by which a test has pictures kept.
KEYS = '[keys.k1]\nsecret = "env:MINE"\n[keys.k2]\nsecret = "env:THEIRS"\n'
KNOWN = KEYS + '[[routes]]\nmatch = "* /known/*"\nprefix = "/known"\nchain = ["keys"]\n'


@asynccontextmanager
async def house(images: str = "", *, clock: TurnedClock | None = None) -> AsyncIterator[Served]:
    config = f"[images]\n{images}\n{CHAIN}{KNOWN}"
    async with serve(config, environ={"MINE": MINE, "THEIRS": THEIRS}, clock=clock) as served:
        yield served


def told_anew(answer: Answer) -> tuple[str, int | None]:
    assert answer.status == 200, answer.body
    assert answer.get(b"cache-control") == b"private, no-store"
    told = orjson.loads(answer.body)
    assert set(told) == {"url", "expires_at"}
    return told["url"], told["expires_at"]


async def test_its_owner_gets_a_link_that_lives() -> None:
    clock = TurnedClock()
    async with house('sign = true\nlink_ttl = "60s"', clock=clock) as served:
        kept_one = await kept(served, Owner="k1")
        bare = kept_one["path"].partition("?")[0]
        clock.turn(100)
        assert code(await get(served, kept_one["path"])) == (403, "link_expired")
        for header in (f"Authorization: Bearer {MINE}", f"x-api-key: {MINE}", f"api-key: {MINE}"):
            for target in (f"{bare}/link", f"{kept_one['path'].replace('?', '/link?')}"):
                url, ends = told_anew(await get(served, target, header))
                assert ends is not None and abs(ends - clock.wall() - 60) < 2
        base = served.url
        assert url.startswith(f"{base}{bare}?expires={ends}&signature=")
        assert (await get(served, url.removeprefix(base))).body == DATA
        head = await get(served, f"{bare}/link", f"api-key: {MINE}", method="HEAD")
        assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    ("images", "ends"),
    [
        ('ttl = "90s"', 90),
        ('ttl = "forever"', None),
        ('ttl = "90s"\nsign = true', 90),
        ('ttl = "forever"\nsign = true', 86_400),
    ],
)
async def test_it_says_when_the_link_ends(images: str, ends: int | None) -> None:
    clock = TurnedClock()
    async with house(images, clock=clock) as served:
        kept_one = await kept(served, Owner="k1")
        url, said = told_anew(await get(served, kept_one["path"].partition("?")[0] + "/link", f"api-key: {MINE}"))
        assert (said is None and ends is None) or (said is not None and abs(said - clock.wall() - (ends or 0)) < 2)
        assert ("signature" in url) is ("sign" in images)
        assert "sign" in images or url == kept_one["url"]


async def test_for_everybody_else_there_is_no_such_picture() -> None:
    clock = TurnedClock()
    async with house("sign = true", clock=clock) as served:
        bare = (await kept(served, Owner="k1"))["path"].partition("?")[0]
        nobodys = (await kept(served))["path"].partition("?")[0]
        over = (await kept(served, Owner="k1", TTL="5"))["path"].partition("?")[0]
        clock.turn(6)
        mine = f"Authorization: Bearer {MINE}"
        asked: list[tuple[str, list[str]]] = [
            (bare, []),
            (bare, [f"Authorization: Bearer {THEIRS}"]),
            (bare, ["Authorization: Bearer sk-nobody"]),
            (bare, ["Authorization: Bearer "]),
            (bare, ["Authorization: Basic azE6"]),
            (bare, [mine, f"x-api-key: {THEIRS}"]),
            (bare, [mine, f"Authorization: Bearer {THEIRS}"]),
            (bare, ["Authorization: Bearer " + "k" * 5000]),
            (nobodys, [mine]),
            (nobodys, []),
            (over, [mine]),
            (bare.replace("png", "gif"), [mine]),
            ("/files/" + "a" * 26 + ".png", [mine]),
            ("/files/" + "a" * 26 + ".png", []),
            ("/files/x", [mine]),
            (bare + "/link", [mine]),
            (bare + "/", [mine]),
            ("/files", [mine]),
        ]
        words = set()
        for path, lines in asked:
            answer = await get(served, f"{path}/link" if path != "/files" else "/files//link", *lines)
            assert code(answer) == (404, "file_not_found"), (path, lines)
            words.add((answer.line, answer.body, tuple(name for name, _ in answer.headers)))
        assert len(words) == 1
        for method in ("POST", "DELETE", "PUT"):
            answer = await get(served, f"{bare}/link", mine, "Content-Length: 0", method=method)
            assert code(answer) == (405, "method_not_allowed") and answer.get(b"allow") == b"GET, HEAD"
        for mine in (f"Authorization: bearer {MINE}", f"Authorization: {MINE}"):  # as the plugin `keys` takes it
            assert (await get(served, f"{bare}/link", mine)).status == 200
        raw = served.raw_log.decode()
        assert MINE not in raw and bare[7:27] not in raw and "/link" not in raw


async def test_nobody_is_known_where_there_are_no_keys() -> None:
    async with serve(f"[images]\n{CHAIN}") as served:
        path = (await kept(served, Owner="open"))["path"]
        for lines in ([], ["api-key: open"], ["Authorization: Bearer anything"]):
            assert code(await get(served, f"{path}/link", *lines)) == (404, "file_not_found")
