"""Drawing a prompt: a gate at some hour of the day, and in it a card on which the prompt stands to be read."""

from __future__ import annotations

import colorsys
import hashlib
import io

from PIL import Image, ImageDraw, ImageOps

from . import lettering
from .lettering import Box, Colour

_PAPER: Colour = (252, 250, 245)
_GOLDEN = 0.618034  # steps of the golden ratio keep the hues of one request's pictures well apart


def draw(
    prompt: str, caption: str, width: int, height: int, *, transparent: bool = False, index: int = 0
) -> Image.Image:
    """A picture of the prompt; `index` tells the pictures of one request apart."""
    digest = hashlib.sha256(prompt.encode("utf-8", "replace")).digest()
    hue = (int.from_bytes(digest[:2]) / 65536 + index * _GOLDEN) % 1
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0)) if transparent else _sky(width, height, hue)
    card = _gate(image, hue)
    _letter(image, card, prompt, caption, hue)
    return image


def encode(image: Image.Image, output_format: str, compression: int) -> bytes:
    """The picture's bytes in one of OpenAI's formats."""
    out = io.BytesIO()
    match output_format:
        case "png":
            image.save(out, "PNG", compress_level=4)
        case "webp":
            image.save(out, "WEBP", quality=compression, method=1)
        case "jpeg":
            # Above 95 a JPEG grows and looks the same, says Pillow's manual; 4:4:4 keeps small type sharp.
            image.save(out, "JPEG", quality=min(95, max(1, compression)), subsampling=0)
        case _:
            raise ValueError(f"no such picture format: {output_format!r}")
    return out.getvalue()


def text_area(width: int, height: int) -> Box:
    """Where the prompt is written: left, top, right, bottom."""
    left, top, right, bottom = _card(width, height)
    unit = min(width, height)
    side = round(unit * 0.045)
    return left + side, top + round(unit * 0.03), right - side, bottom - round(unit * 0.09)


def _card(width: int, height: int) -> Box:
    unit = min(width, height)
    side, top, bottom = round(unit * 0.095), round(unit * 0.125), round(unit * 0.075)
    return side, top, width - side, height - bottom


def _sky(width: int, height: int, hue: float) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((width, height))
    return ImageOps.colorize(ramp, _tone(hue, 0.30, 0.45), _tone(hue + 0.09, 0.74, 0.50))


def _gate(image: Image.Image, hue: float) -> Box:
    """Two posts and two beams; what they enclose is the card."""
    width, height = image.size
    unit = min(width, height)
    left, top, right, bottom = card = _card(width, height)
    pen = ImageDraw.Draw(image)
    wood, shade = _tone(hue + 0.5, 0.34, 0.42), _tone(hue + 0.5, 0.24, 0.42)
    post, gap, out = round(unit * 0.026), round(unit * 0.012), round(unit * 0.035)
    outer_left, outer_right = left - gap - post, right + gap
    pen.rectangle((0, bottom, width, height), fill=_tone(hue, 0.17, 0.35))
    for x in (outer_left, outer_right):
        pen.rectangle((x, round(unit * 0.05), x + post, bottom + round(unit * 0.02)), fill=wood)
        pen.rectangle((x - gap // 2, bottom, x + post + gap // 2, bottom + round(unit * 0.02)), fill=shade)
    pen.rectangle((outer_left, round(unit * 0.088), outer_right + post, round(unit * 0.105)), fill=shade)
    pen.rectangle((outer_left - out, round(unit * 0.035), outer_right + post + out, round(unit * 0.068)), fill=wood)
    pen.rectangle((outer_left - out, round(unit * 0.027), outer_right + post + out, round(unit * 0.035)), fill=shade)
    pen.rectangle((left, top, right, bottom - 1), fill=_PAPER)
    return card


def _letter(image: Image.Image, card: Box, prompt: str, caption: str, hue: float) -> None:
    unit = min(image.size)
    ink = _tone(hue, 0.11, 0.30)
    left, top, right, bottom = area = text_area(*image.size)
    block = lettering.fit(prompt, right - left, bottom - top, smallest=max(8, unit // 73), largest=max(8, unit // 8))
    lettering.write(image, block, area, ink)
    rule = card[3] - round(unit * 0.07)
    ImageDraw.Draw(image).line((left, rule, right, rule), fill=_tone(hue, 0.72, 0.25), width=max(1, unit // 512))
    if block.lacking:
        caption += " · some characters have no font here"
    foot = lettering.fit(caption, right - left, card[3] - rule, smallest=8, largest=max(8, unit // 48))
    lettering.write(image, foot, (left, rule, right, card[3]), _tone(hue, 0.36, 0.25))


def _tone(hue: float, lightness: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue % 1, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)
