"""Stores that refuse, answers that break, clients that leave: no URL that does not work, and no picture lost."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from plugins.rehost import Rehost
from proxy.api import StoreError
from proxy.testkit import Stage, answer, broken
from tests.images.pictures import SVG, png
from tests.wire.telling import until

from .answers import ASK, JSON, SSE, b64, back, event, partial

IMAGES = '[images]\nurl = "file:state/images"\n'
MB = 10**6


def drawn(*pictures: bytes) -> bytes:
    return orjson.dumps({"created": 1, "data": [{"b64_json": base64.b64encode(one).decode()} for one in pictures]})


def cut(document: bytes, step: int = 100_000) -> list[bytes]:
    return [document[at : at + step] for at in range(0, len(document), step)]


def mounted(place: Path, option: str) -> Iterator[Path]:
    """A small disk of its own."""
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", option, "none", str(place)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "small", "size=2m")


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "locked", "ro")


async def test_a_disk_that_fills_keeps_what_it_can(small: Path) -> None:
    pictures = [png(700_000, seed=seed) for seed in range(4)]
    document = drawn(*pictures)
    upstream = answer(headers=JSON, pieces=cut(document))
    async with Stage(Rehost(mode="always"), upstream=upstream, settings=f'[images]\nurl = "file:{small}"\n') as stage:
        played = await stage.play(ASK, json={"prompt": "a"})
        assert played.status == 200 and played.whole
        original, names = await back(played.body, stage.services)
        assert original == document and 0 < len(names) < 4
        assert [line["why"] for line in stage.log if line["event"] == "image_not_kept"] == [
            "image_store_unavailable"
        ] * (4 - len(names))
        # Now nothing at all fits, and then there is room again.
        played = await stage.play(ASK, json={"prompt": "a"})
        kept = (await back(played.body, stage.services))[1]
        for name in (*names, *kept):
            await stage.services.images.delete(name)
        await until(lambda: shutil.disk_usage(small).free > 800_000)  # blocks are freed in a thread
        assert (await back((await stage.play(ASK, json={"prompt": "a"})).body, stage.services))[1]


async def test_where_nothing_can_be_written_the_client_has_its_base64_and_a_warning(locked: Path) -> None:
    document = drawn(png(600_000), png(700_000))
    upstream = answer(headers=JSON, pieces=cut(document))
    async with Stage(Rehost(mode="always"), upstream=upstream, settings=f'[images]\nurl = "file:{locked}"\n') as stage:
        played = await stage.play(ASK, json={"prompt": "a"})
        assert played.body == document
        assert played.headers.get("x-framegate-warning") == "image_store_unavailable"


@pytest.mark.parametrize("stream", [False, True])
async def test_refused_by_choice(locked: Path, stream: bool) -> None:
    events = partial(0, b64(70)) + event(type="image_generation.completed", b64_json=b64())
    upstream = answer(headers=SSE, pieces=[events]) if stream else answer(headers=JSON, pieces=cut(drawn(png(600_000))))
    rehost = Rehost(mode="always", on_error="refuse")
    async with Stage(rehost, upstream=upstream, settings=f'[images]\nurl = "file:{locked}"\n') as stage:
        played = await stage.play(ASK, json={"prompt": "a"})
        if stream:  # the head had gone, and what was drawn before
            assert played.status == 200 and not played.whole and played.body.startswith(partial(0, b64(70)))
        else:
            assert (played.status, played.json()["error"]["code"]) == (503, "image_store_unavailable")


@pytest.mark.parametrize("error", [StoreError("gone"), TimeoutError()])
async def test_an_index_that_fails_after_the_bytes_were_written(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = drawn(png(600_000), SVG)

    async def fails(*_: object) -> None:
        raise error

    async with Stage(
        Rehost(mode="always"), upstream=answer(headers=JSON, pieces=cut(document)), settings=IMAGES
    ) as stage:
        with monkeypatch.context() as patched:
            patched.setattr("proxy.images.index.Index.put", fails)
            played = await stage.play(ASK, json={"prompt": "a"})
            assert played.body == document
            assert played.headers.get("x-framegate-warning") == "image_store_unavailable"
        assert (await back((await stage.play(ASK, json={"prompt": "a"})).body, stage.services))[0] == document


async def test_what_is_no_picture_is_said_to_be_none() -> None:
    document = drawn(b"%PDF-1.7 " * 50)
    async with Stage(Rehost(mode="always"), upstream=answer(headers=JSON, body=document), settings=IMAGES) as stage:
        played = await stage.play(ASK, json={"prompt": "a"})
        assert played.body == document and played.headers.get("x-framegate-warning") == "not_an_image"


async def test_an_answer_that_breaks_before_its_first_picture_is_whole_is_an_error() -> None:
    pieces = [*cut(drawn(png(MB)))[:5], broken()]
    async with Stage(Rehost(mode="always"), upstream=answer(headers=JSON, pieces=pieces), settings=IMAGES) as stage:
        played = await stage.play(ASK, json={"prompt": "a"})
        assert (played.status, played.json()["error"]["code"]) == (502, "upstream_failed")


async def test_an_answer_that_breaks_later_looks_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.rehost.cutting.BEHIND", 0)  # the first is waited for before the second comes
    document = drawn(png(200_000, seed=1), png(MB, seed=2))
    pieces = [*cut(document)[:6], broken()]
    async with Stage(Rehost(mode="always"), upstream=answer(headers=JSON, pieces=pieces), settings=IMAGES) as stage:
        played = await stage.play(ASK, json={"prompt": "a"})
        assert played.status == 200 and not played.whole
        original, names = await back(played.body, stage.services)
        assert len(names) == 1 and document.startswith(original)


@pytest.mark.parametrize("behind", [0, 300])
async def test_a_stream_waits_for_no_event_that_is_to_come(behind: int) -> None:
    """Head and partial pictures go on at once; the last picture when it is kept, though the upstream lingers."""
    first, last = partial(0, b64(70)), event(type="image_generation.completed", b64_json=b64(9000))
    linger = [asyncio.Event(), asyncio.Event()]
    pieces = [first, linger[0], last[: len(last) - behind], last[len(last) - behind :], linger[1], b"data: [DONE]\n\n"]
    upstream = answer(headers=SSE, pieces=[piece for piece in pieces if piece])
    async with Stage(Rehost(mode="always"), upstream=upstream, settings=IMAGES) as stage:
        playing = stage.begin(ASK, json={"prompt": "a"})
        assert await playing.heard(len(first)) == first
        linger[0].set()
        size = len(first) + len(last) - len(b64(9000)) + len("http://127.0.0.1:0/files/.png") + 26 - len("b64_j")
        # All of the event, though its port has more digits.
        while not (heard := await playing.heard(size)).endswith(b"\n\n"):
            size += 1
        assert b"/files/" in heard
        linger[1].set()
        played = await playing
        assert (await back(played.body, stage.services))[0] == first + last + b"data: [DONE]\n\n"


async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    gate = asyncio.Event()
    pieces = [*cut(drawn(png(MB)))[:5], gate]
    async with Stage(Rehost(mode="always"), upstream=answer(headers=JSON, pieces=pieces), settings=IMAGES) as stage:
        playing = stage.begin(ASK, json={"prompt": "a"})
        await stage.reached()
        playing.leave()
        assert (await playing).outcome.left
