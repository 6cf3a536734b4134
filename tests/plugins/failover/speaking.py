"""The six ways of asking, by the official Python SDK with its own retries on, and what a program made of the answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Awaitable, Callable
from typing import Any

import openai
from openai import AsyncOpenAI
from PIL import Image


def picture(size: int) -> bytes:
    """A PNG."""
    out = io.BytesIO()
    Image.new("RGB", (size, size), "teal").save(out, "PNG")
    return out.getvalue()


def _drawn(encoded: str | None) -> str:
    """Whether there is a picture in it."""
    if not encoded:
        return "nothing"
    try:
        Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))).load()
    except (ValueError, OSError):
        return "junk"
    return "answer"


async def _generate(client: AsyncOpenAI) -> str:
    answer = await client.images.generate(model="gpt-image-2", prompt="tea", size="64x64")
    return _drawn(answer.data[0].b64_json) if answer.data else "nothing"


async def _edit(client: AsyncOpenAI) -> str:
    files = [(f"{n}.png", picture(32 + n), "image/png") for n in range(3)]
    answer = await client.images.edit(model="gpt-image-2", prompt="tea", size="64x64", image=files)
    return _drawn(answer.data[0].b64_json) if answer.data else "nothing"


async def _images_sse(client: AsyncOpenAI) -> str:
    stream: Any = await client.images.generate(
        model="gpt-image-2", prompt="tea", size="64x64", stream=True, partial_images=2
    )
    last = None
    async for event in stream:
        last = event
    if last is None:
        return "nothing"
    return _drawn(last.b64_json) if last.type == "image_generation.completed" else "no end"


async def _responses(client: AsyncOpenAI) -> str:
    answer = await client.responses.create(
        model="gpt-5-mini",
        input="tea",
        tools=[{"type": "image_generation", "size": "64x64"}],  # type: ignore[list-item]
        tool_choice={"type": "image_generation"},
    )
    calls = [item for item in answer.output or () if item.type == "image_generation_call"]
    return _drawn(calls[0].result) if calls else "nothing"


async def _chat(client: AsyncOpenAI) -> str:
    answer = await client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hello"}])
    return "answer" if answer.choices and answer.choices[0].message.content else "nothing"


async def _chat_sse(client: AsyncOpenAI) -> str:
    stream = await client.chat.completions.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    finish = None
    words = 0
    async for chunk in stream:
        for choice in chunk.choices or ():
            words += bool(choice.delta.content)
            finish = choice.finish_reason or finish
    return ("answer" if finish else "no end") if words else "nothing"


ASK: dict[str, Callable[[AsyncOpenAI], Awaitable[str]]] = {
    "generate": _generate,
    "edit": _edit,
    "images-sse": _images_sse,
    "responses": _responses,
    "chat": _chat,
    "chat-sse": _chat_sse,
}


async def ask(client: AsyncOpenAI, base_url: str, operation: str) -> str:
    """One question; what the program was left with, in a word."""
    try:
        return await ASK[operation](client.with_options(base_url=base_url))
    except openai.APIStatusError as error:
        return f"{error.status_code} {error.code}"
    except openai.APIConnectionError:
        return "cut"
    except openai.APIError as error:
        return f"error {error.code}"
