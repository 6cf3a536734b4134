"""The pictures and fields of an edit: multipart, as the SDKs send it, or JSON with data URLs and file ids."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, hdrs, web
from PIL import Image, UnidentifiedImageError

from .. import field as fields
from .. import markers
from ..drawing.wanted import Source, blocked
from ..refusal import Refusal
from ..stored import STORED

_MOST_IMAGES = 16
_LARGEST_IMAGE = 50 * 10**6
_LARGEST_MASK = 4 * 10**6
_LONGEST_URL = 20_971_520
_LONGEST_FIELD = 2**20
_INPUTS = ("PNG", "WEBP", "JPEG")
_NUMBERS = frozenset(("n", "output_compression", "partial_images", "frame_count", "frame_duration_ms"))
_BRACKETS = re.compile(r"([a-z_]+)((?:\[[a-z_]*\])+)", re.ASCII)


@dataclass(slots=True)
class Form:
    """An edit as it came in."""

    body: dict[str, Any] = field(default_factory=dict)  # its fields, as JSON would have them
    images: list[bytes] = field(default_factory=list)
    mask: bytes | None = None
    markup: bytes | None = None


async def read(request: web.Request) -> Form:
    """Reads whichever form it is."""
    if request.content_type == "multipart/form-data":
        return await _multipart(request)
    return await _json(request)


async def sources(form: Form) -> tuple[tuple[Source, ...], Source | None]:
    """The pictures, opened and found good, and the mask."""
    if not form.images:
        raise fields.missing("image")
    if len(form.images) > _MOST_IMAGES:
        message = f"array too long. Expected an array with maximum length {_MOST_IMAGES}, but got an array with length "
        raise Refusal(
            f"Invalid 'image': {message}{len(form.images)} instead.", param="image", code="array_above_max_length"
        )
    images = [await asyncio.to_thread(_source, content, "image") for content in form.images]
    mask = None if form.mask is None else await asyncio.to_thread(_source, form.mask, "mask")
    if mask is not None:
        _check_mask(mask, images[0])
    if form.markup is not None:
        await asyncio.to_thread(_source, form.markup, "markup")
    return tuple(images), mask


def _source(content: bytes, name: str) -> Source:
    limit = _LARGEST_MASK if name == "mask" else _LARGEST_IMAGE
    if len(content) >= limit:
        message = f"Invalid file '{name}': file is too large, it must be less than {limit // 10**6} MB."
        raise Refusal(message, param=name, code="file_too_large")
    allowed = _INPUTS if name == "image" else ("PNG",)
    try:
        with Image.open(io.BytesIO(content), formats=allowed) as image:
            image.load()
            if found := markers.flagged_image(image):
                raise blocked(list(found))
            transparent = "A" in image.getbands() or "transparency" in image.info
            return Source(content, hashlib.sha256(content).digest(), image.width, image.height, transparent)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as exc:
        named = " or ".join(one.lower() for one in allowed)
        message = f"Invalid image file or mode for '{name}': it must be a valid {named} image."
        raise Refusal(message, param=name, code="invalid_image_file") from exc


def _check_mask(mask: Source, first: Source) -> None:
    if (mask.width, mask.height) != (first.width, first.height):
        message = (
            f"Invalid mask image format - mask size {mask.width}x{mask.height} does not match image size "
            f"{first.width}x{first.height}."
        )
        raise Refusal(message, param="mask", code="invalid_mask_size")
    if not mask.transparent:
        raise Refusal("Invalid mask image format - mask must have an alpha channel.", param="mask", code="invalid_mask")


async def _multipart(request: web.Request) -> Form:
    form = Form()
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise ValueError("nested")
            await _part(form, part.name, part)
    except (ValueError, AssertionError, RuntimeError) as exc:  # aiohttp's words for what is no multipart body
        raise Refusal("Could not parse multipart form.", code="invalid_multipart_form") from exc
    return form


async def _part(form: Form, name: str, part: BodyPartReader) -> None:
    if name in ("image", "image[]"):
        form.images.append(await _content(part, _LARGEST_IMAGE, "image"))
    elif name == "mask" and form.mask is None:
        form.mask = await _content(part, _LARGEST_MASK, "mask")
    elif name == "markup" and form.markup is None:
        form.markup = await _content(part, _LARGEST_IMAGE, "markup")
    else:
        if hdrs.CONTENT_DISPOSITION in part.headers and part.filename is not None:
            raise Refusal(f"Invalid type for '{name}': expected a string, but got a file instead.", param=name)
        text = (await _content(part, _LONGEST_FIELD, name)).decode("utf-8", "replace")
        _put(form.body, name, text)


async def _content(part: BodyPartReader, limit: int, name: str) -> bytes:
    """A part's bytes; what is beyond the limit is read off and not kept."""
    kept = bytearray()
    while piece := await part.read_chunk(2**16):
        if len(kept) <= limit:
            kept += piece
    if len(kept) > limit:
        message = f"Invalid file '{name}': file is too large, it must be less than {limit // 10**6} MB."
        raise Refusal(message, param=name, code="file_too_large")
    return bytes(kept)


