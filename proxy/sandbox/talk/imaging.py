"""The image tool of the Responses API: when it draws, what it draws, and what it says when it must not."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import field, markers, usage
from ..drawing import studio
from ..drawing import wanted as asked_for
from ..drawing.wanted import Source, Wanted
from ..refusal import Refusal
from ..stored import Stored
from . import known, sight, turn

_DEFAULT_MODEL = "gpt-image-2.6-sunburst"
# Settings of the tool that the images endpoint does not have; everything else is read there.
_OWN = {"type", "action", "input_fidelity", "input_image_mask"}
_ACTIONS = ("generate", "edit", "auto")
_ASKS = re.compile(r"\s*(draw|paint)\b|.*\b(image|picture)", re.IGNORECASE | re.DOTALL)
_LONGEST_PROMPT = 32_000
_MOST_INPUTS = 16
_LENIENT = frozenset({"violence"})  # what `moderation: low` lets through


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to be drawn."""

    wanted: Wanted
    action: str
    inputs: tuple[bytes, ...]
    mask: bytes | None
    partial_images: int
    lenient: bool

    def item(self, name: str, status: str, result: str | None = None) -> dict[str, Any]:
        """The output item in some state."""
        return {
            "id": name,
            "type": "image_generation_call",
            "status": status,
            "action": self.action,
            "background": self.wanted.background,
            "output_format": self.wanted.output_format,
            "quality": self.wanted.quality,
            "result": result,
            "revised_prompt": self.wanted.prompt,
            "size": self.wanted.size,
        }

    def usage(self) -> dict[str, Any]:
        """What the drawing costs, partial pictures included."""
        wanted = self.wanted
        output = usage.image_tokens(wanted.model, wanted.quality, wanted.width, wanted.height)
        output += usage.partial_tokens(wanted.model) * self.partial_images
        text = usage.text_tokens(wanted.prompt)
        shown = sum(sight.tokens(sight.opened(data, "input")) for data in self.inputs)
        return {
            "input_tokens": text + shown,
            "output_tokens": output,
            "total_tokens": text + shown + output,
            "input_tokens_details": {"image_tokens": shown, "text_tokens": text},
            "output_tokens_details": {"image_tokens": output, "text_tokens": 0},
        }


def no_usage() -> dict[str, Any]:
    """What a tool costs that drew nothing."""
    none = {"image_tokens": 0, "text_tokens": 0}
    counts = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    return {**counts, "input_tokens_details": none, "output_tokens_details": none}


def echoed(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool as an answer tells of it, with the defaults filled in."""
    defaults = {
        "type": "image_generation",
        "action": "auto",
        "background": "auto",
        "model": _DEFAULT_MODEL,
        "moderation": "auto",
        "output_compression": 100,
        "output_format": "png",
        "quality": "auto",
        "size": "auto",
    }
    return {**defaults, **{name: value for name, value in tool.items() if value is not None}}


def draws(choice: Any, only_tool: bool, conversation: turn.Conversation) -> bool:
    """Whether the model takes to the tool.

    It does when `tool_choice` leaves it no other way. Left free it does when the last words of the user begin with
    `draw` or `paint` or hold `image` or `picture`, and when the conversation already holds a picture that it drew:
    what is said to a picture is taken as a wish to change it.
    """
    if isinstance(choice, Mapping):
        if choice.get("type") == "allowed_tools":
            allowed = [tool for tool in choice.get("tools") or () if isinstance(tool, Mapping)]
            if not any(tool.get("type") == "image_generation" for tool in allowed):
                return False
            return (choice.get("mode") == "required" and len(allowed) == 1) or _asked_for(conversation)
        return choice.get("type") == "image_generation"
    if choice == "none":
        return False
    return (choice == "required" and only_tool) or _asked_for(conversation)


def _asked_for(conversation: turn.Conversation) -> bool:
    if conversation.last is None or conversation.tool:
        return False
    return conversation.drawn or _ASKS.match(conversation.last) is not None


def read(tool: Mapping[str, Any], conversation: turn.Conversation, stored: Stored) -> Job:
    """Reads the tool's settings, or refuses them."""
    action = field.choice(tool, "action", _ACTIONS, default="auto")
    field.choice(tool, "input_fidelity", ("high", "low"), default="high")
    prompt = (conversation.last or "").strip()[:_LONGEST_PROMPT] or "a picture"
    asked = {one: value for one, value in tool.items() if one not in _OWN}
    body = {"model": _DEFAULT_MODEL, **asked, "prompt": prompt}
    wanted = asked_for.read(body, asked_for.GENERATION, judged=False)
    if action == "edit" and not conversation.pictures:
        raise Refusal("'edit' needs an image in the conversation.", param="action", code="invalid_value")
    shown = conversation.pictures[-_MOST_INPUTS:] if action != "generate" else []
    mask = tool.get("input_image_mask")
    if mask is not None:
        known.required(tool, "input_image_mask", known.OBJECT)
        known.check(mask, {"image_url": known.TEXT, "file_id": known.TEXT}, "input_image_mask.")
        mask = turn.image("input_image_mask", mask, stored)
        sight.opened(mask, "input_image_mask")
    return Job(
        wanted=wanted,
        action="edit" if shown else "generate",
        inputs=tuple(base64.b64decode(one) if isinstance(one, str) else one for one in shown),
        mask=mask,
        partial_images=field.whole(tool, "partial_images", 0, 3, default=0),
        lenient=tool.get("moderation") == "low",
    )


def forbidden(job: Job) -> tuple[str, ...]:
    """The categories for which the picture is not drawn; refuses what can't be drawn from."""
    found = set(markers.flagged(job.wanted.prompt))
    if job.mask is not None:
        sight.loaded(job.mask, "input_image_mask")
    for data in job.inputs:
        found.update(markers.flagged_image(sight.loaded(data, "input")))
    if job.lenient:
        found -= _LENIENT
    return tuple(name for name in markers.CATEGORIES if name in found)


def blocked(job: Job, name: str, request_id: str, categories: Sequence[str]) -> dict[str, Any]:
    """The output item of a picture that was not drawn."""
    error = {
        "code": "moderation_blocked",
        "message": "Your request was rejected by the safety system. If you believe this is an error, contact us at "
        f"help.openai.com and include the request ID {request_id}. safety_violations=[{', '.join(categories)}].",
        "param": None,
        "type": "image_generation_user_error",
        "moderation_details": {"moderation_stage": "input", "categories": list(categories)},
    }
    return {**job.item(name, "failed"), "revised_prompt": None, "error": error}


def drawn(job: Job) -> tuple[str, list[str]]:
    """The picture in base64, and the states of it that came before."""
    wanted = replace(
        job.wanted,
        partials=job.partial_images,
        sources=tuple(_source(data, "input") for data in job.inputs),
        mask=None if job.mask is None else _source(job.mask, "input_image_mask"),
    )
    *states, final = studio.draw(wanted, 0)
    return final, states


def _source(data: bytes, param: str) -> Source:
    image = sight.opened(data, param)
    return Source(data, hashlib.sha256(data).digest(), image.width, image.height, image.has_transparency_data)
