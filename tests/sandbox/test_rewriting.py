"""Answers rewritten, on OpenAI's shapes."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from proxy.sandbox.faults.rewritten import emptied, grown, parsed, pictures

CALL = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AAAA"}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "here"}]}
SHAPES: tuple[tuple[str, Any, int], ...] = (
    ("images", {"created": 1, "data": [{"b64_json": "AAAA"}, {"b64_json": "BBBB"}], "usage": {"total_tokens": 3}}, 2),
    ("images by url", {"created": 1, "data": [{"url": "https://a/b.png"}]}, 0),
    ("completed", {"type": "image_generation.completed", "b64_json": "AAAA", "usage": {}}, 1),
    ("partial", {"type": "image_edit.partial_image", "b64_json": "AAAA", "partial_image_index": 0}, 1),
    ("response", {"id": "resp_1", "output": [MESSAGE, CALL], "status": "completed"}, 1),
    ("response unfinished", {"id": "resp_1", "output": [{**CALL, "result": None}]}, 0),
    ("response done", {"type": "response.completed", "response": {"output": [CALL]}}, 1),
    ("response item", {"type": "response.output_item.done", "item": CALL}, 1),
    ("response partial", {"type": "response.image_generation_call.partial_image", "partial_image_b64": "AA=="}, 1),
    ("chat", {"choices": [{"message": {"content": "hello", "result": "no picture"}}]}, 0),
)


@pytest.mark.parametrize(("value", "count"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_finds_every_picture_and_nothing_else(value: Any, count: int) -> None:
    before = orjson.dumps(value)
    changed, found = pictures(value, lambda text: f"<{text}>")
    assert found == count
    assert orjson.dumps(value) == before, "the value itself is left alone"
    assert orjson.dumps(pictures(changed, lambda text: text[1:-1])[0]) == before


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("images", {"created": 1, "data": [], "usage": {"total_tokens": 3}}),
        ("completed", None),
        ("partial", None),
        ("response", {"id": "resp_1", "output": [MESSAGE], "status": "completed"}),
        ("response done", {"type": "response.completed", "response": {"output": []}}),
        ("response item", None),
        ("response partial", None),
        ("chat", {"choices": []}),
    ],
)
def test_takes_out_what_was_asked_for(name: str, left: Any) -> None:
    (value,) = [row[1] for row in SHAPES if row[0] == name]
    assert emptied(value) == left


@pytest.mark.parametrize("value", [row[1] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_grows_by_about_as_much_as_it_should(value: Any) -> None:
    new = grown(value, 40_000)
    assert 40_000 <= len(orjson.dumps(new)) - len(orjson.dumps(value)) <= 40_020
    _, found = pictures(new, lambda text: text if base64.b64decode(text, validate=True) else "")
    assert found == pictures(value, str)[1]


def test_reads_frames_as_openai_writes_them() -> None:
    assert parsed(b'event: error\ndata: {"type":"error"}\n\n') == ("error", {"type": "error"})
    assert parsed(b'data: {"a":1}\n\n') == (None, {"a": 1})
    assert parsed(b"data: [DONE]\n\n") == (None, None)
    assert parsed(b": keepalive\n\n") == (None, None)
