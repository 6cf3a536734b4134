"""Both official SDKs ask for URLs, and what stands behind these is what the base64 held."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.plugins.failover.speaking import picture

from .house import ANN, BOB, Rehosting, rehosting

NODE = Path(__file__).parent.parent.parent / "node"
TEA: Any = {"model": "gpt-image-2", "prompt": "tea", "size": "64x64"}
TOOL: Any = {"type": "image_generation", "size": "64x64"}
DRAW: Any = {"model": "gpt-5-mini", "input": "tea", "tool_choice": {"type": "image_generation"}}
ASK: dict[str, Callable[[AsyncOpenAI, bool], Awaitable[list[Any]]]]


async def _generated(client: AsyncOpenAI, url: bool) -> list[Any]:
    answer = await client.images.generate(**TEA, n=4, **_asked(url))
    return [one.url if url else one.b64_json for one in answer.data or ()]


async def _edited(client: AsyncOpenAI, url: bool) -> list[Any]:
    files = [(f"{n}.png", picture(32 + n), "image/png") for n in range(2)]
    answer = await client.images.edit(**TEA, image=files, **_asked(url))
    return [one.url if url else one.b64_json for one in answer.data or ()]


async def _streamed(client: AsyncOpenAI, url: bool) -> list[Any]:
    stream: Any = await client.images.generate(**TEA, stream=True, partial_images=3, **_asked(url))
    events = [event async for event in stream]
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image"] * 3 + ["completed"]
    last = events.pop()
    assert all(event.b64_json for event in events)
    return [last.model_dump().get("url") if url else last.b64_json]


async def _responded(client: AsyncOpenAI, url: bool) -> list[Any]:
    answer = await client.responses.create(**DRAW, tools=[{**TOOL, **_asked(url)}])
    return [item.result for item in answer.output if item.type == "image_generation_call"]


async def _responded_streamed(client: AsyncOpenAI, url: bool) -> list[Any]:
    stream: Any = await client.responses.create(**DRAW, tools=[{**TOOL, **_asked(url)}], stream=True)
    found = []
    async for event in stream:
        if event.type == "response.output_item.done" and event.item.type == "image_generation_call":
            found.append(event.item.result)
        if event.type == "response.completed":
            found += [item.result for item in event.response.output if item.type == "image_generation_call"]
    assert len(found) == 2 and found[0] == found[1]
    return found[:1]


ASK = {
    "generate": _generated,
    "edit": _edited,
    "stream": _streamed,
    "responses": _responded,
    "responses-stream": _responded_streamed,
}


def _asked(url: bool) -> dict[str, str]:
    return {"response_format": "url"} if url else {}


@pytest.fixture
async def house() -> AsyncIterator[Rehosting]:
    async with rehosting() as house:
        yield house


def client(house: Rehosting, key: str = ANN) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=house.url, api_key=key, max_retries=0)


@pytest.mark.parametrize("operation", ASK)
async def test_python(house: Rehosting, operation: str) -> None:
    async with client(house) as ann:
        plain = await ASK[operation](ann, False)
        links = await ASK[operation](ann, True)
    assert plain and len(links) == len(set(links)) == len(plain)
    assert [base64.b64encode(await house.get(link)).decode() for link in links] == plain


async def test_node(house: Rehosting, needs: Callable[[str], str], installed: Callable[[str], None]) -> None:
    node = needs("node")
    installed(needs("npm"))
    ran = await asyncio.create_subprocess_exec(
        node, "rehost.mjs", house.url, ANN, cwd=NODE, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await ran.communicate()
    assert ran.returncode == 0
    told = json.loads(said)
    assert sorted(told) == sorted(ASK)
    for operation, (plain, links) in told.items():
        assert plain and len(links) == len(set(links)) == len(plain), operation
        assert [base64.b64encode(await house.get(link)).decode() for link in links] == plain, operation


async def test_a_second_turn_brings_the_picture_back(house: Rehosting) -> None:
    async with client(house) as ann, client(house, BOB) as bob:
        first = await ann.responses.create(**DRAW, tools=[{**TOOL, "response_format": "url"}])
        call = next(item for item in first.output if item.type == "image_generation_call")
        assert call.result is not None
        turn = [{"role": "user", "content": "tea"}, call.model_dump(exclude_none=True)]
        asked = {**DRAW, "input": turn, "tools": [{**TOOL, "action": "edit"}]}
        second = await ann.responses.create(**asked)
        assert any(item.type == "image_generation_call" and item.result for item in second.output)
        # To the byte: all but the URL is as it was sent.
        body = json.dumps(asked, indent=1).encode()
        headers = {"Authorization": f"Bearer {ANN}", "Content-Type": "application/json"}
        async with house.web.post(f"{house.url}/responses", data=body, headers=headers) as answer:
            assert answer.status == 200
            await answer.read()
        expected = body.replace(call.result.encode(), base64.b64encode(await house.get(call.result)))
        assert house.sandbox.records[-1].sha256 == hashlib.sha256(expected).hexdigest()
        # Who does not own it learns no more than who has made a name up.
        count = len(house.sandbox.records)
        told = []
        for result in (call.result, "http://pictures.test/files/aaaaaaaaaaaaaaaaaaaaaaaaaa.png"):
            turn[1] = {**turn[1], "result": result}
            with pytest.raises(openai.NotFoundError) as refused:
                await bob.responses.create(**{**asked, "input": turn})
            told.append((refused.value.code, refused.value.param, refused.value.message))
        assert told[0] == told[1] and told[0][:2] == ("file_not_found", "input[1].result")
        assert len(house.sandbox.records) == count
