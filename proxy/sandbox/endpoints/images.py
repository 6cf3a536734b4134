"""Pictures: POST /v1/images/generations, edits and variations; whole answers and streams."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web

from .. import field, usage
from ..answer import Answer, Events, Route, Said, event, told
from ..drawing import wanted as asked
from ..drawing.studio import Studio
from ..drawing.wanted import Wanted
from ..refusal import Refusal
from . import models, uploads

STUDIO = web.AppKey("studio", Studio)


async def generations(request: web.Request) -> Said:
    """Draws the prompt, as often as asked."""
    wanted = asked.read(await field.read(request), asked.GENERATION)
    return await _answer(request.app[STUDIO], wanted, "image_generation")


async def edits(request: web.Request) -> Said:
    """Shows the pictures that came in, the area that the mask leaves open, and the prompt."""
    form = await uploads.read(request)
    if form.markup is not None and not models.marks(field.text(form.body, "model") or "gpt-image-2"):
        raise Refusal("'markup' is not supported for this model.", param="markup", code="unsupported_parameter")
    if form.markup is not None and form.mask is not None:
        raise Refusal("'markup' can't be used with 'mask'.", param="markup", code="invalid_value")
    sources, mask = await uploads.sources(form)
    wanted = asked.read(form.body, asked.EDIT, sources, mask)
    return await _answer(request.app[STUDIO], wanted, "image_edit")


async def variations(request: web.Request) -> Said:
    """The endpoint went with DALL-E; it reads the upload, as the real one does, and refuses."""
    await uploads.read(request)
    raise Refusal(
        "The model 'dall-e-2' has been deprecated and image variations are no longer supported.",
        param="model",
        code="model_not_found",
        status=404,
    )


async def _answer(studio: Studio, wanted: Wanted, name: str) -> Said:
    if wanted.stream:
        return Events(_frames(studio, wanted, name), billed=True)
    drawn = []
    for index in range(wanted.n):
        # One after the other: several pictures at the largest size would hold hundreds of megabytes at once.
        drawn.append((await studio.pictures(wanted, index))[-1])
    return _whole(wanted, drawn)


def _whole(wanted: Wanted, drawn: Sequence[str]) -> Answer:
    output = wanted.n * usage.image_tokens(wanted.model, wanted.quality, wanted.width, wanted.height)
    answer: dict[str, Any] = {
        "created": int(time.time()),
        "background": wanted.background,
        "data": [{"b64_json": one} for one in drawn],
        "output_format": wanted.output_format,
        "quality": wanted.quality,
        "size": wanted.size,
        "usage": usage.of_images(wanted.prompt, output, _sizes(wanted)),
    }
    if wanted.output_format == "svg":
        answer["svg_usage"] = usage.of_svg(wanted.prompt, drawn[0], wanted.svg_model)
    if wanted.user:
        answer["safety_identifier"] = wanted.user
    return told(answer, billed=True)


async def _frames(studio: Studio, wanted: Wanted, name: str) -> AsyncIterator[bytes]:
    """Each picture's earlier states, then the picture, which says what all of it cost."""
    per_image = usage.image_tokens(wanted.model, wanted.quality, wanted.width, wanted.height)
    per_image += wanted.partials * usage.partial_tokens(wanted.model)
    for index in range(wanted.n):
        drawn = await studio.pictures(wanted, index)
        for number, one in enumerate(drawn):
            last = number == len(drawn) - 1
            kind = f"{name}.{'completed' if last else 'partial_image'}"
            value: dict[str, Any] = {
                "type": kind,
                "b64_json": one,
                "created_at": int(time.time()),
                "size": wanted.size,
                "quality": wanted.quality,
                "background": wanted.background,
                "output_format": wanted.output_format,
            }
            if last:
                value["usage"] = usage.of_images(wanted.prompt, per_image, _sizes(wanted), details=False)
                if wanted.user:
                    value["safety_identifier"] = wanted.user
            else:
                value["partial_image_index"] = number
            yield event(value, kind)


def _sizes(wanted: Wanted) -> list[tuple[int, int]]:
    pictures = wanted.sources if wanted.mask is None else (*wanted.sources, wanted.mask)
    return [(one.width, one.height) for one in pictures]


ROUTES: tuple[Route, ...] = (
    ("POST", "/v1/images/generations", generations),
    ("POST", "/v1/images/edits", edits),
    ("POST", "/v1/images/variations", variations),
)
