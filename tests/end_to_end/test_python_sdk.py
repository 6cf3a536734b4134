"""The official Python SDK through the proxy: what it sends and what it hears is what it would without."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from . import openai_answers as told
from .openai_answers import PICTURE
from .raw import Message
from .tee import passage

MESSAGES: Any = [{"role": "user", "content": "Grüße, 世界"}]


@dataclass(frozen=True, slots=True)
class Operation:
    """A call, the upstream's answer, and what must be seen in the request, lest nothing be compared with nothing."""

    call: Callable[[Any], Any]
    answer: bytes
    line: bytes
    seen: Callable[[Message], object]


def png(name: str, size: int = 20_000) -> tuple[str, io.BytesIO, str]:
    return (name, io.BytesIO(PICTURE[:size]), "image/png")


def header(name: bytes, value: bytes) -> Callable[[Message], bool]:
    return lambda message: message.all(name) == [value]


def inside(*parts: bytes) -> Callable[[Message], bool]:
    return lambda message: all(part in message.body for part in parts)


OPERATIONS: dict[str, Operation] = {
    "images.generate": Operation(
        lambda c: c.images.generate(prompt="ein Fuchs, rötlich", model="gpt-image-2", size="1024x1024", n=1),
        told.IMAGES,
        b"POST /v1/images/generations HTTP/1.1",
        inside("rötlich".encode()),
    ),
    "images.generate, streamed": Operation(
        lambda c: c.images.generate(prompt="a fox", model="gpt-image-2", stream=True, partial_images=1),
        told.IMAGE_STREAM,
        b"POST /v1/images/generations HTTP/1.1",
        inside(b'"stream":true'),
    ),
    "images.edit, one image": Operation(
        lambda c: c.images.edit(image=png("a.png"), prompt="a hat", model="gpt-image-2"),
        told.IMAGES,
        b"POST /v1/images/edits HTTP/1.1",
        inside(b'name="image"; filename="a.png"', PICTURE[:20_000]),
    ),
    "images.edit, three images and a mask": Operation(
        lambda c: c.images.edit(
            image=[png("a.png"), png("b.png", 300_000), png("ä.png", 1)], mask=png("m.png"), prompt="a hat"
        ),
        told.IMAGES,
        b"POST /v1/images/edits HTTP/1.1",
        inside(b'name="image[]"; filename="b.png"', b'name="mask"; filename="m.png"'),
    ),
    "chat": Operation(
        lambda c: c.chat.completions.create(model="gpt-5-mini", messages=MESSAGES),
        told.CHAT,
        b"POST /v1/chat/completions HTTP/1.1",
        lambda message: b"gzip" in message.all(b"accept-encoding")[0],
    ),
    "chat, streamed": Operation(
        lambda c: c.chat.completions.create(model="gpt-5-mini", messages=MESSAGES, stream=True),
        told.CHAT_STREAM,
        b"POST /v1/chat/completions HTTP/1.1",
        inside("世界".encode()),
    ),
    "responses.create": Operation(
        lambda c: c.responses.create(model="gpt-5", input="hi", tools=[{"type": "image_generation"}]),
        told.RESPONSE,
        b"POST /v1/responses HTTP/1.1",
        inside(b"image_generation"),
    ),
    "responses.retrieve, query arrays and an escaped id": Operation(
        lambda c: c.responses.retrieve(
            "resp_a/b%20c", include=["message.input_image.image_url", "x"], extra_query={"o": {"k": "v w"}}
        ),
        told.RESPONSE,
        b"GET /v1/responses/resp_a%2Fb%2520c?include%5B%5D=message.input_image.image_url&include%5B%5D=x&o%5Bk%5D=v+w"
        b" HTTP/1.1",
        header(b"accept", b"application/json"),
    ),
    "embeddings": Operation(
        lambda c: c.embeddings.create(model="text-embedding-3-small", input=["a", "b"]),
        told.EMBEDDING,
        b"POST /v1/embeddings HTTP/1.1",
        inside(b'"encoding_format":"base64"'),
    ),
    "audio.speech": Operation(
        lambda c: c.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="hello"),
        told.AUDIO,
        b"POST /v1/audio/speech HTTP/1.1",
        header(b"accept", b"application/octet-stream"),
    ),
    "audio.transcriptions": Operation(
        lambda c: c.audio.transcriptions.create(model="whisper-1", file=("a.mp3", PICTURE * 40)),
        told.TRANSCRIPT,
        b"POST /v1/audio/transcriptions HTTP/1.1",
        inside(PICTURE * 40),
    ),
    "files.create": Operation(
        lambda c: c.files.create(file=("a.jsonl", b'{"a": 1}\n'), purpose="batch"),
        told.FILE,
        b"POST /v1/files HTTP/1.1",
        inside(b'{"a": 1}\n'),
    ),
    "files.content": Operation(
        lambda c: c.files.content("file-1"),
        told.CONTENT,
        b"GET /v1/files/file-1/content HTTP/1.1",
        header(b"accept", b"application/binary"),
    ),
    "models.list": Operation(
        lambda c: c.models.list(), told.MODELS, b"GET /v1/models HTTP/1.1", header(b"authorization", b"Bearer sk-me")
    ),
    "models.delete, an id with colons": Operation(
        lambda c: c.models.delete("ft:gpt-x:org::id"),
        told.DELETED,
        b"DELETE /v1/models/ft:gpt-x:org::id HTTP/1.1",
        header(b"openai-organization", b"org-mine"),
    ),
    "an id with escaped colons": Operation(
        lambda c: c.delete("/models/ft%3Agpt-x%3Aorg%3A%3Aid", cast_to=object),
        told.DELETED,
        b"DELETE /v1/models/ft%3Agpt-x%3Aorg%3A%3Aid HTTP/1.1",
        header(b"accept", b"application/json"),
    ),
    "moderations": Operation(
        lambda c: c.moderations.create(input=["a", "b"], model="omni-moderation-latest"),
        told.MODERATION,
        b"POST /v1/moderations HTTP/1.1",
        header(b"openai-project", b"proj-mine"),
    ),
    "with_raw_response": Operation(
        lambda c: c.models.with_raw_response.list(),
        told.MODELS,
        b"GET /v1/models HTTP/1.1",
        header(b"x-stainless-raw-response", b"true"),
    ),
    "headers and a key of the caller's own": Operation(
        lambda c: c.images.generate(
            prompt="a fox",
            extra_headers={"Idempotency-Key": "once-1", "X-Forwarded-For": "10.0.0.1", "Cookie": "a=b", "X_Under": "1"},
            extra_body={"complexity": "high", "nested": {"a": [1.0, None]}},
            extra_query={"a": [1, 2], "tag": "x/y?z"},
        ),
        told.IMAGES,
        b"POST /v1/images/generations?a%5B%5D=1&a%5B%5D=2&tag=x%2Fy%3Fz HTTP/1.1",
        lambda m: header(b"idempotency-key", b"once-1")(m) and header(b"x_under", b"1")(m) and m.all(b"cookie"),
    ),
}


