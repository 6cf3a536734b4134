"""The sandbox as OpenAI's own client sees it."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable
from typing import TypeVar

import openai
import pytest
from openai import AsyncOpenAI
from PIL import Image

from .running import running

T = TypeVar("T")


def ask(question: Callable[[AsyncOpenAI], Awaitable[T]]) -> T:
    async def main() -> T:
        async with running() as base_url:
            async with AsyncOpenAI(base_url=base_url, api_key="sk-test-nothing", max_retries=0) as client:
                return await question(client)

    return asyncio.run(main())


def opened(b64_json: str | None) -> Image.Image:
    assert b64_json is not None
    image = Image.open(io.BytesIO(base64.b64decode(b64_json, validate=True)))
    image.load()
    return image


def test_draws_a_png_of_1024_by_1024_when_nothing_else_is_asked() -> None:
    answer = ask(lambda client: client.images.generate(prompt="a red fox", model="gpt-image-2"))
    assert answer.data is not None
    (image,) = answer.data
    picture = opened(image.b64_json)
    assert (picture.format, picture.size) == ("PNG", (1024, 1024))
    assert image.url is None
    assert (answer.size, answer.output_format, answer.background) == ("1024x1024", "png", "opaque")
    assert answer.quality == "medium"


def test_counts_tokens_that_add_up_and_grow_with_what_was_asked() -> None:
    async def both(client: AsyncOpenAI) -> tuple[openai.types.ImagesResponse, openai.types.ImagesResponse]:
        one = await client.images.generate(prompt="a" * 40, model="gpt-image-2", quality="low", size="1024x1024")
        two = await client.images.generate(prompt="a" * 40, model="gpt-image-2", quality="low", size="1024x1024", n=2)
        return one, two

    one, two = ask(both)
    assert one.usage is not None and two.usage is not None and two.data is not None
    assert (one.usage.input_tokens, one.usage.output_tokens, one.usage.total_tokens) == (10, 196, 206)
    assert one.usage.input_tokens_details.text_tokens == 10
    assert (two.usage.input_tokens, two.usage.output_tokens) == (10, 392)
    assert len({image.b64_json for image in two.data}) == 2, "each picture of a request looks different"


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", ["512x256", "256x768", "400x400"])
def test_draws_the_size_and_the_format_that_were_asked_for(output_format: str, size: str) -> None:
    extra = {"output_format": output_format}
    answer = ask(lambda c: c.images.generate(prompt="a fox", model="gpt-image-2", size=size, extra_body=extra))
    assert answer.data is not None
    picture = opened(answer.data[0].b64_json)
    assert picture.format == output_format.upper()
    assert f"{picture.width}x{picture.height}" == answer.size == size
    assert answer.output_format == output_format


@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_a_transparent_background_is_transparent(output_format: str) -> None:
    extra = {"output_format": output_format, "background": "transparent"}
    answer = ask(lambda c: c.images.generate(prompt="a fox", model="gpt-image-2", size="256x256", extra_body=extra))
    assert answer.data is not None and answer.background == "transparent"
    picture = opened(answer.data[0].b64_json)
    assert picture.mode == "RGBA"
    assert picture.getpixel((0, 0))[3] == 0  # type: ignore[index]
    assert picture.getpixel((128, 128))[3] == 255  # type: ignore[index]


def test_a_stronger_compression_makes_fewer_bytes() -> None:
    async def lengths(client: AsyncOpenAI) -> list[int]:
        found = []
        for compression in (100, 10):
            answer = await client.images.generate(
                prompt="a fox",
                model="gpt-image-2",
                size="512x512",
                output_format="jpeg",
                output_compression=compression,
            )
            assert answer.data is not None and answer.data[0].b64_json is not None
            found.append(len(answer.data[0].b64_json))
        return found

    fine, coarse = ask(lengths)
    assert coarse < fine / 2


def test_says_back_the_last_user_message() -> None:
    async def twice(client: AsyncOpenAI) -> list[openai.types.chat.ChatCompletion]:
        return [
            await client.chat.completions.create(
                model="gpt-5-mini",
                messages=[
                    {"role": "user", "content": "first"},
                    {"role": "assistant", "content": "aye"},
                    {"role": "user", "content": [{"type": "text", "text": "the tide is high"}]},
                ],
            )
            for _ in range(2)
        ]

    one, two = ask(twice)
    assert one.choices[0].message.content == two.choices[0].message.content
    assert "the tide is high" in (one.choices[0].message.content or "")
    assert "first" not in (one.choices[0].message.content or "")
    assert one.choices[0].finish_reason == "stop"
    assert one.usage is not None
    assert one.usage.total_tokens == one.usage.prompt_tokens + one.usage.completion_tokens > 0
    assert one.id != two.id


@pytest.mark.parametrize("include_usage", [True, False])
def test_streams_the_words_that_it_would_have_said_at_once(include_usage: bool) -> None:
    async def both(client: AsyncOpenAI) -> tuple[str, list[openai.types.chat.ChatCompletionChunk]]:
        said = "one two three four five six seven eight"
        whole = await client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": said}])
        stream = await client.chat.completions.create(
            model="gpt-5",
            messages=[{"role": "user", "content": said}],
            stream=True,
            stream_options={"include_usage": include_usage},
        )
        return whole.choices[0].message.content or "", [chunk async for chunk in stream]

    whole, chunks = ask(both)
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == whole
    assert len([delta for delta in deltas if delta]) > 2
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert (chunks[-1].usage is not None) is include_usage
    assert [bool(chunk.choices) for chunk in chunks].count(False) == int(include_usage)


def test_lists_its_models_and_shows_each() -> None:
    async def all_of_them(client: AsyncOpenAI) -> list[openai.types.Model]:
        return [await client.models.retrieve(model.id) async for model in client.models.list()]

    models = ask(all_of_them)
    names = {model.id for model in models}
    assert {"gpt-image-2", "gpt-image-2.6-sunburst", "gpt-image-2.5-flare-2026-09-08", "gpt-5-mini"} <= names
    assert not {"dall-e-3", "gpt-image-1"} & names
    assert all(model.object == "model" and model.owned_by == "system" for model in models)


def test_a_refusal_is_the_exception_that_openai_would_cause() -> None:
    async def refused(client: AsyncOpenAI) -> openai.BadRequestError:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.images.generate(prompt="a fox", model="gpt-image-2", response_format="url")
        return caught.value

    error = ask(refused)
    assert (error.code, error.param, error.type) == ("unknown_parameter", "response_format", "invalid_request_error")
    assert error.request_id is not None and error.request_id.startswith("req_")


def test_a_model_that_is_not_there_is_not_found() -> None:
    async def refused(client: AsyncOpenAI) -> list[str | None]:
        codes = []
        with pytest.raises(openai.NotFoundError) as caught:
            await client.images.generate(prompt="a fox", model="dall-e-3")
        codes.append(caught.value.code)
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("ft:gpt-5:acme::1")
        codes.append(caught.value.code)
        return codes

    assert ask(refused) == ["model_not_found", "model_not_found"]
