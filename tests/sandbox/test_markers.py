"""Whether what is marked is found, and nothing else."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from proxy.sandbox import markers
from proxy.sandbox.drawing import picture

from .asking import encoded


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a fox", ()),
        ("a fox flag:violence", ("violence",)),
        ("flag:violence/graphic.", ("violence/graphic",)),
        ("FLAG:Sexual, and flag:hate", ("hate", "sexual")),
        ("flag:self-harm/instructions\nflag:self-harm/instructions", ("self-harm/instructions",)),
        ("flag:hatex flag:hate-ful flag:hate/speech flag: hate red-flag:", ()),
        ("flag:illicit/violent flag:illicit", ("illicit", "illicit/violent")),
    ],
)
def test_marker_words_name_categories(text: str, found: tuple[str, ...]) -> None:
    assert markers.flagged(text) == found


def test_every_category_can_be_named() -> None:
    assert len(markers.CATEGORIES) == 13
    assert markers.flagged(" ".join(f"flag:{name}" for name in markers.CATEGORIES)) == markers.CATEGORIES


ENCODINGS = {
    "png": ("PNG", {}),
    "jpeg": ("JPEG", {"quality": 80}),
    "webp": ("WEBP", {"quality": 80}),
    "gif": ("GIF", {}),
}


@pytest.mark.parametrize("categories", [("violence",), ("self-harm/intent", "sexual"), markers.IN_IMAGES, ()])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [(64, 32), (333, 257)])
def test_a_marker_survives_encoding(size: tuple[int, int], encoding: str, categories: tuple[str, ...]) -> None:
    output_format, options = ENCODINGS[encoding]
    marked = markers.mark(picture.draw("a fox", "", *size), *categories)
    seen = Image.open(io.BytesIO(encoded(marked, output_format, **options)))
    assert markers.flagged_image(seen) == categories


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "LA", "CMYK"])
def test_any_sort_of_picture_can_be_marked(mode: str) -> None:
    image = Image.new(mode, (64, 64))
    assert markers.flagged_image(image) == ()
    assert markers.flagged_image(markers.mark(image, "violence")) == ("violence",)


def test_a_transparent_picture_stays_transparent_round_its_marker() -> None:
    marked = markers.mark(Image.new("RGBA", (96, 96), (0, 0, 0, 0)), "sexual")
    assert marked.getpixel((80, 80)) == (0, 0, 0, 0)
    assert marked.getpixel((4, 4)) == (255, 255, 255, 255)


def test_pictures_without_a_marker_name_nothing() -> None:
    checks = Image.frombytes("L", (8, 4), bytes([255, 0] * 16)).resize((64, 32), Image.Resampling.NEAREST)
    plain = [Image.new("RGB", (64, 64), colour) for colour in ("black", "white", "grey")]
    for image in [checks, *plain, Image.new("RGB", (16, 16)), picture.draw("a fox", "", 256, 256)]:
        assert markers.flagged_image(image) == ()


def test_says_why_it_can_not_mark() -> None:
    with pytest.raises(ValueError, match="not scored for 'hate'"):
        markers.mark(Image.new("RGB", (64, 64)), "hate")
    with pytest.raises(ValueError, match="needs 64x32 pixels"):
        markers.mark(Image.new("RGB", (63, 64)), "violence")
