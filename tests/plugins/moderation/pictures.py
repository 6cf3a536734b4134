"""Pictures for judges: with a marker in their pixels or without, and with one that is not easily seen."""

from __future__ import annotations

import base64
import io
import random
from functools import cache
from typing import Any

from PIL import Image

from proxy.sandbox.markers import mark

SIDE = 96
LARGE = 260  # a side from which a picture of noise takes more than 64 KiB, whatever the format


@cache
def picture(format: str = "PNG", *categories: str, side: int = SIDE) -> bytes:
    """A picture in that format, marked with these categories; large ones are of noise."""
    image = Image.new("RGB", (side, side), (90, 120, 150))
    if side >= LARGE:
        image = Image.frombytes("RGB", (side, side), random.Random(side).randbytes(side * side * 3))
    return written(mark(image, *categories) if categories else image, format)


def written(image: Image.Image, format: str = "PNG", **more: Any) -> bytes:
    """The file of a picture."""
    out = io.BytesIO()
    if format == "WEBP":
        more.setdefault("lossless", True)
    if format == "JPEG":
        more.setdefault("quality", 95)
    image.save(out, format, **more)
    return out.getvalue()


def url(data: bytes, head: str = "data:image/png;base64,") -> str:
    """A data: URL of it."""
    return head + base64.b64encode(data).decode()


def _marked(side: int = SIDE) -> Image.Image:
    return mark(Image.new("RGB", (side, side), (90, 120, 150)), "violence")


def _plain(side: int = SIDE) -> Image.Image:
    return Image.new("RGB", (side, side), (90, 120, 150))


def _pattern() -> Image.Image:
    """The marker in grey, on white."""
    return mark(Image.new("RGB", (SIDE, SIDE), "white"), "violence").convert("L")


def _clear(image: Image.Image) -> Image.Image:
    """The same in colours that are not shown: whoever heeds transparency sees nothing of it."""
    image = image.convert("LA" if image.mode == "L" else "RGBA")
    image.putalpha(0)
    return image


def _of_alpha(colour: str) -> bytes:
    """One colour all over, and the marker in its transparency: seen on a ground of another colour only."""
    image = Image.new("RGB", (SIDE, SIDE), colour).convert("RGBA")
    grey = _pattern()
    image.putalpha(grey if colour == "white" else Image.eval(grey, lambda value: 255 - value))
    return written(image)


def _half_hidden() -> bytes:
    """A palette of black and white, of which black is transparent: what is not white is not to be seen on white."""
    image = _pattern().point(lambda value: value // 128)
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([0, 0, 0, 255, 255, 255])
    return written(image, transparency=0)


def _turned() -> bytes:
    """It lies on its side, and says so: upright, the marker stands in its corner."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return written(_marked().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)


def _frames(format: str) -> bytes:
    """The first of two pictures does no harm."""
    return written(_plain(), format, save_all=True, append_images=[_marked()], duration=100)


HIDDEN = {  # what is to be seen once somebody looks as a model may
    "under the alpha": lambda: written(_clear(_marked())),
    "in the alpha, on white": lambda: _of_alpha("black"),
    "in the alpha, on black": lambda: _of_alpha("white"),
    "in grey under the alpha": lambda: written(_clear(_pattern())),
    "in a transparent palette": _half_hidden,
    "in a transparent colour": lambda: written(_pattern().convert("RGB"), transparency=(0, 0, 0)),
    "in a WebP under the alpha": lambda: written(_clear(_marked()), "WEBP", exact=True),
    "on its side": _turned,
    "in a palette": lambda: written(_marked().quantize(32)),
    "in grey": lambda: written(_pattern()),
    "in 16 bits": lambda: written(_pattern().convert("I").point(lambda value: value * 257).convert("I;16")),
    "in CMYK": lambda: written(_marked().convert("CMYK"), "JPEG"),
    "interlaced": lambda: written(_marked(), "JPEG", progressive=True),
    "before another in a JPEG": lambda: written(_marked(), "MPO", save_all=True, append_images=[_plain()]),
    "in a still GIF": lambda: written(_marked(), "GIF"),
    "before a page": lambda: picture("PNG", "violence") + b"<html><script>1</script></html>",
    "before an archive": lambda: picture("JPEG", "violence") + b"PK\x03\x04" + bytes(40),
}
UNCLEAR = {  # what decoders read differently, or nobody reads
    "a GIF that moves": lambda: _frames("GIF"),
    "a WebP that moves": lambda: _frames("WEBP"),
    "a PNG that moves": lambda: _frames("PNG"),
    "an SVG with a picture in it": lambda: (
        f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url(picture("PNG", "violence"))}"/></svg>'.encode()
    ),
    "a bitmap": lambda: written(_marked(), "BMP"),
    "a TIFF": lambda: written(_marked(), "TIFF"),
    "a picture behind other bytes": lambda: b"%PDF-1.7\n" + picture("JPEG", "violence"),
    "half a picture": lambda: picture("PNG", "violence", side=LARGE)[:60_000],
    "a head and nothing else": lambda: b"\x89PNG\r\n\x1a\n",
    "nothing": lambda: b"",
    "a page": lambda: b"<html></html>",
}
