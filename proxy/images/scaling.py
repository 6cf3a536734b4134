"""Makes thumbnails in a process of its own: a decoder that crashes, or is made to eat memory and time, takes only that.

It is run as a script, imports nothing of the house, and opens no file: pictures come as descriptors over its socket,
"SORT WIDTH" with each, and out go a letter, a length and as many bytes.
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

PIXELS = 40_000_000  # of a picture of which thumbnails are made: 7680 x 4320 are 33 million
SECONDS = 10  # of CPU time for one; the largest take one or two
MEMORY = 2**30  # bytes of addresses; the largest WebP takes some 700 MB of them, most are content with 100
STEEPEST = 8  # a picture more than so many times as high as wide is bounded by its height: WebP has 16383 lines
QUALITY = 80
REPLY = struct.Struct(">cI")
MADE, LARGE, BROKEN = b"M", b"L", b"B"
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "gif": "GIF"}
TURNED = 0x0112  # the tag of EXIF that says how the camera was held
TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")


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
    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(turn)
    if method is not None:
        image = image.transpose(method)
    image.info.clear()
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY)
    return out.getvalue()


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


def _plain(image: Image.Image) -> Image.Image:
    """In eight bits a channel: RGB, or RGBa, in which what can't be seen does not bleed into what can."""
    if image.mode.startswith("I"):  # sixteen bits of grey
        image = image.convert("I").point(lambda grey: grey * (1 / 256)).convert("L")
    elif image.mode == "F":
        image = image.convert("L")
    if image.mode in TRANSPARENT or image.has_transparency_data:
        return image.convert("RGBA").convert("RGBa")
    return image.convert("RGB")


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
        sort, width = asked.decode().split()
        with open(descriptors[0], "rb") as file:
            file.seek(0)
            letter, made = _answer(file, sort, int(width))
        line.sendall(REPLY.pack(letter, len(made)) + made)


def _answer(file: BinaryIO, sort: str, width: int) -> tuple[bytes, bytes]:
    from PIL import Image

    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + SECONDS)
    try:
        return MADE, scaled(file, sort, width)
    except (Image.DecompressionBombError, MemoryError):
        return LARGE, b""
    except Exception:  # plug-ins of Pillow raise anything of what they can't read
        return BROKEN, b""


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
