"""Whatever is put in the place of whatever: it is refused or answered, never a fault of the sandbox's own."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from PIL import Image

from .asking import data_url, post_all

PICTURE = data_url(Image.new("RGB", (64, 64), "teal"))
JUNK: list[Any] = [
    None,
    7,
    -1,
    0.5,
    True,
    "",
    "x",
    "\x00",
    "1e400",
    [],
    [[]],
    [None],
    ["x"],
    {},
    {"type": "x"},
    {"a": {}},
]
FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
WHOLE: dict[str, list[dict[str, Any]]] = {
    "/chat/completions": [
        {
            "model": "gpt-5",
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}}]},
                {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": FUNCTION}]},
                {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "json"}]},
            ],
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "stop": ["x"],
            "n": 2,
        },
        {
            "model": "gpt-5",
            "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "x", "filename": "a"}}]}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "s",
                    "schema": {
                        "type": "object",
                        "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 3}}},
                        "required": ["a"],
                    },
                },
            },
            "moderation": {"model": "omni-moderation-latest"},
            "stream_options": {"include_usage": True},
        },
    ],
    "/responses": [
        {
            "model": "gpt-5",
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": PICTURE, "detail": "low"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
                {"type": "image_generation_call", "id": "ig_1", "result": PICTURE.partition(",")[2]},
                {"role": "user", "content": [{"type": "input_file", "file_id": "x"}]},
            ],
            "tools": [
                {"type": "image_generation", "size": "64x64", "input_image_mask": {"image_url": PICTURE}},
                {"type": "function", **FUNCTION},
            ],
            "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "image_generation"}]},
            "reasoning": {"effort": "low"},
            "text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}, "verbosity": "low"},
            "moderation": {"model": "omni-moderation-latest"},
        },
    ],
    "/moderations": [
        {"input": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": PICTURE}}]},
    ],
    "/embeddings": [
        {"model": "text-embedding-3-small", "input": [[1, 2], [3]], "dimensions": 8, "encoding_format": "base64"},
    ],
}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a value, with each of its keys."""
    found: list[tuple[Any, Any]] = []
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found += [(value, key), *places(value[key])]
    return found


@pytest.mark.parametrize("path", WHOLE)
def test_junk_is_never_a_fault_of_the_sandbox(path: str) -> None:
    chance = random.Random(path)
    bodies = []
    for body in WHOLE[path]:
        for at in range(len(places(body))):
            for junk in chance.sample(JUNK, 5):
                changed = copy.deepcopy(body)
                container, key = places(changed)[at]
                container[key] = junk
                bodies.append(changed)
    statuses = set()
    for body, (status, answer) in zip(bodies, post_all(path, [*WHOLE[path], *bodies])[len(WHOLE[path]) :], strict=True):
        assert status < 500, (json.dumps(body)[:2000], answer)
        statuses.add(status)
    assert statuses >= {200, 400}


@pytest.mark.parametrize("path", WHOLE)
def test_what_is_spoilt_there_was_right_before(path: str) -> None:
    assert [status for status, _ in post_all(path, WHOLE[path])] == [
        400 if "stream_options" in body else 200 for body in WHOLE[path]
    ]
