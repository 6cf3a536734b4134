"""The input of the Responses API: a conversation as items, earlier answers among them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as made
from typing import Any

from .. import field, usage
from ..refusal import Refusal
from ..stored import Stored
from . import known, sight

_ROLES = ("user", "assistant", "system", "developer")
_PARTS = ("input_text", "input_image", "input_file", "output_text", "refusal")
_DETAILS = ("auto", "low", "high", "original")
_TEXTS = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
_IMAGE_CALL = (
    "id",
    "type",
    "status",
    "result",
    "action",
    "background",
    "error",
    "output_format",
    "quality",
    "revised_prompt",
    "size",
    "svg_usage",
)
# What else a conversation may hold; the sandbox takes it as it comes and answers nothing to it.
_OTHERS = (
    "reasoning",
    "compaction",
    "file_search_call",
    "web_search_call",
    "computer_call",
    "computer_call_output",
    "code_interpreter_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "tool_search_call",
    "tool_search_output",
    "program",
    "program_output",
)


@dataclass(slots=True)
class Conversation:
    """What the items come to, the newest last."""

    last: str | None = None  # what the last user message or tool output says
    tool: bool = False  # whether it was a tool's
    texts: list[str] = made(default_factory=list)
    tokens: int = 0
    pictures: list[bytes | str] = made(default_factory=list)  # shown to it, or drawn by it (in base64)
    drawn: bool = False  # whether one of them was drawn by it
    calls: set[str] = made(default_factory=set)

    def add(self, item: dict[str, Any], see: Callable[[dict[str, Any]], bytes | None]) -> None:
        """Takes in one more item; `see` gives the bytes of a picture that is still there."""
        match item["type"]:
            case "message":
                self._message(item, see)
            case "image_generation_call":
                if item.get("result"):
                    self.pictures.append(item["result"])
                    self.drawn = True
            case "function_call" | "custom_tool_call":
                self.calls.add(item["call_id"])
            case "function_call_output" | "custom_tool_call_output":
                self.last, self.tool = _output(item["output"]), True
                self.texts.append(self.last)

    def _message(self, item: dict[str, Any], see: Callable[[dict[str, Any]], bytes | None]) -> None:
        said = []
        for part in item["content"]:
            if part["type"] in _TEXTS:
                said.append(part[_TEXTS[part["type"]]])
                continue
            data = see(part) if part["type"] == "input_image" else None
            if data is not None:
                self.pictures.append(data)
                said.append(sight.described(sight.opened(data, "input")))
            else:
                said.append(f"[file {part.get('filename') or part.get('file_id') or 'unnamed'}]")
        text = " ".join(said)
        self.texts.append(text)
        if item["role"] == "user":
            self.last, self.tool = text, False


def read(asked: str | list[Any], stored: Stored, conversation: Conversation) -> list[dict[str, Any]]:
    """The items of a request as they will be remembered, each taken into the conversation."""
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    if not asked:
        raise known.empty("input")
    items = []
    for name, item in known.objects(asked, "input"):
        one = _item(name, item, stored, conversation)
        conversation.add(one, lambda part: seen(part, stored))
        items.append(one)
    return items


def seen(part: dict[str, Any], stored: Stored) -> bytes | None:
    """The bytes of an image part, None when its file was deleted since."""
    if part.get("image_url"):
        return sight.fetched(part["image_url"], "input")
    found = stored.file(str(part.get("file_id")))
    return found[1] if found else None


def _item(name: str, item: dict[str, Any], stored: Stored, conversation: Conversation) -> dict[str, Any]:
    kind = item.get("type") or ("message" if "role" in item else "")
    match kind:
        case "message":
            return _message(name, item, stored, conversation)
        case "image_generation_call":
            return _image_call(name, item, stored)
        case "item_reference":
            return _remembered(known.required(item, "id", known.TEXT, f"{name}."), stored)
        case "function_call" | "custom_tool_call":
            for needed in ("call_id", "name", "arguments" if kind == "function_call" else "input"):
                known.required(item, needed, known.TEXT, f"{name}.")
            short = "fc" if kind == "function_call" else "ctc"
            return {"id": _name(short), "status": "completed", **_without_nulls(item)}
        case "function_call_output" | "custom_tool_call_output":
            call = known.required(item, "call_id", known.TEXT, f"{name}.")
            known.required(item, "output", known.TEXT_OR_LIST, f"{name}.")
            if call not in conversation.calls:
                raise Refusal(f"No tool call found for function call output with call_id {call}.", param="input")
            conversation.tokens += usage.text_tokens(_output(item["output"]))
            return {"id": _name("fco"), "status": "completed", **_without_nulls(item)}
    types = ("message", "image_generation_call", "item_reference", "function_call", "function_call_output")
    known.supported(str(kind), (*types, "custom_tool_call", "custom_tool_call_output", *_OTHERS), f"{name}.type")
    return {"id": _name("item"), **_without_nulls(item)}


def _message(name: str, item: dict[str, Any], stored: Stored, conversation: Conversation) -> dict[str, Any]:
    fields = {"id": known.TEXT, "type": known.TEXT, "role": known.TEXT, "status": known.TEXT, "phase": known.TEXT}
    known.check(item, {**fields, "content": known.TEXT_OR_LIST}, f"{name}.")
    role = known.supported(known.required(item, "role", known.TEXT, f"{name}."), _ROLES, f"{name}.role")
    content = known.required(item, "content", known.TEXT_OR_LIST, f"{name}.")
    if isinstance(content, str):
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
    parts = [_part(where, one, stored, conversation) for where, one in known.objects(content, f"{name}.content")]
    return {
        "id": item.get("id") or _name("msg"),
        "type": "message",
        "role": role,
        "status": "completed",
        "content": parts,
    }


def _part(name: str, part: dict[str, Any], stored: Stored, conversation: Conversation) -> dict[str, Any]:
    kind = known.supported(known.required(part, "type", known.TEXT, f"{name}."), _PARTS, f"{name}.type")
    if kind in _TEXTS:
        text = known.required(part, _TEXTS[kind], known.TEXT, f"{name}.")
        conversation.tokens += usage.text_tokens(text)
        if kind == "output_text":
            return {"type": kind, "text": text, "annotations": part.get("annotations") or [], "logprobs": []}
        return {"type": kind, _TEXTS[kind]: text}
    if kind == "input_file":
        return {"type": kind, **{one: part[one] for one in ("file_id", "filename", "file_url") if part.get(one)}}
    fields = {"type": known.TEXT, "detail": known.TEXT, "image_url": known.TEXT, "file_id": known.TEXT}
    known.check(part, {**fields, "prompt_cache_breakpoint": known.OBJECT}, f"{name}.")
    detail = known.supported(part.get("detail") or "auto", _DETAILS, f"{name}.detail")
    param = f"{name}.image_url" if part.get("image_url") else f"{name}.file_id"
    conversation.tokens += sight.tokens(sight.opened(image(name, part, stored), param))
    return {"type": kind, "detail": detail, "image_url": part.get("image_url"), "file_id": part.get("file_id")}


def image(name: str, part: dict[str, Any], stored: Stored) -> bytes:
    """The picture that an `image_url` or a `file_id` names."""
    if part.get("image_url"):
        return sight.fetched(part["image_url"], f"{name}.image_url")
    if not part.get("file_id"):
        message = f"Missing required parameter: one of '{name}.image_url' or '{name}.file_id' must be given."
        raise Refusal(message, param=name, code="missing_required_parameter")
    found = stored.file(part["file_id"])
    if found is None:
        raise Refusal(f"No such File object: {part['file_id']}", param=f"{name}.file_id", status=404)
    return found[1]


def _image_call(name: str, item: dict[str, Any], stored: Stored) -> dict[str, Any]:
    """An earlier picture, by its id or in full."""
    for one in item:
        if one not in _IMAGE_CALL:
            raise field.unknown(f"{name}.{one}")
    identity = known.required(item, "id", known.TEXT, f"{name}.")
    if item.get("result") is None:
        return _remembered(identity, stored)
    result = known.required(item, "result", known.TEXT, f"{name}.")
    sight.opened(sight.decoded(result, f"{name}.result"), f"{name}.result")
    return {"status": "completed", **_without_nulls(item)}


def _remembered(name: str, stored: Stored) -> dict[str, Any]:
    item = stored.item(name)
    if item is None:
        raise Refusal(
            f"Item with id '{name}' not found. Items are not persisted when `store` is set to false. Try again with "
            "`store` set to true, or remove this item from your input.",
            param="input",
            status=404,
        )
    return item


def _output(output: str | list[Any]) -> str:
    if isinstance(output, str):
        return output
    return " ".join(str(part.get("text", f"[{part.get('type')}]")) for part in output if isinstance(part, dict))


def _without_nulls(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if value is not None}


def _name(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
