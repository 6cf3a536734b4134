"""What the process makes of pictures, kind ones and others."""

from __future__ import annotations

import os
import re
import signal
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from proxy.images import scaler as module
from proxy.images.scaler import BROKEN, CRASHED, TOO_LARGE, TOO_SLOW, Scaler, Unmade
from proxy.model.images import ImageType

from .drawn import BLUE, RED, bomb, chunk, encoded, halves, near, seen, with_chunks

SORTS: tuple[ImageType, ...] = ("png", "jpeg", "webp", "gif")


@pytest.fixture(scope="module")
def scaler() -> Iterator[Scaler]:
    found = Scaler()
    try:
        yield found
    finally:
        found.stop()


def scaled(scaler: Scaler, data: bytes, sort: ImageType, width: int = 256) -> Image.Image:
    return seen(made(scaler, data, sort, width))


def made(scaler: Scaler, data: bytes, sort: ImageType, width: int = 256) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return scaler.scaled(file.fileno(), sort, width)


def peak(scaler: Scaler) -> int:
    """Bytes that its process has had at the most."""
    status = Path(f"/proc/{scaler.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_is_scaled_and_never_up(scaler: Scaler, sort: ImageType) -> None:
    data = halves(sort, (600, 300))
    for width, size in ((256, (256, 128)), (512, (512, 256)), (1024, (600, 300))):
        image = scaled(scaler, data, sort, width)
        assert image.size == size and near(image.getpixel((10, 10)), RED)
        assert near(image.getpixel((size[0] - 10, 10)), BLUE)
    assert scaled(scaler, encoded(Image.new("RGB", (3000, 2))), "png").size == (256, 1)
    assert scaled(scaler, encoded(Image.new("RGB", (300, 20_000))), "png").size == (31, 2048)


# How it lies in the file, by where red is to be seen: left, right, above, below.
@pytest.mark.parametrize(
    ("turn", "size", "red"),
    [
        (1, (256, 128), (5, 64)),
        (2, (256, 128), (250, 64)),
        (3, (256, 128), (250, 64)),
        (4, (256, 128), (5, 64)),
        (5, (256, 512), (128, 5)),
        (6, (256, 512), (128, 5)),
        (7, (256, 512), (128, 505)),
        (8, (256, 512), (128, 505)),
        (77, (256, 128), (5, 64)),
    ],
)
def test_it_stands_as_the_camera_saw_it_and_says_nothing_of_it(
    scaler: Scaler, turn: int, size: tuple[int, int], red: tuple[int, int]
) -> None:
    for sort in ("jpeg", "png", "webp") if turn == 6 else ("jpeg",):
        data = halves(sort, (1600, 800), turn=turn)
        assert b"a camera's maker" in data
        thumbnail = made(scaler, data, sort)  # type: ignore[arg-type]
        image = seen(thumbnail)
        assert image.size == size and near(image.getpixel(red), RED), sort
        assert b"EXIF" not in thumbnail and b"maker" not in thumbnail


def test_colours_of_every_mode_come_through(scaler: Scaler) -> None:
    for mode, sort in (("CMYK", "jpeg"), ("P", "png"), ("P", "gif"), ("RGBA", "png"), ("RGB", "webp")):
        image = scaled(scaler, halves(sort, mode=mode), sort)  # type: ignore[arg-type]
        assert near(image.convert("RGB").getpixel((10, 10)), RED), (mode, sort)
    grey = Image.new("I;16", (300, 300), 0x8000)
    assert near(scaled(scaler, encoded(grey), "png").getpixel((9, 9)), (128, 128, 128))
    assert near(
        scaled(scaler, encoded(Image.new("LA", (300, 300), (200, 255))), "png").getpixel((9, 9))[:3], (200,) * 3
    )
    assert near(scaled(scaler, encoded(Image.new("1", (300, 300), 1)), "png").getpixel((9, 9)), (255,) * 3)


def test_what_is_clear_stays_clear_and_does_not_bleed(scaler: Scaler) -> None:
    image = Image.new("RGBA", (1024, 1024), (0, 255, 0, 0))  # green that nobody sees
    ImageDraw.Draw(image).ellipse((200, 200, 800, 800), (*RED, 255))
    small = scaled(scaler, encoded(image), "png")
    assert small.mode == "RGBA" and small.getpixel((2, 2))[3] == 0 and near(small.getpixel((128, 128))[:3], RED)
    edge = [pixel for pixel in small.get_flattened_data() if 100 < pixel[3] < 200]
    assert edge and all(pixel[1] < 60 for pixel in edge)
    clear = Image.new("P", (300, 300), 0)
    clear.putpalette([*RED, *BLUE])
    assert scaled(scaler, encoded(clear, "gif", transparency=0), "gif").getpixel((9, 9))[3] == 0


def test_of_an_animation_the_first_frame(scaler: Scaler) -> None:
    frames = [Image.new("RGB", (400, 400), colour) for colour in (RED, BLUE, BLUE)]
    for sort in ("gif", "webp", "png"):
        data = encoded(frames[0], sort, save_all=True, append_images=frames[1:], duration=50)
        image = scaled(scaler, data, sort)  # type: ignore[arg-type]
        assert image.n_frames == 1 and near(image.convert("RGB").getpixel((9, 9)), RED)  # type: ignore[attr-defined]


def test_bombs_are_refused_for_little(scaler: Scaler) -> None:
    assert scaled(scaler, halves(), "png").size == (256, 128)
    before = peak(scaler)
    frame = halves("gif", (20, 20))
    # Where each sort says how large it is; a GIF says it again with every frame.
    webp = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff\x3f\0" * 2
    bombs: list[tuple[ImageType, bytes]] = [
        ("png", bomb(10_000, 10_000)),
        ("gif", frame[:6] + struct.pack("<HH", 65_535, 65_535) + frame[10:]),
        ("gif", re.sub(rb"(?<=,\0\0\0\0)\x14\0\x14\0", b"\xff\xff\xff\xff", frame, count=1)),
        ("webp", b"RIFF" + struct.pack("<I", len(webp)) + webp),
        ("jpeg", re.sub(rb"(?<=\xff\xc0\0\x11\x08)....", b"\xff" * 4, halves("jpeg"), count=1, flags=re.DOTALL)),
    ]
    for sort, data in bombs:
        assert len(data) < 2_000_000
        with pytest.raises(Unmade) as refused:
            made(scaler, data, sort)
        assert refused.value.why in ((TOO_LARGE,) if sort != "webp" else (TOO_LARGE, BROKEN)), (sort, refused.value.why)
    assert peak(scaler) - before < 10_000_000


def test_text_that_inflates_is_no_way_to_memory(scaler: Scaler) -> None:
    picture = halves()
    huge = zlib.compress(bytes(200_000_000), 1)
    mine = [chunk(b"zTXt", b"a\0\0" + huge), chunk(b"iTXt", b"a\0\1\0\0\0" + huge), chunk(b"iCCP", b"a\0\0" + huge)]
    many = [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 1))] * 300
    assert scaled(scaler, picture, "png").size == (256, 128)
    before = peak(scaler)
    for chunks in ([mine[0]], [mine[1]], [mine[2]], many):
        with suppress(Unmade):
            assert scaled(scaler, with_chunks(picture, *chunks), "png").size == (256, 128)
    assert made(scaler, picture, "png")
    assert peak(scaler) - before < 100_000_000


