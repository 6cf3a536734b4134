"""POST /v1/images/generations: what is asked, whether it may be, and the answer with its pictures."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from dataclasses import dataclass

from aiohttp import web

from .. import field, usage
from ..answer import Answer, Route, told
from ..drawing import picture
from ..refusal import Refusal, unknown_model
from . import models

# Everything the endpoint knows. `style` and `response_format` belonged to DALL-E: the GPT image models refuse them.
_KNOWN = frozenset(
    [
        "prompt",
        "model",
        "n",
        "size",
        "quality",
        "background",
        "output_format",
        "output_compression",
        "moderation",
        "stream",
        "partial_images",
        "complexity",
        "frame_count",
        "frame_duration_ms",
        "svg",
        "safety_identifier",
        "user",
    ]
)
_FORMATS = ("png", "webp", "jpeg", "gif", "svg")
_LONGEST_PROMPT = 32_000
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)
_LONGEST_EDGE = 3840
# 3840x2160 either way up, or as many pixels in another shape. OpenAI's lower bound (655,360) is left out: small
# pictures make quick tests.
_MOST_PIXELS = 3840 * 2160


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A request for pictures, read and found good."""

    prompt: str
    model: str
    n: int
    width: int
    height: int
    quality: str
    transparent: bool
    output_format: str
    compression: int
    user: str | None

    @property
    def size(self) -> str:
        """The effective size, in OpenAI's notation."""
        return f"{self.width}x{self.height}"


async def generations(request: web.Request) -> Answer:
    """Draws the prompt, as often as asked."""
    wanted = parse(await field.read(request))
    images = []
    for index in range(wanted.n):
        # One after the other: several pictures at the largest size would hold hundreds of megabytes at once.
        images.append({"b64_json": await asyncio.to_thread(_draw, wanted, index)})
    output = wanted.n * usage.image_tokens(wanted.model, wanted.quality, wanted.width, wanted.height)
    answer = {
        "created": int(time.time()),
        "background": "transparent" if wanted.transparent else "opaque",
        "data": images,
        "output_format": wanted.output_format,
        "quality": wanted.quality,
        "size": wanted.size,
        "usage": usage.of_images(wanted.prompt, output),
    }
    if wanted.user:
        answer["safety_identifier"] = wanted.user
    return told(answer, billed=True)


def parse(body: field.Body) -> ImageRequest:
    """Reads the body, or refuses it as OpenAI would."""
    for name in body:
        if name not in _KNOWN:
            raise field.unknown(name)
    prompt = _prompt(body)
    model = field.text(body, "model") or "gpt-image-2"
    if model not in models.IMAGE:
        raise unknown_model(model)
    if field.flag(body, "stream"):
        raise Refusal("Streaming images is not supported by the sandbox yet.", param="stream", code="unsupported_value")
    n = field.whole(body, "n", 1, 10, default=1)
    width, height = _size(body)
    quality = field.choice(body, "quality", ("auto", *usage.qualities(model)), default="auto")
    output_format = field.choice(body, "output_format", _FORMATS, default="png")
    if output_format in ("gif", "svg"):
        message = f"The sandbox does not draw {output_format} images yet."
        raise Refusal(message, param="output_format", code="unsupported_value")
    compression = field.whole(body, "output_compression", 0, 100, default=100)
    background = field.choice(body, "background", ("transparent", "opaque", "auto"), default="auto")
    _agree(body, output_format, compression, background)
    field.choice(body, "moderation", ("low", "auto"), default="auto")
    field.choice(body, "complexity", ("low", "medium", "high"), default="medium")
    field.whole(body, "partial_images", 0, 3, default=0)
    return ImageRequest(
        prompt=prompt,
        model=model,
        n=n,
        width=width,
        height=height,
        quality="medium" if quality == "auto" else quality,
        transparent=background == "transparent",
        output_format=output_format,
        compression=compression,
        user=field.text(body, "safety_identifier") or field.text(body, "user"),
    )


def _prompt(body: field.Body) -> str:
    prompt = field.text(body, "prompt")
    if prompt is None:
        raise field.missing("prompt")
    if not prompt:
        message = "empty string. Expected a string with minimum length 1, but got an empty string instead."
        raise Refusal(f"Invalid 'prompt': {message}", param="prompt", code="empty_string")
    if len(prompt) > _LONGEST_PROMPT:
        message = (
            f"Expected a string with maximum length {_LONGEST_PROMPT}, but got one with length {len(prompt)} instead."
        )
        raise Refusal(f"Invalid 'prompt': string too long. {message}", param="prompt", code="string_above_max_length")
    return prompt


def _size(body: field.Body) -> tuple[int, int]:
    size = field.text(body, "size", "auto") or ""
    if size == "auto":
        return 1024, 1024
    found = _SIZE.fullmatch(size)
    if not found:
        message = f"Invalid value: '{size}'. Supported values are: 'auto' and WIDTHxHEIGHT, as in '1536x1024'."
        raise Refusal(message, param="size", code="invalid_value")
    width, height = int(found[1]), int(found[2])
    if width % 16 or height % 16:
        wrong = "width and height must both be divisible by 16"
    elif max(width, height) > 3 * min(width, height):
        wrong = "the aspect ratio must be between 1:3 and 3:1"
    elif max(width, height) > _LONGEST_EDGE or width * height > _MOST_PIXELS:
        wrong = "the maximum supported resolution is 3840x2160"
    else:
        return width, height
    raise Refusal(f"Invalid size '{size}': {wrong}.", param="size", code="invalid_value")


def _agree(body: field.Body, output_format: str, compression: int, background: str) -> None:
    """Refuses what is right by itself but not together."""
    for name, needs in (("frame_count", "gif"), ("frame_duration_ms", "gif"), ("svg", "svg")):
        if body.get(name) is not None:
            raise Refusal(f"'{name}' is only supported with output_format={needs}.", param=name, code="invalid_value")
    if output_format == "png" and compression < 100:
        message = "Compression less than 100 is not supported for PNG output format"
        raise Refusal(message, param="output_compression", code="invalid_png_output_compression")
    if output_format == "jpeg" and background == "transparent":
        message = "Transparent background is not supported for JPEG output format"
        raise Refusal(message, param="background", code="invalid_value")


def _draw(wanted: ImageRequest, index: int) -> str:
    caption = f"{wanted.model} · {wanted.size} · {wanted.quality}"
    if wanted.n > 1:
        caption += f" · {index + 1} of {wanted.n}"
    image = picture.draw(
        wanted.prompt, caption, wanted.width, wanted.height, transparent=wanted.transparent, index=index
    )
    return base64.b64encode(picture.encode(image, wanted.output_format, wanted.compression)).decode("ascii")


ROUTES: tuple[Route, ...] = (("POST", "/v1/images/generations", generations),)
