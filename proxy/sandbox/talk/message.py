"""The messages of a chat: what was said, what was shown, and what is not a message at all."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as made
from typing import Any

from .. import field, usage
from ..refusal import Refusal
from ..stored import Stored
from . import known, sight

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_FIELDS = {
    "role": known.TEXT,
    "content": known.TEXT_OR_LIST,
    "name": known.TEXT,
    "refusal": known.TEXT,
    "audio": known.OBJECT,
    "function_call": known.OBJECT,
    "tool_calls": known.LIST,
    "tool_call_id": known.TEXT,
    "annotations": known.LIST,  # callers send an answer back as they got it
}
_PARTS = ("text", "image_url", "input_audio", "refusal", "file")
_DETAILS = ("auto", "low", "high", "original")


@dataclass(slots=True)
class Heard:
    """What a conversation comes to."""

    last: str | None = None  # what the last user or tool message says
    tool: bool = False  # whether it was a tool's
    texts: list[str] = made(default_factory=list)
    tokens: int = 0

    @property
    def everything(self) -> str:
        """All that was said."""
        return "\n".join(self.texts)


def hear(messages: list[Any], stored: Stored) -> Heard:
    """Reads the messages, or refuses the first that is wrong."""
    heard = Heard()
    calls: set[str] = set()
    for name, message in known.objects(messages, "messages"):
        role = known.required(message, "role", known.TEXT, f"{name}.")
        known.supported(role, _ROLES, f"{name}.role")
        known.check(message, _FIELDS, f"{name}.")
        said = _said(message, name, heard, stored)
        heard.texts.append(said)
        heard.tokens += usage.text_tokens(said)
        if role == "assistant":
            calls = _calls(message, name)
        elif role == "tool" and known.required(message, "tool_call_id", known.TEXT, f"{name}.") not in calls:
            text = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            raise Refusal(f"Invalid parameter: {text}", param=f"{name}.role")
        if role in ("user", "tool", "function"):
            heard.last, heard.tool = said, role != "user"
    return heard


def _calls(message: dict[str, Any], name: str) -> set[str]:
    calls = known.objects(message.get("tool_calls") or [], f"{name}.tool_calls")
    return {known.required(call, "id", known.TEXT, f"{where}.") for where, call in calls}


def _said(message: dict[str, Any], name: str, heard: Heard, stored: Stored) -> str:
    content = message.get("content")
    if content is None:
        if message["role"] == "assistant":
            return ""
        raise field.wrong_type(f"{name}.content", "one of a string or array of objects", content)
    if isinstance(content, str):
        return content
    if not content:
        raise known.empty(f"{name}.content")
    return " ".join(_part(where, part, heard, stored) for where, part in known.objects(content, f"{name}.content"))


def _part(name: str, part: dict[str, Any], heard: Heard, stored: Stored) -> str:
    kind = known.required(part, "type", known.TEXT, f"{name}.")
    match known.supported(kind, _PARTS, f"{name}.type"):
        case "image_url":
            image = known.required(part, "image_url", known.OBJECT, f"{name}.")
            known.check(image, {"url": known.TEXT, "detail": known.TEXT}, f"{name}.image_url.")
            known.supported(image.get("detail") or "auto", _DETAILS, f"{name}.image_url.detail")
            param = f"{name}.image_url.url"
            url = known.required(image, "url", known.TEXT, f"{name}.image_url.")
            seen = sight.opened(sight.fetched(url, param), param)
            heard.tokens += sight.tokens(seen)
            return sight.described(seen)
        case "file":
            return _file(name, known.required(part, "file", known.OBJECT, f"{name}."), stored)
        case "input_audio":
            raise Refusal("This model does not support audio input.", param=f"{name}.type", code="invalid_value")
        case text:
            said: str = known.required(part, text, known.TEXT, f"{name}.")
            return said


def _file(name: str, file: dict[str, Any], stored: Stored) -> str:
    known.check(file, {"file_id": known.TEXT, "file_data": known.TEXT, "filename": known.TEXT}, f"{name}.file.")
    if file.get("file_id") is None:
        known.required(file, "file_data", known.TEXT, f"{name}.file.")
        return f"[file {file.get('filename') or 'unnamed'}]"
    found = stored.file(file["file_id"])
    if found is None:
        raise Refusal(f"No such File object: {file['file_id']}", param="file_id", status=404)
    return f"[file {found[0]['filename']}]"
