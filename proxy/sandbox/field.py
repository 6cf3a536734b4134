"""Reading a JSON body, one named field at a time, with OpenAI's words for what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from .refusal import Refusal

Body = Mapping[str, Any]

_KINDS = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
}


async def read(request: web.Request) -> Body:
    """The request's body as an object."""
    if request.content_type != "application/json":
        # Strict on purpose: a proxy that loses the content type works everywhere but in production.
        raise Refusal(f"Invalid Content-Type header ({request.content_type}), expected application/json.")
    try:
        body = orjson.loads(await request.read())
    except (orjson.JSONDecodeError, web.RequestPayloadError) as exc:  # the second: it isn't what content-encoding says
        raise Refusal("We could not parse the JSON body of your request.") from exc
    if not isinstance(body, dict):
        raise Refusal(f"Invalid type for the request body: expected an object, but got {_kind(body)} instead.")
    return body


def text(body: Body, name: str, default: str | None = None) -> str | None:
    """A string; null counts as absent, as in every field here."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise wrong_type(name, "a string", value)
    return value


def flag(body: Body, name: str) -> bool:
    """A boolean, false when absent."""
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise wrong_type(name, "a boolean", value)
    return value


def whole(body: Body, name: str, low: int, high: int, default: int) -> int:
    """An integer between two bounds."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an integer", value)
    if value < low:
        message = f"integer below minimum value. Expected a value >= {low}, but got {value} instead."
        raise Refusal(f"Invalid '{name}': {message}", param=name, code="integer_below_min_value")
    if value > high:
        message = f"integer above maximum value. Expected a value <= {high}, but got {value} instead."
        raise Refusal(f"Invalid '{name}': {message}", param=name, code="integer_above_max_value")
    return value


def choice(body: Body, name: str, allowed: Sequence[str], default: str) -> str:
    """One word out of a closed set."""
    value = text(body, name, default) or ""
    if value not in allowed:
        supported = ", ".join(f"'{word}'" for word in allowed)
        raise Refusal(f"Invalid value: '{value}'. Supported values are: {supported}.", param=name, code="invalid_value")
    return value


def missing(name: str) -> Refusal:
    """A required field isn't there."""
    return Refusal(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def unknown(name: str) -> Refusal:
    """A field that the endpoint doesn't have."""
    return Refusal(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def wrong_type(name: str, expected: str, value: object) -> Refusal:
    """A field of the wrong JSON type."""
    message = f"Invalid type for '{name}': expected {expected}, but got {_kind(value)} instead."
    return Refusal(message, param=name, code="invalid_type")


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "null")