def settings(base_url: str) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "api_key": "sk-me",
        "organization": "org-mine",
        "project": "proj-mine",
        "max_retries": 0,
    }


def told_whole(result: Any) -> Any:
    return list(result) if isinstance(result, openai.Stream) else result


def ask(base_url: str, operation: Operation) -> Any:
    with OpenAI(**settings(base_url)) as client:
        return told_whole(operation.call(client))


async def aask(base_url: str, operation: Operation) -> Any:
    async with AsyncOpenAI(**settings(base_url)) as client:
        result = await operation.call(client)
        return [event async for event in result] if isinstance(result, openai.AsyncStream) else result


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_call_and_its_answer_cross_unchanged(name: str, kind: str) -> None:
    operation = OPERATIONS[name]
    async with passage(operation.answer) as through:
        if kind == "sync":
            result = await asyncio.to_thread(ask, through.url, operation)
        else:
            result = await aask(through.url, operation)
        assert result
        ((request, answer),) = through.compare(1)
    assert request.start == operation.line
    assert operation.seen(request)
    assert answer.all(b"set-cookie") == [b"__cf_bm=one; path=/; HttpOnly", b"_cfuvid=two; path=/"]


async def test_the_picture_that_the_sdk_hands_out_is_the_upstreams() -> None:
    async with passage(told.IMAGE_STREAM) as through:
        events = await aask(through.url, OPERATIONS["images.generate, streamed"])
        assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
        assert events[1].b64_json == told.ENCODED
    async with passage(told.AUDIO) as through:
        spoken = await aask(through.url, OPERATIONS["audio.speech"])
        assert spoken.content == PICTURE


async def test_a_refusal_is_the_exception_that_the_upstream_meant() -> None:
    async with passage(told.LIMITED) as through:
        with pytest.raises(openai.RateLimitError) as caught:
            await aask(through.url, OPERATIONS["images.generate"])
        assert (caught.value.code, caught.value.request_id) == ("rate_limit_exceeded", "req_0123")
        through.compare(1)


async def test_many_calls_of_one_client_share_connections_and_stay_apart() -> None:
    async with passage(script=told.by_path) as through:
        async with AsyncOpenAI(**settings(through.url)) as client:
            for name in ("images.generate", "images.edit, one image", "chat", "files.create", "images.generate"):
                assert await OPERATIONS[name].call(client)
        through.compare(5)
        assert len(through.front.connections) == len(through.back.connections) == 1
