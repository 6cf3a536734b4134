"""Endpoints that show what came in, so that what stands before the endpoints can be seen at work on other shapes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from proxy.sandbox.answer import Answer, Events, Route, Said, event, told

from .plain import post


async def _spoken(request: web.Request) -> Answer:
    """Says back a form's fields, files by their length, reading part by part."""
    reader = await request.multipart()
    fields: dict[str, object] = {}
    async for part in reader:
        content = await part.read()  # type: ignore[union-attr]
        fields[part.name or ""] = len(content) if part.filename else content.decode()  # type: ignore[union-attr]
    return told(fields, billed=True)


async def _response(request: web.Request) -> Said:
    """A Responses stream, as OpenAI's with a picture in it, with what was asked at its end."""
    body = await request.json()
    item = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGVsbG8="}

    async def frames() -> AsyncIterator[bytes]:
        values: tuple[dict[str, Any], ...] = (
            {"type": "response.created", "response": {"id": "resp_1", "output": []}},
            {"type": "response.image_generation_call.partial_image", "partial_image_b64": "aGVs"},
            {"type": "response.output_item.done", "item": item},
            {"type": "response.completed", "response": {"id": "resp_1", "output": [item], "asked": body}},
        )
        for number, value in enumerate(values):
            yield event({**value, "sequence_number": number}, str(value["type"]))

    return Events(frames(), billed=True)


ROUTES: tuple[Route, ...] = (("POST", "/v1/images/spoken", _spoken), ("POST", "/v1/responses/drawn", _response))


def form(model: str, picture: bytes = b"PNG" * 1000, first: str = "model") -> bytes:
    """A form with a file in it; `first` says which comes first."""
    one = f'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'.encode()
    two = b'--x\r\nContent-Disposition: form-data; name="image"; filename="upload"\r\n\r\n' + picture + b"\r\n"
    both = one + two if first == "model" else two + one
    return both + b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na fox\r\n--x--\r\n'


def multipart(body: bytes) -> bytes:
    return post("/v1/images/spoken", body, Connection="close", Content_Type="multipart/form-data; boundary=x")
