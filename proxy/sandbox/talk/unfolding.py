"""An answer of the Responses API as the events that it grows by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..answer import event
from . import speech


class Sequence:
    """Events with a running number; a silent one makes none, which saves writing out pictures for nobody."""

    def __init__(self, *, silent: bool = False) -> None:
        self._number = -1
        self._silent = silent

    def frame(self, name: str, **members: Any) -> bytes:
        """The next event."""
        if self._silent:
            return b""
        self._number += 1
        return event({"type": name, "sequence_number": self._number, **members}, name)


def message(told: Sequence, item: dict[str, Any], index: int) -> Iterator[bytes]:
    """A message, from nothing to its last word."""
    (part,) = item["content"]
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    opening = {**item, "status": "in_progress", "content": []}
    yield told.frame("response.output_item.added", output_index=index, item=opening)
    yield told.frame("response.content_part.added", **at, part={**part, "text": ""})
    for piece in speech.pieces(part["text"]):
        yield told.frame("response.output_text.delta", **at, delta=piece, logprobs=[])
    yield told.frame("response.output_text.done", **at, text=part["text"], logprobs=[])
    yield told.frame("response.content_part.done", **at, part=part)
    yield told.frame("response.output_item.done", output_index=index, item=item)


def call(told: Sequence, item: dict[str, Any], index: int) -> Iterator[bytes]:
    """A call of one of the caller's tools."""
    kind, member = ("function_call_arguments", "arguments")
    if item["type"] == "custom_tool_call":
        kind, member = "custom_tool_call_input", "input"
    at = {"item_id": item["id"], "output_index": index}
    opening = {**item, member: ""}
    if "status" in item:
        opening["status"] = "in_progress"
    yield told.frame("response.output_item.added", output_index=index, item=opening)
    for piece in speech.pieces(item[member]):
        yield told.frame(f"response.{kind}.delta", **at, delta=piece)
    yield told.frame(f"response.{kind}.done", **at, **{member: item[member]})
    yield told.frame("response.output_item.done", output_index=index, item=item)


def drawing(told: Sequence, item: dict[str, Any], index: int) -> Iterator[bytes]:
    """A picture before it is there."""
    at = {"item_id": item["id"], "output_index": index}
    yield told.frame("response.output_item.added", output_index=index, item=item)
    yield told.frame("response.image_generation_call.in_progress", **at)
    yield told.frame("response.image_generation_call.generating", **at)


def drawn(told: Sequence, item: dict[str, Any], index: int, states: list[str]) -> Iterator[bytes]:
    """A picture once it is there, or once it is clear that it won't be."""
    at = {"item_id": item["id"], "output_index": index}
    shape = {name: item[name] for name in ("size", "quality", "background", "output_format")}
    for number, state in enumerate(states):
        yield told.frame(
            "response.image_generation_call.partial_image",
            **at,
            partial_image_index=number,
            partial_image_b64=state,
            **shape,
        )
    if item["status"] == "completed":
        yield told.frame("response.image_generation_call.completed", **at)
    yield told.frame("response.output_item.done", output_index=index, item=item)
