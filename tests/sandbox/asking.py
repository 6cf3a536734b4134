"""Asking a sandbox of one's own: by OpenAI's client with strict validation, and by plain HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp
from openai import AsyncOpenAI
from PIL import Image

from .running import running

T = TypeVar("T")


def ask(question: Callable[[AsyncOpenAI], Awaitable[T]]) -> T:
    """One conversation of the official client's; an answer that doesn't fit its types is an error."""

    async def main() -> T:
        async with running() as base_url, client(base_url) as asking:
            return await question(asking)

    return asyncio.run(main())


def client(base_url: str) -> AsyncOpenAI:
    """The official client, strict."""
    return AsyncOpenAI(base_url=base_url, api_key="sk-test-nothing", max_retries=0, _strict_response_validation=True)


def post_all(path: str, bodies: list[Any]) -> list[tuple[int, Any]]:
    """The status and the JSON answer of each body, from one sandbox."""

    async def main() -> list[tuple[int, Any]]:
        found = []
        async with running() as base_url, aiohttp.ClientSession() as session:
            for body in bodies:
                headers = {"Content-Type": "application/json"}
                async with session.post(
                    base_url + path, data=io.BytesIO(json.dumps(body).encode()), headers=headers
                ) as response:
                    found.append((response.status, await response.json()))
        return found

    return asyncio.run(main())


def refusals(path: str, bodies: list[Any]) -> list[tuple[int, str | None, str | None]]:
    """Status, parameter and code of each refusal, in OpenAI's envelope."""
    found = []
    for status, answer in post_all(path, bodies):
        assert set(answer) == {"error"}, answer
        error = answer["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert 0 < len(error["message"]) < 900 and error["type"] == "invalid_request_error", (
            bodies[len(found)],
            answer,
        )
        found.append((status, error["param"], error["code"]))
    return found


def encoded(image: Image.Image, output_format: str = "PNG", **options: Any) -> bytes:
    """A picture's bytes."""
    out = io.BytesIO()
    image.save(out, output_format, **options)
    return out.getvalue()


def data_url(image: Image.Image, output_format: str = "PNG") -> str:
    """A picture as a data URL."""
    data = base64.b64encode(encoded(image, output_format)).decode()
    return f"data:image/{output_format.lower()};base64,{data}"
