"""Pictures that come in a request: as data URLs or as uploaded files, opened to see whether they are any."""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING

from ..refusal import Refusal

if TYPE_CHECKING:
    from PIL import Image

_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
# OpenAI counts a picture by fields of 32x32 pixels, at most so many of them; the small models' rule, used for all here.
_PATCH = 32
_MOST_PATCHES = 1536


def fetched(url: str, param: str) -> bytes:
    """The bytes behind an image URL; only data URLs can be read without a network."""
    if not url.startswith("data:"):
        if url.startswith(("http://", "https://")):
            # As OpenAI says it of a host that it can't reach. The sandbox reaches none, loopback ones included.
            raise Refusal("Error while downloading the image URL.", param="url", code="invalid_image_url")
        message = "Expected a valid URL, but got a value with an invalid format."
        raise Refusal(f"Invalid '{param}'. {message}", param=param, code="invalid_value")
    head, comma, encoded = url.partition(",")
    if not comma or not head.endswith(";base64") or not head.startswith("data:image/"):
        message = "Expected a base64-encoded data URL with an image MIME type (e.g. 'data:image/png;base64,aW1n...')."
        raise Refusal(f"Invalid '{param}'. {message}", param=param, code="invalid_value")
    return decoded(encoded, param)


def decoded(encoded: str, param: str) -> bytes:
    """The bytes of a base64 text."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as exc:  # the second: characters beyond ASCII
        message = f"Invalid '{param}'. Expected a base64-encoded image, but got a value that is not valid base64."
        raise Refusal(message, param=param, code="invalid_base64") from exc
    if not data:
        raise Refusal(f"Invalid '{param}'. The image is empty.", param=param, code="empty_image_file")
    return data


def opened(data: bytes, param: str) -> Image.Image:
    """The picture, its size and format known, its pixels not read yet."""
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise _no_picture(param) from exc


def loaded(data: bytes, param: str) -> Image.Image:
    """The picture with its pixels."""
    image = opened(data, param)
    try:
        image.load()
    except (OSError, ValueError, SyntaxError) as exc:  # cut off, or rotten inside
        raise _no_picture(param) from exc
    return image


def described(image: Image.Image) -> str:
    """What the sandbox sees in a picture."""
    return f"[image {image.width}x{image.height} {(image.format or 'png').lower()}]"


def tokens(image: Image.Image) -> int:
    """What it costs to look at it."""
    return min(_MOST_PATCHES, -(-image.width // _PATCH) * -(-image.height // _PATCH))


def _no_picture(param: str) -> Refusal:
    return Refusal(
        "The image data you provided does not represent a valid image. Please check your input and try again with one "
        "of the supported image formats: ['image/jpeg', 'image/png', 'image/gif', 'image/webp'].",
        param=param,
        code="invalid_value",
    )