def _put(body: dict[str, Any], name: str, text: str) -> None:
    """A form's field as JSON would have it; brackets are nested objects."""
    value: Any = text
    if name in _NUMBERS and text.lstrip("-").isdecimal() and len(text) < 10:
        value = int(text)
    elif name == "stream" and text in ("true", "false"):
        value = text == "true"
    found = _BRACKETS.fullmatch(name)
    if not found:
        body[name] = value
        return
    place = body
    keys: list[str] = [found[1], *found[2][1:-1].split("][")]
    for key in keys[:-1]:
        inner = place.setdefault(key, {})
        if not isinstance(inner, dict):
            raise fields.unknown(name)
        place = inner
    place[keys[-1]] = value


async def _json(request: web.Request) -> Form:
    body = dict(await fields.read(request))
    form = Form(body)
    images = body.pop("images", None)
    if images is not None:
        if not isinstance(images, list):
            raise fields.wrong_type("images", "an array", images)
        form.images = [_referred(request, one, f"images[{at}]") for at, one in enumerate(images)]
    for name in ("mask", "markup"):
        if (one := body.pop(name, None)) is not None:
            setattr(form, name, _referred(request, one, name))
    return form


def _referred(request: web.Request, reference: object, name: str) -> bytes:
    """The picture behind an image_url or a file_id."""
    if not isinstance(reference, Mapping):
        raise fields.wrong_type(name, "an object", reference)
    url, file_id = reference.get("image_url"), reference.get("file_id")
    if (url is None) == (file_id is None):
        message = f"Invalid '{name}': exactly one of 'image_url' and 'file_id' is expected."
        raise Refusal(message, param=name, code="invalid_value")
    if file_id is not None:
        found = request.app[STORED].files.get(str(file_id))
        if found is None:
            raise Refusal(f"No such File object: {file_id}", param=name, code="file_not_found", status=404)
        return found[1]
    if not isinstance(url, str):
        raise fields.wrong_type(f"{name}.image_url", "a string", url)
    if len(url) > _LONGEST_URL:
        raise Refusal(f"Invalid '{name}.image_url': string too long.", param=name, code="string_above_max_length")
    head, _, data = url.partition(",")
    if head.startswith("data:") and head.endswith(";base64"):
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as exc:
            message = f"Invalid '{name}.image_url'. Expected a base64-encoded data URL with an image MIME type."
            raise Refusal(message, param=name, code="invalid_base64") from exc
    # The sandbox is offline, and an upstream that fetches what it is told to is a hole in somebody's network.
    raise Refusal(f"Error while downloading {url[:200]}.", param=name, code="failed_to_download_image")
