"""What the users of both official SDKs hear of moderation: an exception that they can act on, at once, and once."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from .house import ANN, Moderating, moderating
from .pictures import picture, url

pytestmark = pytest.mark.asyncio(loop_scope="module")
NODE = Path(__file__).parent.parent.parent / "node"
BAD = "a fox, flag:violence."
MARKED = picture("PNG", "violence")
ASK: Any = {"model": "gpt-image-2", "prompt": BAD, "size": "64x64"}
SEEN: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url(MARKED)}}]}]
DETAILS = {"moderation_stage": "input", "categories": ["violence"]}
WAYS: dict[str, Callable[[AsyncOpenAI], Awaitable[Any]]] = {
    "generate": lambda client: client.images.generate(**ASK),
    "stream": lambda client: client.images.generate(**ASK, stream=True),
    "edit": lambda client: client.images.edit(**{**ASK, "prompt": "tea"}, image=("a.png", MARKED, "image/png")),
    "chat": lambda client: client.chat.completions.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": BAD}]
    ),
    "chat-stream": lambda client: client.chat.completions.create(model="gpt-5-mini", messages=SEEN, stream=True),
    "responses": lambda client: client.responses.create(model="gpt-5-mini", input=BAD),
    "responses-stream": lambda client: client.responses.create(model="gpt-5-mini", input=BAD, stream=True),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[Moderating]:
    async with moderating(genuine=True) as house:
        yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def blind() -> AsyncIterator[Moderating]:
    """Nobody can judge there."""
    async with moderating(genuine=True) as house:
        house.judge.fault("500", times=None)
        yield house


async def asked_once(house: Moderating, before: int, count: int = 1) -> bool:
    """Whether so many requests have come since, and nothing has left."""
    return len(await house.served.ended(before + count)) == before + count and not house.upstream.records


def client(house: Moderating) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=house.url, api_key=ANN, max_retries=2)


@pytest.fixture
def awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK may not so much as begin to wait for another try."""

    async def slept(seconds: float) -> None:
        raise AssertionError("the SDK tries again")

    monkeypatch.setattr("anyio.sleep", slept)


@pytest.mark.usefixtures("awake")
@pytest.mark.parametrize("way", WAYS)
async def test_python(house: Moderating, way: str) -> None:
    before = len(house.served.exchanges())
    async with client(house) as ann:
        with pytest.raises(openai.BadRequestError) as caught:
            await WAYS[way](ann)
    error = caught.value
    assert (error.code, error.type) == ("content_policy_violation", "image_generation_user_error")
    assert isinstance(error.body, dict) and error.body["moderation_details"] == DETAILS
    assert error.response.headers["x-should-retry"] == "false"
    assert await asked_once(house, before)


@pytest.fixture
def node(needs: Callable[[str], str], installed: Callable[[str], None]) -> str:
    """The program, with the SDK."""
    found = needs("node")
    installed(needs("npm"))
    return found


async def heard(node: str, house: Moderating, prompt: str, data: bytes) -> Any:
    """What the Node SDK makes of each way of asking."""
    before = len(house.served.exchanges())
    words = (house.url, ANN, prompt, base64.b64encode(data).decode())
    ran = await asyncio.create_subprocess_exec(node, "moderation.mjs", *words, cwd=NODE, stdout=asyncio.subprocess.PIPE)
    said, _ = await ran.communicate()
    assert ran.returncode == 0
    assert await asked_once(house, before, len(WAYS))
    return json.loads(said)


async def test_node(house: Moderating, node: str) -> None:
    refused = {
        "kind": "BadRequestError",
        "status": 400,
        "code": "content_policy_violation",
        "type": "image_generation_user_error",
        "details": DETAILS,
    }
    assert await heard(node, house, BAD, MARKED) == dict.fromkeys(WAYS, refused)


@pytest.mark.usefixtures("awake")
@pytest.mark.parametrize("way", WAYS)
async def test_python_hears_that_nobody_could_judge(blind: Moderating, way: str) -> None:
    before = len(blind.served.exchanges())
    async with client(blind) as ann:
        with pytest.raises(openai.InternalServerError) as caught:
            await WAYS[way](ann)
    error = caught.value
    assert (error.status_code, error.code, error.type) == (
        503,
        "moderation_unavailable",
        "service_unavailable_error",
    )
    assert error.response.headers["x-should-retry"] == "false"
    assert await asked_once(blind, before)


async def test_node_hears_that_nobody_could_judge(blind: Moderating, node: str) -> None:
    refused = {
        "kind": "InternalServerError",
        "status": 503,
        "code": "moderation_unavailable",
        "type": "service_unavailable_error",
        "details": None,
    }
    assert await heard(node, blind, "tea", picture()) == dict.fromkeys(WAYS, refused)


@pytest.mark.parametrize("timing", ["before", "parallel"])
async def test_what_is_clean_is_answered_as_ever(timing: str) -> None:
    async with moderating(f'timing = "{timing}"', genuine=True) as house, client(house) as ann:
        drawn = await ann.images.generate(model="gpt-image-2", prompt="tea", size="64x64")
        assert drawn.data and drawn.data[0].b64_json
        edited = await ann.images.edit(
            model="gpt-image-2", prompt="tea", size="64x64", image=("a.png", picture(), "image/png")
        )
        assert edited.data and edited.data[0].b64_json
        stream: Any = await ann.images.generate(
            model="gpt-image-2", prompt="tea", size="64x64", stream=True, partial_images=2
        )
        assert [event.type.rpartition(".")[2] async for event in stream] == ["partial_image"] * 2 + ["completed"]
        said = await ann.responses.create(model="gpt-5-mini", input="tea")
        assert said.output_text
        words = await ann.chat.completions.create(
            model="gpt-5-mini", messages=[{"role": "user", "content": "tea"}], stream=True
        )
        assert [chunk async for chunk in words]
        assert house.upstream.counters.billed == 5
