"""The official client without asyncio, by the examples of its own documentation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from openai import OpenAI
from PIL import Image

from .asking import data_url
from .running import running

DRAW: Any = {"type": "image_generation", "size": "64x64"}


def chat(client: OpenAI) -> str | None:
    completion = client.chat.completions.create(
        messages=[{"role": "user", "content": "Say this is a test"}], model="gpt-5.5"
    )
    return completion.choices[0].message.content


def chat_stream(client: OpenAI) -> str:
    messages: Any = [{"role": "user", "content": "Say this is a test"}]
    with client.chat.completions.stream(model="gpt-5.5", messages=messages) as stream:
        return "".join(event.delta for event in stream if event.type == "content.delta")


def responses(client: OpenAI) -> str:
    return client.responses.create(model="gpt-5.5", input="Say this is a test").output_text


def responses_vision(client: OpenAI) -> str:
    parts: Any = [
        {"type": "input_text", "text": "Say this is a test"},
        {"type": "input_image", "image_url": data_url(Image.new("RGB", (32, 16)))},
    ]
    said = client.responses.create(model="gpt-5.5", input=[{"role": "user", "content": parts}]).output_text
    return said.removesuffix(" [image 32x16 png]")


def responses_stream(client: OpenAI) -> str:
    stream = client.responses.create(model="gpt-5.5", input="Say this is a test", stream=True)
    return "".join(event.delta for event in stream if event.type == "response.output_text.delta")


def responses_image(client: OpenAI) -> str:
    with client.responses.stream(model="gpt-5.5", input="Draw a test", tools=[DRAW]) as stream:
        final = stream.get_final_response()
    again = client.responses.create(model="gpt-5.5", previous_response_id=final.id, input="Say this is a test")
    assert final.output[0].type == "image_generation_call" and final.output[0].result
    return again.output_text


def images(client: OpenAI) -> str:
    answer = client.images.generate(model="gpt-image-2", prompt="Say this is a test", size="64x64")
    assert answer.data is not None and answer.data[0].b64_json is not None
    return chat(client) or ""


def moderations_and_embeddings(client: OpenAI) -> str:
    assert client.moderations.create(input="flag:hate").results[0].categories.hate
    made = client.embeddings.create(input="a test", model="text-embedding-3-small", encoding_format="float")
    assert len(made.data[0].embedding) == 1536
    return responses(client)


@pytest.mark.parametrize(
    "example",
    [
        chat,
        chat_stream,
        responses,
        responses_vision,
        responses_stream,
        responses_image,
        images,
        moderations_and_embeddings,
    ],
    ids=lambda example: example.__name__,
)
async def test_an_example_gets_the_answer_it_expects(example: Callable[[OpenAI], str | None]) -> None:
    def main(base_url: str) -> str | None:
        with OpenAI(base_url=base_url, api_key="sk-me", max_retries=0, _strict_response_validation=True) as client:
            return example(client)

    async with running() as base_url:
        said = await asyncio.to_thread(main, base_url)
    assert said == "This is the sandbox. You said: Say this is a test"
