from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from proxy.images.picture import Sight, look
from proxy.model.images import NotAnImage

from .pictures import SVG, gif, jpeg, png, webp

COMMENT = b"\xff\xfe\xff\xff" + b"x" * 0xFFFD


def seen(data: bytes) -> Sight:
    return look(lambda at, count: data[at : at + count])


@pytest.mark.parametrize(
    ("data", "sight"),
    [
        (png(width=1024, height=1536), Sight("png", 1024, 1536)),
        (gif(300, 2), Sight("gif", 300, 2)),
        (jpeg(640, 480), Sight("jpeg", 640, 480)),
        (jpeg(640, 480, frame=0xC2), Sight("jpeg", 640, 480)),
        (jpeg(640, 480, before=COMMENT * 20 + b"\xff\xff\xff"), Sight("jpeg", 640, 480)),
        (webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 800 | 0x4000, 600)), Sight("webp", 800, 600)),
        (webp(b"VP8L", b"\x2f" + struct.pack("<I", 799 | 599 << 14) + b"\0" * 5), Sight("webp", 800, 600)),
        (webp(b"VP8X", b"\x10\0\0\0" + b"\x1f\x03\0" + b"\x57\x02\0"), Sight("webp", 800, 600)),
        (SVG, Sight("svg", 10, 20)),
        (
            b'\xef\xbb\xbf<?xml version="1.0"?><!-- by hand -->\n<!DOCTYPE svg><svg viewBox="0 0 3,4"/>',
            Sight("svg", 3, 4),
        ),
        (b'<s:svg xmlns:s="http://www.w3.org/2000/svg" width="100%" height="2em"><s:g', Sight("svg", None, None)),
    ],
)
def test_sees_sort_and_size(data: bytes, sight: Sight) -> None:
    assert seen(data) == sight


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (1024, 768)])
def test_agrees_with_what_draws_them(form: str, size: tuple[int, int]) -> None:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, form)
    assert seen(file.getvalue()) == Sight(form.lower(), *size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"%PDF-1.7",
        b"<html><svg/></html>",
        b"<!DOCTYPE html><body>",
        b"<?xml version='1.0'?><feed/>",
        b"<svg",
        b'<svg xmlns="http://example.com/other"/>',
        b"<" + b"a" * 70_000 + b"/><svg/>",
        png()[:20],
        png(width=0),
        b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
        gif(0, 5),
        b"GIF89a",
        jpeg(640, 480)[:24],
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xda\0\x08" + b"\0" * 20,
        b"\xff\xd8\xff\xe0\0\0" + b"\0" * 20,
        b"\xff\xd8" + b"\xff" * 100_000,
        webp(b"VP8 ", b"\0" * 20),
        webp(b"ALPH", b"\0" * 20),
        b"RIFF\0\0\0\0WEBP",
        b"\0\0\0\x1cftypavif",
    ],
)
def test_refuses_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(NotAnImage):
        seen(data)


def test_entities_in_entities_cost_nothing() -> None:
    laughs = b"".join(b'<!ENTITY l%d "%b">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
    bomb = b'<!DOCTYPE svg [<!ENTITY l0 "ha">' + laughs + b']><svg width="&l9;" height="1"/>'
    with pytest.raises(NotAnImage):
        seen(bomb)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF____WEBPVP8 ", b"<svg "]),
    st.binary(max_size=200),
)
def test_whatever_comes_is_a_picture_or_refused(head: bytes, rest: bytes) -> None:
    try:
        sight = seen(head + rest)
    except NotAnImage:
        return
    assert sight.type == "svg" or (sight.width and sight.height)
