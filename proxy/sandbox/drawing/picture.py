"""Drawing a prompt: a gate at some hour of the day, and in it a card on which the prompt stands to be read."""

from __future__ import annotations

import colorsys
import hashlib
import io
import struct
import zlib
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from . import lettering
from .lettering import Box, Colour

_PAPER: Colour = (252, 250, 245)
_GOLDEN = 0.618034  # steps of the golden ratio keep the hues of one request's pictures well apart


def draw(
    prompt: str, caption: str, width: int, height: int, *, transparent: bool = False, index: int = 0
) -> Image.Image:
    """A picture of the prompt; `index` tells the pictures of one request apart."""
    hue = hue_of(prompt, index)
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0)) if transparent else _sky(width, height, hue)
    card = _gate(image, hue)
    _letter(image, card, prompt, caption, hue)
    return image


def edit(
    prompt: str,
    caption: str,
    inputs: Sequence[Image.Image],
    mask: Image.Image | None,
    width: int,
    height: int,
    *,
    index: int = 0,
) -> Image.Image:
    """The first input, large, with what the mask leaves open lit up and framed; the others small; the prompt below."""
    hue = hue_of(prompt, index)
    image = _sky(width, height, hue)
    unit = min(width, height)
    gap = max(2, round(unit * 0.03))
    foot = round(height * 0.30)
    strip = round(unit * 0.16) + gap if len(inputs) > 1 else 0
    first = inputs[0].convert("RGBA")
    if mask is not None:
        first = lit(first, mask, hue)
    _hang(image, first, (gap, gap, width - gap, height - foot - strip), hue)
    across = max(1, len(inputs) - 1)
    wide = min((width - gap) // across - gap, strip * 2)
    for number, one in enumerate(inputs[1:]):
        left = gap + number * (wide + gap)
        box = (left, height - foot - strip + gap // 2, left + wide, height - foot - gap // 2)
        _hang(image, one.convert("RGBA"), box, hue)
    card = (gap, height - foot, width - gap, height - gap)
    ImageDraw.Draw(image).rectangle(card, fill=_PAPER)
    _letter(image, card, prompt, caption, hue, area=_inner(card, unit))
    return image


def partial(image: Image.Image, stage: int) -> Image.Image:
    """An earlier state of a picture: the first, stage 0, is the coarsest."""
    coarse = max(2, max(8, min(image.size) // 24) >> stage)
    return image.reduce(coarse).resize(image.size, Image.Resampling.BILINEAR)


def frames(image: Image.Image, count: int, prompt: str, index: int = 0) -> list[Image.Image]:
    """The picture as a little film: a moon crosses its sky."""
    hue = hue_of(prompt, index)
    unit = min(image.size)
    radius = max(2, round(unit * 0.02))
    made = []
    for number in range(count):
        frame = image.convert("RGB")
        x = radius + round((image.width - 2 * radius) * number / max(1, count - 1))
        y = radius + max(1, round(unit * 0.005))
        ImageDraw.Draw(frame).ellipse((x - radius, y - radius, x + radius, y + radius), fill=_tone(hue, 0.93, 0.6))
        made.append(frame)
    return made


def hue_of(prompt: str, index: int = 0) -> float:
    """Each prompt has a colour of its own."""
    digest = hashlib.sha256(prompt.encode("utf-8", "replace")).digest()
    return (int.from_bytes(digest[:2]) / 65536 + index * _GOLDEN) % 1


def encode(image: Image.Image, output_format: str, compression: int, *, heavy: bool = False) -> bytes:
    """The picture's bytes in one of OpenAI's formats; `heavy` PNGs weigh what a photograph would."""
    out = io.BytesIO()
    match output_format:
        case "png":
            if heavy:
                return _stored(image)
            image.save(out, "PNG", compress_level=4)
        case "webp":
            image.save(out, "WEBP", quality=compression, method=1)
        case "jpeg":
            # Above 95 a JPEG grows and looks the same, says Pillow's manual; 4:4:4 keeps small type sharp.
            image.save(out, "JPEG", quality=min(95, max(1, compression)), subsampling=0)
        case _:
            raise ValueError(f"no such picture format: {output_format!r}")
    return out.getvalue()


def _stored(image: Image.Image) -> bytes:
    """A PNG that is not deflated: 1024x1024 make 3 MB, as much as a photograph would, where a drawn card makes 40 KB.

    Pillow would try five filters on each row all the same, and take longer than the drawing (PNG, third edition, §9).
    """
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    pixels, stride = image.convert(mode).tobytes(), len(mode) * image.width
    rows = b"".join([b"\0" + pixels[at : at + stride] for at in range(0, len(pixels), stride)])
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 6 if mode == "RGBA" else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    framed = [(struct.pack(">I", len(data)), kind, data, zlib.crc32(data, zlib.crc32(kind))) for kind, data in chunks]
    parts = [b"".join((length, kind, data, struct.pack(">I", check))) for length, kind, data, check in framed]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


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
    ramp = Image.linear_gradient("L").resize((1, height))
    column = ImageOps.colorize(ramp, _tone(hue, 0.30, 0.45), _tone(hue + 0.09, 0.74, 0.50))
    return column.resize((width, height), Image.Resampling.NEAREST)


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


def _inner(card: Box, unit: int) -> Box:
    left, top, right, bottom = card
    side = round(unit * 0.03)
    return left + side, top + side // 2, right - side, bottom - round(unit * 0.08)


def _hang(image: Image.Image, one: Image.Image, box: Box, hue: float) -> None:
    """Put a picture, whole, into a frame in the middle of a box."""
    width, height = max(1, box[2] - box[0]), max(1, box[3] - box[1])
    fitted = ImageOps.contain(one, (width, height))
    left, top = box[0] + (width - fitted.width) // 2, box[1] + (height - fitted.height) // 2
    edge = max(1, min(image.size) // 200)
    pen = ImageDraw.Draw(image)
    pen.rectangle(
        (left - edge, top - edge, left + fitted.width - 1 + edge, top + fitted.height - 1 + edge),
        fill=_tone(hue, 0.2, 0.4),
    )
    image.paste(_checks(fitted.size), (left, top))
    image.paste(fitted, (left, top), fitted)


def _checks(size: tuple[int, int]) -> Image.Image:
    """The squares that stand for transparency."""
    field = Image.frombytes("L", (2, 2), bytes((204, 238, 238, 204))).resize((16, 16), Image.Resampling.NEAREST)
    checks = Image.new("L", size)
    for x in range(0, size[0], 16):
        for y in range(0, size[1], 16):
            checks.paste(field, (x, y))
    return checks.convert("RGB")


def lit(image: Image.Image, mask: Image.Image, hue: float) -> Image.Image:
    """What is transparent in the mask is to be drawn anew: tinted, and outlined."""
    colour = _tone(hue + 0.5, 0.55, 0.9)
    image = image.convert("RGBA")
    opened = ImageOps.invert(mask.convert("RGBA").getchannel("A").resize(image.size))
    tinted = Image.blend(image, Image.new("RGBA", image.size, (*colour, 255)), 0.45)
    thick = max(3, min(image.size) // 100) | 1
    rim = ImageChops.difference(opened.filter(ImageFilter.MaxFilter(min(thick, 9))), opened)
    out = Image.composite(tinted, image, opened)
    out.paste((*colour, 255), (0, 0), rim)
    return out


def _letter(image: Image.Image, card: Box, prompt: str, caption: str, hue: float, area: Box | None = None) -> None:
    unit = min(image.size)
    ink = _tone(hue, 0.11, 0.30)
    left, top, right, bottom = area = area or text_area(*image.size)
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
