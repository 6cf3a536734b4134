"""POST /v1/moderations: texts and a picture, judged by the markers in them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from .. import field, markers
from ..answer import Answer, Route, told
from ..refusal import Refusal, unknown_model
from ..talk import known, sight
from ..talk.verdict import verdict
from . import models

_FIELDS = {"input": known.TEXT_OR_LIST, "model": known.TEXT}
_DEFAULT = "omni-moderation-latest"
_OLD = "text-moderation-"
_OLD_ANSWERS_AS = "text-moderation-007"
_LARGEST_IMAGE = 20 * 2**20
# Seen in April 2026: "Number of images (2) exceeds maximum of 1". The documentation names no number.
_MOST_IMAGES = 1


async def create(request: web.Request) -> Answer:
    """A list of strings is judged one by one, a list of parts as a whole."""
    body = await field.read(request)
    known.check(body, _FIELDS)
    asked = known.required(body, "input", known.TEXT_OR_LIST)
    model = field.text(body, "model") or _DEFAULT
    if model not in models.MODERATION:
        raise unknown_model(model)
    old = model.startswith(_OLD)
    results = [verdict(texts, pictures, old=old) for texts, pictures in await _parted(asked, old)]
    return told({"id": f"modr-{uuid.uuid4().hex}", "model": _OLD_ANSWERS_AS if old else model, "results": results})


async def _parted(asked: str | list[Any], old: bool) -> list[tuple[Sequence[str], Sequence[tuple[str, ...]]]]:
    """What each result is about: texts, and what is marked in pictures."""
    if isinstance(asked, str):
        return [((asked,), ())]
    if not asked:
        raise known.empty("input")
    if isinstance(asked[0], str):
        for at, text in enumerate(asked):
            if not isinstance(text, str):
                raise field.wrong_type(f"input[{at}]", "a string", text)
        return [((text,), ()) for text in asked]
    parts = list(known.objects(asked, "input"))
    if old:
        message = "Invalid type for 'input': expected one of a string or array of strings, but got an array instead."
        raise Refusal(message, param="input", code="invalid_type")
    return [await _whole(parts)]


async def _whole(parts: list[tuple[str, dict[str, Any]]]) -> tuple[list[str], list[tuple[str, ...]]]:
    texts: list[str] = []
    urls: list[tuple[str, str]] = []
    for name, part in parts:
        kind = known.required(part, "type", known.TEXT, f"{name}.")
        known.supported(kind, ("text", "image_url"), f"{name}.type")
        if kind == "text":
            known.check(part, {"type": known.TEXT, "text": known.TEXT}, f"{name}.")
            texts.append(known.required(part, "text", known.TEXT, f"{name}."))
        else:
            known.check(part, {"type": known.TEXT, "image_url": known.OBJECT}, f"{name}.")
            image = known.required(part, "image_url", known.OBJECT, f"{name}.")
            param = f"{name}.image_url.url"
            urls.append((param, known.required(image, "url", known.TEXT, f"{name}.image_url.")))
    if len(urls) > _MOST_IMAGES:
        message = f"Number of images ({len(urls)}) exceeds maximum of {_MOST_IMAGES}"
        raise Refusal(message, param="input", code="too_many_images")
    # Off the loop: twenty megabytes of picture take their time.
    return texts, [await asyncio.to_thread(_marked, url, param) for param, url in urls]


def _marked(url: str, param: str) -> tuple[str, ...]:
    data = sight.fetched(url, param)
    if len(data) > _LARGEST_IMAGE:
        message = f"Invalid '{param}'. The image is larger than {_LARGEST_IMAGE // 2**20} MB."
        raise Refusal(message, param=param, code="image_too_large")
    return markers.flagged_image(sight.loaded(data, param))


ROUTES: tuple[Route, ...] = (("POST", "/v1/moderations", create),)
