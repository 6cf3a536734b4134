"""Whole pictures, drawn and encoded, and some that no encoder would make."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

RED, BLUE = (250, 0, 0), (0, 0, 250)


def halves(
    sort: str = "png", size: tuple[int, int] = (600, 300), *, mode: str = "RGB", turn: int = 0, **options: Any
) -> bytes:
    """Red on the left and blue on the right; `turn`: with EXIF that says how the camera was held."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    if turn:
        exif = Image.Exif()
        exif[0x0112] = turn
        exif[0x010F] = "a camera's maker"
        options["exif"] = exif
    return encoded(image.convert(mode), sort, **options)


def encoded(image: Image.Image, sort: str = "png", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, sort.upper(), **options)
    return out.getvalue()


def seen(data: bytes) -> Image.Image:
    """A thumbnail as one who gets it sees it."""
    image = Image.open(io.BytesIO(data), formats=("WEBP",))
    image.load()
    return image


def near(pixel: Any, colour: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 25 for a, b in zip(pixel, colour, strict=True))


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of nothing: a thousand times as many pixels as bytes."""
    deflate = zlib.compressobj(1)
    rows = b"".join([deflate.compress(bytes(1 + width * 3)) for _ in range(height)]) + deflate.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks of one's own behind its head."""
    return png[:33] + b"".join(chunks) + png[33:]
