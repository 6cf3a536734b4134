"""POST /v1/embeddings: vectors of length one, made from a hash, so that the same text always has the same."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import sys
from array import array
from typing import Any

from aiohttp import web

from .. import field, usage
from ..answer import Answer, Route, told
from ..refusal import Refusal, unknown_model
from ..talk import known
from . import models

_FIELDS = {
    "input": known.TEXT_OR_LIST,
    "model": known.TEXT,
    "dimensions": known.WHOLE.between(1, math.inf),
    "encoding_format": known.TEXT,
    "user": known.TEXT,
}
_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
_FIXED = "text-embedding-ada-002"
_MOST_INPUTS = 2048
_MOST_TOKENS = 8192


async def create(request: web.Request) -> Answer:
    """One vector for each input, in their order."""
    body = await field.read(request)
    known.check(body, _FIELDS)
    asked = known.required(body, "input", known.TEXT_OR_LIST)
    model = known.required(body, "model", known.TEXT)
    if model not in models.EMBEDDING:
        raise unknown_model(model)
    inputs = _inputs(asked)
    dimensions = _dimensions(body, model)
    packed = field.choice(body, "encoding_format", ("float", "base64"), default="float") == "base64"
    spent = 0
    for at, one in enumerate(inputs):
        count = usage.text_tokens(one) if isinstance(one, str) else len(one)
        if count > _MOST_TOKENS:
            message = f"Invalid 'input[{at}]': maximum input length is {_MOST_TOKENS} tokens, but this one has {count}."
            raise Refusal(message, param="input", code="string_above_max_length")
        spent += count
    # Off the loop: two thousand inputs take seconds.
    data = await asyncio.to_thread(_all, inputs, model, dimensions, packed)
    return told(
        {
            "object": "list",
            "data": data,
            "model": model,
            "usage": {"prompt_tokens": spent, "total_tokens": spent},
        },
        billed=True,
    )


def _all(inputs: list[str | list[int]], model: str, dimensions: int, packed: bool) -> list[dict[str, Any]]:
    found = []
    for index, one in enumerate(inputs):
        numbers = vector(one, model, dimensions)
        shown = _packed(numbers) if packed else numbers.tolist()
        found.append({"object": "embedding", "index": index, "embedding": shown})
    return found


def vector(one: str | list[int], model: str, dimensions: int) -> array[float]:
    """The vector of one input; a shorter one is the head of the longer, as OpenAI's are."""
    said = one.encode("utf-8", "replace") if isinstance(one, str) else repr(one).encode()
    drawn = array("h", hashlib.shake_256(model.encode() + b"\0" + said).digest(2 * dimensions))
    if sys.byteorder == "big":
        drawn.byteswap()
    length = math.sqrt(sum(number * number for number in drawn)) or 1.0
    # Single precision in both encodings, so that they tell the same.
    return array("f", [number / length for number in drawn])


def _packed(numbers: array[float]) -> str:
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers).decode("ascii")


def _dimensions(body: field.Body, model: str) -> int:
    full = _DIMENSIONS[model]
    asked = body.get("dimensions")
    if asked is None:
        return full
    if model == _FIXED:
        raise Refusal("This model does not support specifying dimensions.", param="dimensions")
    if asked > full:
        message = f"Invalid value for 'dimensions' = {asked}. Must be less than or equal to {full}."
        raise Refusal(message, param="dimensions", code="invalid_value")
    return int(asked)


def _inputs(asked: str | list[Any]) -> list[str | list[int]]:
    """The inputs one by one: a list of numbers is one input, given as tokens."""
    if isinstance(asked, str):
        inputs: list[Any] = [asked]
    elif asked and all(_is_token(one) for one in asked):
        inputs = [asked]
    else:
        inputs = asked
    texts = all(isinstance(one, str) for one in inputs)
    tokens = all(isinstance(one, list) and all(_is_token(token) for token in one) for one in inputs)
    if not inputs or not (texts or tokens):
        message = (
            "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
        )
        raise Refusal(message)
    if not all(inputs):
        raise Refusal("Invalid 'input': input cannot be an empty string.", param="input", code="invalid_value")
    if len(inputs) > _MOST_INPUTS:
        raise known.too_long("input", _MOST_INPUTS, len(inputs))
    return inputs


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


ROUTES: tuple[Route, ...] = (("POST", "/v1/embeddings", create),)
