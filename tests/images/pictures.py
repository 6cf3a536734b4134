"""Pictures made for tests: real heads, and as many bytes behind them as are wanted."""

from __future__ import annotations

import random
import struct


def png(size: int = 100, *, seed: int = 0, width: int = 64, height: int = 48) -> bytes:
    """A PNG's head, and noise up to so many bytes; another seed makes another picture."""
    head = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return head + random.Random(seed).randbytes(size - len(head))


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0"


def jpeg(width: int, height: int, *, before: bytes = b"", frame: int = 0xC0) -> bytes:
    """One whose frame stands behind its application's segments."""
    app = b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    return (
        b"\xff\xd8" + app + before + bytes((0xFF, frame)) + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\0" * 9
    )


def webp(chunk: bytes, data: bytes) -> bytes:
    body = b"WEBP" + chunk + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="20"><script>alert(1)</script></svg>'
