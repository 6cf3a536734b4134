"""What a body asks for, as far as faults, limits and latency must know before the endpoint reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from .heard import Heard, inflate
from .refusal import Refusal, too_large

FAULT = "fault-"  # how a model's name asks for a fault
# The models that a fault's name stands for, so that the endpoint can do its genuine work.
_GENUINE = {"images": "gpt-image-2", "embeddings": "text-embedding-3-small", "moderations": "omni-moderation-latest"}
_ELSEWHERE = "gpt-5-mini"
_PART = re.compile(
    rb'name="?(model|n|size|quality|stream|partial_images)"?(?:;[^\r\n]*)?\r\n'
    rb"(?:[^\r\n]+\r\n)*\r\n([^\r\n]{0,200})\r\n--"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The few fields that matter, each with OpenAI's default."""

    model: str | None = None
    fault: str | None = None  # named by the model, without the prefix
    pictures: int = 0  # how many are to be drawn
    quality: str = "auto"
    size: str = "auto"
    partials: int = 0


async def look(request: web.Request, heard: Heard, kind: str, *, thoroughly: bool) -> Asked:
    """Looks into the body. A model named after a fault is exchanged for a genuine one.

    Of a multipart body only the first 256 KiB are looked at: fields that come behind big files are not seen. A JSON
    body is parsed only when somebody needs what is in it (`thoroughly`) or when a fault may be named in it.
    """
    if not request.body_exists:
        return Asked()
    if request.content_type == "multipart/form-data":
        return await _form(heard, kind)
    if request.content_type == "application/json":
        return await _json(request, heard, kind, thoroughly)
    return Asked(pictures=_pictures(kind, {}))


async def _json(request: web.Request, heard: Heard, kind: str, thoroughly: bool) -> Asked:
    try:
        body = await request.read()
    except web.RequestPayloadError:
        return Asked()  # whoever reads it next meets the same
    except web.HTTPRequestEntityTooLarge as exc:
        raise too_large() from exc  # here: another read would take the rest for the whole
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity" and not heard.inflated:
        limit = request.client_max_size
        try:
            body = inflate(body, encoding, limit)
        except ValueError as exc:
            raise Refusal("We could not parse the JSON body of your request.") from exc
        if len(body) > limit:
            raise too_large()
        request._read_bytes = body
    named = FAULT.encode() in body
    if not named and not thoroughly:
        return Asked()
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Asked()  # the endpoint has the words for it
    if not isinstance(value, dict):
        return Asked()
    fault = _exchange(value, kind) if named else None
    if fault is not None:
        request._read_bytes = orjson.dumps(value)
    return _asked(value, kind, fault)


def _exchange(value: dict[str, Any], kind: str) -> str | None:
    """The fault that a model is named after, here or in a tool; the name is overwritten."""
    tools = value.get("tools")
    places = [(value, kind)]
    if isinstance(tools, list):
        places += [(tool, "images") for tool in tools if isinstance(tool, dict)]
    for place, sort in places:
        model = place.get("model")
        if isinstance(model, str) and model.startswith(FAULT):
            place["model"] = _GENUINE.get(sort, _ELSEWHERE)
            return model.removeprefix(FAULT)
    return None


async def _form(heard: Heard, kind: str) -> Asked:
    seen = await heard.peek()
    fields: dict[str, Any] = {}
    fault = None
    for part in _PART.finditer(seen):
        name, text = part[1].decode("ascii"), part[2].decode("utf-8", "replace")
        fields[name] = text
        if name == "model" and text.startswith(FAULT) and fault is None:
            fields[name] = _GENUINE.get(kind, _ELSEWHERE)
            fault = text.removeprefix(FAULT)
            where = part.span(2)
    if fault is not None:
        heard.change(*where, fields["model"].encode())
    return _asked(fields, kind, fault)


def _asked(fields: dict[str, Any], kind: str, fault: str | None) -> Asked:
    model = fields.get("model")
    tool = _tool(fields)
    drawn = fields if kind == "images" else tool or {}
    quality, size = drawn.get("quality"), drawn.get("size")
    return Asked(
        model=model if isinstance(model, str) else None,
        fault=fault,
        pictures=1 if tool is not None else _pictures(kind, fields),
        quality=quality if isinstance(quality, str) else "auto",
        size=size if isinstance(size, str) else "auto",
        partials=_whole(drawn.get("partial_images"), 0, 3, 0),
    )


def _tool(fields: dict[str, Any]) -> dict[str, Any] | None:
    tools = fields.get("tools")
    found = (one for one in tools if isinstance(one, dict)) if isinstance(tools, list) else ()
    return next((one for one in found if one.get("type") == "image_generation"), None)


def _pictures(kind: str, fields: dict[str, Any]) -> int:
    return _whole(fields.get("n"), 1, 10, 1) if kind == "images" else 0


def _whole(value: object, low: int, high: int, default: int) -> int:
    """A count that makes sense; whatever else it is, the endpoint will refuse."""
    if isinstance(value, str) and value.isdecimal() and value.isascii():
        value = int(value[:4])
    return value if isinstance(value, int) and low <= value <= high else default
