"""What the sandbox takes for forbidden: marker words in a text, and a marker in the pixels of a picture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# OpenAI's thirteen, as they stand on the wire.
CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
# Only these are scored for pictures.
IN_IMAGES = ("self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "violence", "violence/graphic")

# The longest first: `hate` would else be found in `hate/threatening`.
_WORD = re.compile(rf"flag:({'|'.join(sorted(CATEGORIES, key=len, reverse=True))})(?![a-z/-])", re.IGNORECASE)

# The marker in a picture: four rows of eight black and white fields in its top left corner. A field is as large as a
# block of JPEG's and lies on its grid, so that re-encoding leaves it alone. Two rows of fixed pattern, then one bit
# for each category and two unused, then the same bits turned over.
_FIELD = 8
_ACROSS, _DOWN = 8, 4
_SIGNATURE = (1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1)
# How far from black or white a field's mean may have drifted; a picture's own gradients do not come so near to both.
_DRIFT = 64


def flagged(text: str) -> tuple[str, ...]:
    """The categories that a text names by marker words, such as `flag:violence/graphic`."""
    if "flag:" not in text.lower():
        return ()
    found = {word.lower() for word in _WORD.findall(text)}
    return tuple(name for name in CATEGORIES if name in found)


def flagged_image(image: Image.Image) -> tuple[str, ...]:
    """The categories that the marker in a picture's corner names."""
    width, height = _ACROSS * _FIELD, _DOWN * _FIELD
    if image.width < width or image.height < height:
        return ()
    # By way of RGB: a palette goes straight to grey only by its numbers.
    corner = image.crop((0, 0, width, height)).convert("RGB").convert("L").reduce(_FIELD)
    means = list(corner.tobytes())
    if any(_DRIFT < mean < 255 - _DRIFT for mean in means):
        return ()
    bits = [int(mean > 127) for mean in means]
    named, turned = bits[16:24], bits[24:]
    if tuple(bits[:16]) != _SIGNATURE or any(one == other for one, other in zip(named, turned, strict=True)):
        return ()
    return tuple(name for name, bit in zip(IN_IMAGES, named, strict=False) if bit)


def mark(image: Image.Image, *categories: str) -> Image.Image:
    """The same picture with a marker for the named categories, which survives re-encoding but no resizing."""
    from PIL import Image

    unknown = [name for name in categories if name not in IN_IMAGES]
    if unknown:
        raise ValueError(f"pictures are not scored for {unknown[0]!r}; they are for {', '.join(IN_IMAGES)}")
    if image.width < _ACROSS * _FIELD or image.height < _DOWN * _FIELD:
        raise ValueError(f"a marker needs {_ACROSS * _FIELD}x{_DOWN * _FIELD} pixels, the picture is smaller")
    named = [int(name in categories) for name in IN_IMAGES] + [0, 0]
    bits = [*_SIGNATURE, *named, *(1 - bit for bit in named)]
    block = Image.frombytes("L", (_ACROSS, _DOWN), bytes(255 * bit for bit in bits))
    marked = image.convert("RGBA" if image.has_transparency_data else "RGB")
    marked.paste(block.resize((_ACROSS * _FIELD, _DOWN * _FIELD), Image.Resampling.NEAREST).convert("RGB"), (0, 0))
    return marked
