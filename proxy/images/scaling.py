"""Decodes pictures in a process of its own: a decoder that crashes, or is made to eat memory and time, takes only that.

It is run as a script, imports nothing of the house, and opens no file: pictures come as descriptors over its socket,
"SORT WIDTH" with each for a thumbnail, "SORT views" for what a judge is to see of it. Out go a letter, a length and as
many bytes; after the letter "+" comes another.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import socket
import struct
import sys
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL import Image

PIXELS = 40_000_000  # of a picture that is decoded at all: 7680 x 4320 are 33 million
SECONDS = 10  # of CPU time for one; the largest take one or two
MEMORY = 2**30  # bytes of addresses; the largest WebP takes some 700 MB of them, most are content with 100
STEEPEST = 8  # a picture more than so many times as high as wide is bounded by its height: WebP has 16383 lines
QUALITY = 80
SIDE = 2048  # pixels of a view: judges make pictures smaller than that themselves
SEEN = 90  # quality of a view: 12 million bytes of pixels are some 4 million then, of 20 that judges take
VIEWS = "views"
REPLY = struct.Struct(">cI")
MADE, MORE, LARGE, BROKEN, MOVING = b"M", b"+", b"L", b"B", b"A"
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "gif": "GIF"}
TURNED = 0x0112  # the tag of EXIF that says how the camera was held
TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")


class Moving(Exception):
    """It has several frames, of which one alone would be seen."""


def scaled(file: BinaryIO, sort: str, width: int) -> bytes:
    """The picture in that file, at most so wide, as a WebP with nothing but pixels in it. Raises what Pillow raises."""
    from PIL import Image

    image: Image.Image
    image = opened = Image.open(file, formats=(FORMATS[sort],))
    size = image.size
    if sort == "jpeg":
        # Decoded at a half, a quarter or an eighth where that is twice what is wanted.
        wide, high = _fitting(size, width, _turn(image))
        opened.draft(None, (2 * wide, 2 * high))
    image.load()  # of an animation the first frame
    turn = _turn(image)
    wide, high = _fitting(size, width, turn)
    image = _plain(image)
    image = image.resize((wide, high), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    image = _turned(image, turn)
    image.info.clear()
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY)
    return out.getvalue()


def views(file: BinaryIO, sort: str) -> list[bytes]:
    """The picture in that file as JPEGs with nothing but pixels in them. Raises Moving, and what Pillow raises.

    One that fits keeps its size. Where some of it is clear, what is seen depends on who looks: its colours alone, on
    white and on black. What is to be seen in any way is to be seen in one of these.
    """
    from PIL import Image

    image: Image.Image
    image = opened = Image.open(file, formats=(FORMATS[sort],))
    # Some cameras put further pictures behind a JPEG; whoever decodes it sees the first.
    if sort != "jpeg" and getattr(image, "is_animated", False):
        raise Moving
    scale = min(1.0, SIDE / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    if sort == "jpeg" and scale < 1.0:
        opened.draft(None, (2 * size[0], 2 * size[1]))
    image.load()
    turn = _turn(image)
    image = _eight(image)
    found: list[Image.Image] = []
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        found.append(_small(image.convert("RGB"), size))
        image = _small(image.convert("RGBa"), size).convert("RGBA")
        for colour in ("white", "black"):
            ground = Image.new("RGBA", size, colour)
            ground.alpha_composite(image)
            found.append(ground.convert("RGB"))
    else:
        found.append(_small(image.convert("RGB"), size))
    made: list[bytes] = []
    for one in found:
        one = _turned(one, turn)
        one.info.clear()
        out = io.BytesIO()
        one.save(out, "JPEG", quality=SEEN)
        if out.getvalue() not in made:
            made.append(out.getvalue())
    return made


def _small(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    # Of every pixel something is seen: no picture that comes out only when some are left out.
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=1.0)


def _turn(image: Image.Image) -> int:
    """How it is to be turned, by EXIF; 1: not at all."""
    with suppress(Exception):  # what stands there may be anything, and the picture is there all the same
        turn = int(image.getexif().get(TURNED, 1))
        return turn if 1 <= turn <= 8 else 1
    return 1


def _fitting(size: tuple[int, int], width: int, turn: int) -> tuple[int, int]:
    """The thumbnail's width and height before it is turned."""
    wide, high = size if turn < 5 else size[::-1]
    scale = min(1.0, width / wide, STEEPEST * width / high)
    wide, high = max(1, round(wide * scale)), max(1, round(high * scale))
    return (wide, high) if turn < 5 else (high, wide)


def _turned(image: Image.Image, turn: int) -> Image.Image:
    """Upright."""
    from PIL import Image

    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(turn)
    return image if method is None else image.transpose(method)


def _eight(image: Image.Image) -> Image.Image:
    """In eight bits a channel: RGB, or RGBA where something may be clear."""
    if image.mode.startswith("I"):  # sixteen bits of grey
        image = image.convert("I").point(lambda grey: grey * (1 / 256)).convert("L")
    elif image.mode == "F":
        image = image.convert("L")
    return image.convert("RGBA" if image.mode in TRANSPARENT or image.has_transparency_data else "RGB")


def _plain(image: Image.Image) -> Image.Image:
    """The same with RGBa, in which what can't be seen does not bleed into what can."""
    image = _eight(image)
    return image.convert("RGBa") if image.mode == "RGBA" else image


def main() -> None:
    """Answer until the other end is closed."""
    line = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the house, which ends us in its time
    _yield()
    from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401  (only these)

    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = PIXELS // 2  # Pillow refuses at twice that
    _confine()
    while True:
        asked, descriptors, _, _ = socket.recv_fds(line, 64, 1)
        if not asked:
            return
        sort, what = asked.decode().split()
        with open(descriptors[0], "rb") as file:
            file.seek(0)
            letter, made = _answer(file, sort, what)
        for one in made[:-1]:
            line.sendall(REPLY.pack(MORE, len(one)) + one)
        line.sendall(REPLY.pack(letter, len(made[-1])) + made[-1])


def _answer(file: BinaryIO, sort: str, what: str) -> tuple[bytes, list[bytes]]:
    from PIL import Image

    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + SECONDS)
    try:
        return MADE, views(file, sort) if what == VIEWS else [scaled(file, sort, int(what))]
    except (Image.DecompressionBombError, MemoryError):
        return LARGE, [b""]
    except Moving:
        return MOVING, [b""]
    except Exception:  # plug-ins of Pillow raise anything of what they can't read
        return BROKEN, [b""]


def _yield() -> None:
    """The house goes before us: for the processor, and to stay when memory is short."""
    with suppress(OSError):
        os.nice(10)
    with suppress(OSError):
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("800")


def _confine() -> None:
    """Memory is bounded, and no file is written, no other process started, no core dumped."""
    _limit(resource.RLIMIT_AS, MEMORY)
    _limit(resource.RLIMIT_NOFILE, 16)
    for what in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE):
        _limit(what, 0)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    with suppress(ValueError, OSError):  # not every system has every one of these
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main()
