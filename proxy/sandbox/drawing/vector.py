"""The prompt as an SVG document: type on a card, before a sky of the prompt's own colour."""

from __future__ import annotations

import colorsys
from xml.sax.saxutils import escape

from . import lettering, picture


def document(prompt: str, caption: str, width: int, height: int, *, transparent: bool) -> str:
    """A whole document. The prompt is text in it, escaped: what it may hold of markup is never markup here."""
    left, top, right, bottom = picture.text_area(width, height)
    unit = min(width, height)
    block = lettering.fit(prompt, right - left, bottom - top, smallest=max(8, unit // 73), largest=max(8, unit // 8))
    hue = picture.hue_of(prompt)
    y = top + (bottom - top - len(block.lines) * block.leading) // 2 + round(block.size * 0.9)
    lines = [
        f'<tspan x="{width // 2}" y="{y + number * block.leading}">{_text(line)}</tspan>'
        for number, line in enumerate(block.lines)
    ]
    sky = "" if transparent else f'<rect width="{width}" height="{height}" fill="{_tone(hue, 0.52)}"/>'
    pad = round(unit * 0.04)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<title>{_text(prompt)}</title><desc>{_text(caption)}</desc>{sky}"
        f'<rect x="{left - pad}" y="{top - pad}" width="{right - left + 2 * pad}" '
        f'height="{bottom - top + 2 * pad}" rx="{pad}" fill="#fcfaf5"/>'
        f'<text font-family="sans-serif" font-size="{block.size}" text-anchor="middle" fill="{_tone(hue, 0.11)}">'
        f"{''.join(lines)}</text></svg>"
    )


def _text(text: str) -> str:
    """What XML can hold: most control characters it can't, escaped or not (XML 1.0 §2.2)."""
    kept = (
        char
        for char in text
        if char in "\t\n\r" or " " <= char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char > "\uffff"
    )
    return escape("".join(kept))


def _tone(hue: float, lightness: float) -> str:
    red, green, blue = colorsys.hls_to_rgb(hue % 1, lightness, 0.4)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
