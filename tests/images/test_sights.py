"""What a judge gets to see of pictures, kind ones and others."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image, ImageDraw

from proxy.images import scaler, sights
from proxy.images.scaler import ANIMATED, BROKEN, CRASHED, LATE, UNSEEN
from proxy.images.scaling import SIDE
from proxy.images.sights import ABSENT, LARGEST, NO_SORT, TOO_LONG, Sights
from proxy.model.errors import ProxyError
from proxy.model.sights import Unreadable, View
from proxy.sandbox.markers import flagged_image, mark
from proxy.testkit import Stage

from .drawn import BLUE, RED, bomb, encoded, halves, near
from .hostile import HTML, LIES, POLYGLOTS, SVGS

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


@pytest.fixture
async def looking() -> AsyncIterator[Sights]:
    found = Sights()
    try:
        yield found
    finally:
        await found.aclose()


def shown(view: View) -> Image.Image:
    assert view.type == "jpeg"
    image = Image.open(io.BytesIO(view.data), formats=("JPEG",))
    image.load()
    return image


async def one(looking: Sights, data: bytes) -> Image.Image:
    (view,) = await looking.views(data)
    return shown(view)


async def why(looking: Sights, picture: Any) -> str:
    with pytest.raises(Unreadable) as refused:
        await looking.views(picture)
    return refused.value.why


async def pieces(data: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def at(image: Image.Image, *places: tuple[int, int]) -> list[Any]:
    return [image.getpixel(place) for place in places]


async def test_a_picture_that_fits_keeps_its_size_and_the_marks_in_it(looking: Sights) -> None:
    for sort in ("png", "jpeg", "webp", "gif"):
        marked = mark(Image.open(io.BytesIO(halves())), "violence", "self-harm")
        image = await one(looking, encoded(marked.convert("RGB"), sort))
        assert image.size == (600, 300) and image.mode == "RGB"
        assert flagged_image(image) == ("self-harm", "violence"), sort
    assert (await one(looking, halves(size=(SIDE, SIDE)))).size == (SIDE, SIDE)
    assert (await one(looking, halves(size=(2, 1)))).size == (2, 1)


async def test_a_larger_one_is_made_small(looking: Sights) -> None:
    for sort in ("png", "jpeg", "webp"):
        image = await one(looking, halves(sort, (2600, 1300)))
        assert image.size == (2048, 1024) and near(image.getpixel((10, 10)), RED)
        assert near(image.getpixel((2000, 10)), BLUE)
    assert (await one(looking, halves(size=(10, 9000)))).size == (2, 2048)
    assert (await one(looking, halves(size=(30_000, 4)))).size == (2048, 1)


async def test_it_stands_upright_and_holds_nothing_but_pixels(looking: Sights) -> None:
    for sort in ("jpeg", "png", "webp"):
        data = halves(sort, turn=6)
        assert b"a camera's maker" in data
        (view,) = await looking.views(data)
        image = shown(view)
        assert image.size == (300, 600) and near(image.getpixel((150, 10)), RED), sort
        assert b"maker" not in view.data and b"Exif" not in view.data
    profile = encoded(Image.new("RGB", (9, 9)), icc_profile=b"a profile of colours", dpi=(99, 99))
    (view,) = await looking.views(profile)
    assert b"profile" not in view.data


async def test_colours_of_every_mode_come_through(looking: Sights) -> None:
    for mode, sort in (("CMYK", "jpeg"), ("P", "png"), ("P", "gif"), ("RGB", "webp"), ("RGBA", "png")):
        image = await one(looking, halves(sort, mode=mode))
        assert near(image.getpixel((10, 10)), RED) and near(image.getpixel((590, 10)), BLUE), (mode, sort)
    grey = await one(looking, encoded(Image.new("I;16", (30, 30), 0x8000)))
    assert near(grey.getpixel((9, 9)), (128, 128, 128))
    for mode, colour, seen in (("L", 40, 40), ("LA", (200, 255), 200), ("1", 1, 255)):
        image = await one(looking, encoded(Image.new(mode, (30, 30), colour)))  # type: ignore[arg-type]
        assert near(image.getpixel((9, 9)), (seen,) * 3), mode


async def test_what_is_clear_hides_nothing(looking: Sights) -> None:
    """Each third shows its sign to one who looks in one way alone."""
    image = Image.new("RGBA", (300, 100), (*WHITE, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 99, 99), fill=(*RED, 0))  # colours that are clear, to who drops the alpha
    draw.rectangle((100, 0, 199, 99), fill=(*BLACK, 0))
    draw.rectangle((120, 20, 179, 79), fill=(*BLACK, 255))  # black on clear black, to who has a white ground
    draw.rectangle((220, 20, 279, 79), fill=(*WHITE, 255))  # white on clear white, to who has a black one
    places = (50, 50), (150, 50), (110, 50), (250, 50), (210, 50)
    for data in (encoded(image), encoded(image, "webp", lossless=True, exact=True)):
        bare, white, black = [at(shown(view), *places) for view in await looking.views(data)]
        assert all(map(near, bare, (RED, BLACK, BLACK, WHITE, WHITE)))
        assert all(map(near, white, (WHITE, BLACK, WHITE, WHITE, WHITE)))
        assert all(map(near, black, (BLACK, BLACK, BLACK, WHITE, BLACK)))
    palette = Image.new("P", (30, 30), 0)
    palette.putpalette([*RED, *BLUE])
    for sort in ("gif", "png"):
        seen = await looking.views(encoded(palette, sort, transparency=0))
        colours = [shown(view).getpixel((9, 9)) for view in seen]
        assert all(map(near, colours, (RED, WHITE, BLACK))) and len(colours) == 3, sort


async def test_where_all_look_the_same_there_is_one_view(looking: Sights) -> None:
    assert len(await looking.views(encoded(Image.new("RGBA", (40, 40), (*RED, 255))))) == 1
    assert len(await looking.views(encoded(Image.new("RGBA", (40, 40), (*BLACK, 0))))) == 2
    large = await looking.views(encoded(Image.new("RGBA", (2400, 1800), (*BLUE, 100))))
    assert [shown(view).size for view in large] == [(2048, 1536)] * 3


async def test_several_frames_are_refused_and_one_is_none(looking: Sights) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, BLUE)]
    for sort in ("gif", "webp", "png"):
        moving = encoded(frames[0], sort, save_all=True, append_images=frames[1:], duration=50)
        assert await why(looking, moving) == ANIMATED, sort
        still = encoded(frames[0], sort, save_all=True)
        assert near((await one(looking, still)).getpixel((9, 9)), RED), sort


async def test_what_is_no_picture_is_refused_and_the_process_lives_on(looking: Sights) -> None:
    await one(looking, halves())
    pids = [process.pid for process in looking._idle]
    for name, data in {**LIES, **SVGS}.items():
        assert await why(looking, data) in (NO_SORT, BROKEN), name
    for broken in (b"", halves()[:200], b"\xff\xd8\xff", b"GIF89a" + bytes(50), b"RIFF\0\0\0\0WEBP"):
        assert await why(looking, broken) in (NO_SORT, BROKEN)
    assert await why(looking, bomb(10_000, 4001)) == UNSEEN
    assert [process.pid for process in looking._idle] == pids


async def test_a_picture_with_a_page_in_it_comes_out_without(looking: Sights) -> None:
    for name, (_, data) in POLYGLOTS.items():
        if name != "a GIF that goes on as a page":
            assert HTML[:20].encode() in data
            for view in await looking.views(data):
                assert b"script" not in view.data, name


async def test_it_is_read_from_wherever_it_is(looking: Sights) -> None:
    data = halves(size=(700, 500))
    expected = await looking.views(data)
    assert await looking.views(pieces(data)) == expected
    assert await looking.views(io.BytesIO(data)) == expected
    with tempfile.TemporaryFile() as file:
        file.write(data)
        assert await looking.views(file) == expected
        assert await looking.views(file) == expected


async def test_one_that_is_too_long_is_not_read_to_its_end(looking: Sights) -> None:
    head, told = halves(), []

    async def endless() -> AsyncIterator[bytes]:
        yield head
        while True:
            told.append(1)
            yield bytes(2**22)

    assert await why(looking, endless()) == TOO_LONG and len(told) == LARGEST // 2**22 + 1
    assert await why(looking, head + bytes(LARGEST)) == TOO_LONG
    with tempfile.TemporaryFile() as file:
        file.write(head)
        file.truncate(LARGEST + 1)
        assert await why(looking, file) == TOO_LONG
    await one(looking, head)


async def test_without_pillow_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch, looking: Sights) -> None:
    monkeypatch.setattr(scaler, "there", lambda: False)
    assert not looking.there and await why(looking, halves()) == ABSENT


async def test_one_that_is_late_or_crashes_is_unreadable_and_the_next_is_read(
    monkeypatch: pytest.MonkeyPatch, looking: Sights
) -> None:
    await one(looking, halves())
    (process,) = looking._idle
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(scaler, "PATIENCE", 0.05)
        assert await why(looking, halves()) == LATE
    assert (await one(looking, halves())).size == (600, 300)
    (process,) = looking._idle
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # it can't answer any more
    send = scaler.socket.send_fds

    def sent(*given: Any) -> int:
        done = send(*given)
        os.kill(pid, signal.SIGKILL)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(scaler.socket, "send_fds", sent)
        assert await why(looking, halves()) == CRASHED
    assert (await one(looking, halves())).size == (600, 300)


async def test_who_leaves_takes_nothing_with_them(looking: Sights) -> None:
    await asyncio.gather(*[one(looking, halves()) for _ in range(sights.DECODERS)])
    for process in looking._idle:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)  # both stand still with what they get next
    tasks = [asyncio.create_task(looking.views(halves())) for _ in range(sights.DECODERS + 3)]
    while len(looking._busy) < sights.DECODERS:
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)
    assert (await one(looking, halves())).size == (600, 300)
    assert looking._waiting == 0


async def test_the_line_has_an_end(monkeypatch: pytest.MonkeyPatch, looking: Sights) -> None:
    monkeypatch.setattr(sights, "WAITING", 2)
    hold = asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        await hold.wait()
        yield halves()

    tasks = [asyncio.create_task(looking.views(held())) for _ in range(sights.DECODERS + 2)]
    while looking._waiting < 2:
        await asyncio.sleep(0)
    with pytest.raises(ProxyError) as busy:
        await looking.views(halves())
    assert (busy.value.status, busy.value.code, busy.value.retryable) == (503, "service_unavailable", True)
    hold.set()
    assert all([len(await task) == 1 for task in tasks])


async def test_a_picture_that_can_not_be_read_to_its_end_gives_its_place_back(looking: Sights) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield halves()[:100]
        raise ProxyError("gone")

    for _ in range(sights.DECODERS + 1):
        with pytest.raises(ProxyError, match="gone"):
            await looking.views(breaks())
    assert (await one(looking, halves())).size == (600, 300)


async def test_it_ends_with_what_it_is_at() -> None:
    looking = Sights()
    await one(looking, halves())
    (process,) = looking._idle
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    late = asyncio.create_task(looking.views(halves()))
    while not looking._busy:
        await asyncio.sleep(0)
    await looking.aclose()
    with pytest.raises(Unreadable, match=CRASHED):
        await late
    with pytest.raises(ProxyError, match="ask again"):
        await looking.views(halves())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_plugins_are_lent_it() -> None:
    async with Stage() as stage:
        assert stage.services.sights.there
        (view,) = await stage.services.sights.views(halves())
        assert near(shown(view).getpixel((9, 9)), RED)
