"""The official Node SDK through the proxy: what it sends and what it hears is what it would without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import openai_answers as told
from .tee import passage

HERE = Path(__file__).parent.parent / "node"

# What to run, what must stand in the request, and what the SDK must have made of the answer.
OPERATIONS: dict[str, tuple[bytes, list[bytes], Callable[[Any], bool]]] = {
    "generate": (
        b"/v1/images/generations",
        ["rötlich".encode()],
        lambda one: one["data"][0]["b64_json"] == told.ENCODED,
    ),
    "generate_stream": (
        b"/v1/images/generations",
        [b'"stream":true'],
        lambda events: [event["b64_json"] == told.ENCODED for event in events] == [True, True],
    ),
    "edit": (
        b"/v1/images/edits",
        [b'name="image"; filename="a.png"', b"\1" * 20_000],
        lambda one: one["created"] == 1,
    ),
    "edit_many": (
        b"/v1/images/edits",
        [b'name="image[]"; filename="b.png"', b"\2" * 300_000, b'name="mask"; filename="m.png"'],
        lambda one: one["created"] == 1,
    ),
    "chat": (
        b"/v1/chat/completions",
        ["世界".encode()],
        lambda one: one["choices"][0]["message"]["content"] == "Grüße",
    ),
    "chat_stream": (b"/v1/chat/completions", [b'"stream":true'], lambda events: len(events) == len(told.DELTAS)),
    "upload": (b"/v1/files", [b'filename="a.jsonl"', b'{"a": 1}\n'], lambda one: one["id"] == "file-1"),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_call_and_its_answer_cross_unchanged(
    name: str, needs: Callable[[str], str], installed: Callable[[str], None]
) -> None:
    node = needs("node")
    installed(needs("npm"))
    path, parts, understood = OPERATIONS[name]
    async with passage(script=told.by_path) as through:
        ran = await asyncio.create_subprocess_exec(
            node, "run.mjs", through.url, name, cwd=HERE, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await ran.communicate()
        assert ran.returncode == 0
        assert understood(json.loads(said))
        ((request, answer),) = through.compare(1)
    assert request.start == b"POST %b HTTP/1.1" % path
    assert all(part in request.body for part in parts)
    assert request.all(b"openai-organization") == [b"org-mine"]
    assert request.all(b"idempotency-key") == ([b"once-1"] if name == "generate" else [])
    assert len(answer.all(b"set-cookie")) == 2


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in lock["packages"].items() if name)
