"""The official Node SDK straight against the sandbox, by the examples of its own documentation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from .running import running

NODE = Path(__file__).parent.parent / "node"
# One process for all: starting Node takes longer than everything it does here.
EXAMPLES = [
    "models",
    "images",
    "images_stream",
    "images_edit",
    "chat",
    "chat_stream",
    "chat_tools",
    "chat_json",
    "responses",
    "responses_vision",
    "responses_stream",
    "responses_image",
    "responses_tools",
    "moderations",
    "embeddings",
    "files",
    "refusals",
]


async def test_every_example_gets_the_answer_it_expects(
    needs: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    node = needs("node")
    request.getfixturevalue("installed")(needs("npm"))
    pipe = asyncio.subprocess.PIPE
    async with running() as base_url:
        ran = await asyncio.create_subprocess_exec(node, "sandbox.mjs", base_url, cwd=NODE, stdout=pipe, stderr=pipe)
        said, wrong = await ran.communicate()
    assert said.decode().split() == EXAMPLES, wrong.decode()
    assert ran.returncode == 0
