"""Whether a person could read the prompt in the picture."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops, ImageStat

from proxy.sandbox import usage
from proxy.sandbox.drawing import lettering, picture

LONG = "copper pans catching the first light, a cat asleep on the windowsill, steam rising from a kettle; "
PROMPTS = {
    "one word": "fox",
    "a sentence": "a red fox in the snow at dawn",
    "500 characters": (LONG * 6)[:500],
    "2000 characters": (LONG * 21)[:2000],
    "the longest": (LONG * 400)[:32_000],
    "no spaces": "x" * 900,
    "accents": "déjà vu, größer, Łódź",
    "other scripts": "一只红色的狐狸在雪地里 Привет мир שלום مرحبا नमस्ते 😀👩\u200d🚀",
    "lines": "GRAND\n\n\n\nOPENING\r\n\tSaturday",
    "nothing visible": "\u0000\u200b \ue000",
}
SIZES = [(1024, 1024), (1536, 512), (512, 1536), (256, 256)]


def drawn(prompt: str, width: int = 1024, height: int = 1024) -> Image.Image:
    return picture.draw(prompt, "gpt-image-2 · 1024x1024 · medium", width, height)


def luminance(level: float) -> float:
    level /= 255
    return level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prompt", [text for name, text in PROMPTS.items() if name != "nothing visible"], ids=str.split)
def test_the_text_stands_out_from_the_paper(prompt: str, size: tuple[int, int]) -> None:
    area = drawn(prompt, *size).crop(picture.text_area(*size)).convert("L")
    darkest, lightest = area.getextrema()
    assert isinstance(darkest, int) and isinstance(lightest, int)
    # 7:1 is what WCAG asks of text at its strictest level.
    assert (luminance(lightest) + 0.05) / (luminance(darkest) + 0.05) > 7


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["one word", "500 characters", "2000 characters", "no spaces", "lines"])
def test_no_line_is_cut_off_at_its_end(name: str, size: tuple[int, int]) -> None:
    left, top, right, bottom = picture.text_area(*size)
    image = drawn(PROMPTS[name], *size)
    paper = image.getpixel((left - 1, top - 1))
    for x in (left - 1, right - 1, right):
        assert image.crop((x, top, x + 1, bottom)).getcolors() == [(bottom - top, paper)]
    for y in (top - 1, bottom):
        assert image.crop((left, y, right, y + 1)).getcolors() == [(right - left, paper)]


def test_a_longer_prompt_covers_more_of_the_card_than_none() -> None:
    area = picture.text_area(1024, 1024)
    empty = ImageStat.Stat(drawn("").crop(area).convert("L"))
    full = ImageStat.Stat(drawn(PROMPTS["500 characters"]).crop(area).convert("L"))
    assert empty.stddev[0] == 0
    assert full.stddev[0] > 40


def test_the_caption_is_in_the_picture() -> None:
    with_caption, without = (picture.draw("fox", caption, 512, 512) for caption in ("gpt-image-2 · low", ""))
    changed = ImageChops.difference(with_caption, without).getbbox()
    assert changed is not None
    assert changed[1] > picture.text_area(512, 512)[3]


def test_the_same_request_gives_the_same_picture_and_another_index_another() -> None:
    assert drawn("fox").tobytes() == drawn("fox").tobytes()
    assert picture.draw("fox", "", 256, 256, index=1).tobytes() != picture.draw("fox", "", 256, 256).tobytes()


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=list(PROMPTS))
@pytest.mark.parametrize("size", [(16, 16), (16, 48), (48, 16), (3840, 1280)])
def test_draws_anything_at_any_size(prompt: str, size: tuple[int, int]) -> None:
    assert drawn(prompt, *size).size == size


def sizes(text: str) -> lettering.Block:
    return lettering.fit(text, 738, 696, smallest=14, largest=128)


def test_the_type_is_as_large_as_fits() -> None:
    found = [sizes(PROMPTS[name]).size for name in ("one word", "500 characters", "2000 characters", "the longest")]
    assert found == sorted(found, reverse=True)
    assert found[0] == 128 and found[1] >= 36 and found[2] >= 18 and found[3] == 14


@pytest.mark.parametrize("name", ["a sentence", "500 characters", "2000 characters", "no spaces"])
def test_every_character_of_a_prompt_that_fits_is_set(name: str) -> None:
    assert "".join("".join(sizes(PROMPTS[name]).lines).split()) == "".join(PROMPTS[name].split())


def test_a_prompt_that_does_not_fit_says_how_much_is_missing() -> None:
    block = sizes(PROMPTS["the longest"])
    shown = " ".join(block.lines[:-1])
    left = int("".join(filter(str.isdigit, block.lines[-1])))
    assert block.lines[-1].startswith("… and ")
    assert len(shown) + 1 + left == len(PROMPTS["the longest"].strip())


def test_lines_of_the_prompt_stay_lines() -> None:
    assert sizes(PROMPTS["lines"]).lines == ("GRAND", "", "OPENING", "Saturday")


def test_without_other_fonts_an_accent_is_dropped_and_the_rest_is_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_WIDER", ())
    assert sizes("déjà vu").lines == ("deja vu",)
    assert not sizes("déjà vu").lacking
    assert sizes("狐狸").lacking


@pytest.mark.parametrize(
    ("model", "quality", "width", "height", "tokens"),
    [
        ("gpt-image-2", "low", 1024, 1024, 196),
        ("gpt-image-2", "medium", 1024, 1536, 1372),
        ("gpt-image-2", "high", 3840, 2160, 13342),
        ("gpt-image-2.5-flare", "high", 1536, 1024, 1372),
        ("gpt-image-2.6-sunburst", "max", 1024, 1024, 7024),
        ("gpt-image-1.5", "high", 1024, 1024, 4160),
        ("gpt-image-1-mini", "medium", 1024, 1536, 1584),
    ],
)
def test_counts_an_image_like_the_published_tables(
    model: str, quality: str, width: int, height: int, tokens: int
) -> None:
    assert usage.image_tokens(model, quality, width, height) == tokens