def test_what_is_cut_or_lies_is_refused_and_the_process_lives_on(scaler: Scaler) -> None:
    pid = made(scaler, halves(), "png") and scaler.pid
    for sort in SORTS:
        data = halves(sort, (900, 700))
        other = "gif" if sort == "png" else "png"
        for broken in (data[: len(data) * 2 // 3], data[:40], halves(other), b"<html><script>", b""):
            with pytest.raises(Unmade) as refused:
                made(scaler, broken, sort)
            assert refused.value.why == BROKEN and not refused.value.crashed
    # Pillow reads Postscript, fonts, PDF and more: only what was asked for is tried.
    with pytest.raises(Unmade, match="damaged"):
        made(scaler, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "png")
    assert made(scaler, halves(), "png") and scaler.pid == pid


def test_a_process_that_dies_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    scaler = Scaler()
    try:
        assert made(scaler, halves(), "png")
        first = scaler.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert made(scaler, halves(), "png") and scaler.pid != first
        second = scaler.pid
        assert second is not None
        os.kill(second, signal.SIGSTOP)  # it can't answer any more
        send = module.socket.send_fds

        def sent(*given: Any) -> int:
            done = send(*given)
            os.kill(second, signal.SIGKILL)
            return done

        with monkeypatch.context() as patch:
            patch.setattr(module.socket, "send_fds", sent)
            with pytest.raises(Unmade, match=CRASHED) as crashed:
                made(scaler, halves(), "png")
        assert crashed.value.crashed and made(scaler, halves(), "png")
    finally:
        scaler.stop()


def test_one_that_is_late_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    scaler = Scaler()
    try:
        assert made(scaler, halves(), "png")
        late = scaler.pid
        assert late is not None
        os.kill(late, signal.SIGSTOP)
        monkeypatch.setattr(module, "PATIENCE", 0.05)
        with pytest.raises(Unmade, match=TOO_SLOW):
            made(scaler, halves(), "png")
        assert scaler.pid is None and not Path(f"/proc/{late}").exists()
    finally:
        scaler.stop()


def test_it_has_nothing_of_ours_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", "c2VjcmV0" * 6)
    with tempfile.TemporaryFile() as other, Path("/dev/null").open() as leaked:
        os.set_inheritable(leaked.fileno(), True)
        scaler = Scaler()
        try:
            assert made(scaler, halves(), "png")
            process = Path(f"/proc/{scaler.pid}")
            assert b"FRAMEGATE" not in (process / "environ").read_bytes()
            open_files = {os.readlink(one) for one in (process / "fd").iterdir()}
            assert {one.partition(":")[0] for one in open_files} == {"/dev/null", "socket"} and other.fileno()
            limits = (process / "limits").read_text()
            assert re.search(r"Max file size +0 ", limits) and re.search(r"Max address space +1073741824 ", limits)
            assert re.search(r"Max cpu time +\d\d? ", limits) and re.search(r"Max processes +0 ", limits)
        finally:
            scaler.stop()
