"""Which of the caller's tools is called: only one that `tool_choice` forces, with arguments that fit its schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from .. import field
from ..refusal import Refusal
from . import example, known

_WORDS = ("none", "auto", "required")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one of the caller's tools; a custom tool takes any text instead of JSON."""

    name: str
    arguments: str
    custom: bool


def forced(tools: Any, choice: Any, words: str, *, nested: bool) -> tuple[Call | None, bool]:
    """The call that must be made, if any, and whether it was asked for by name; `nested` as chat writes its tools."""
    named = {}
    for where, tool in known.objects(tools or [], "tools"):
        kind = known.required(tool, "type", known.TEXT, f"{where}.")
        if kind in ("function", "custom"):
            inner = known.required(tool, kind, known.OBJECT, f"{where}.") if nested else tool
            name = known.required(inner, "name", known.TEXT, f"{where}.{kind}." if nested else f"{where}.")
            named[kind, name] = inner
        elif nested:
            known.supported(kind, ("function", "custom"), f"{where}.type")
    found = _chosen(choice, list(named), bool(tools), nested)
    if found is None:
        return None, False
    kind, name = found
    if found not in named:
        message = f"Tool choice '{name}' not found in 'tools' parameter."
        raise Refusal(f"Invalid value for 'tool_choice': {message}", param="tool_choice")
    by_name = isinstance(choice, Mapping) and choice.get("type") != "allowed_tools"
    if kind == "custom":
        return Call(name, words, custom=True), by_name
    schema = named[found].get("parameters") or {"type": "object"}
    arguments = example.fitting(schema, words, "tools", code="invalid_function_parameters")
    return Call(name, orjson.dumps(arguments).decode(), custom=False), by_name


def _chosen(choice: Any, named: list[tuple[str, str]], any_tools: bool, nested: bool) -> tuple[str, str] | None:
    """The kind and name of the tool that must be called."""
    if choice is None:
        return None
    if not any_tools and choice != "none":
        raise Refusal("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    if isinstance(choice, str):
        known.supported(choice, _WORDS, "tool_choice")
        return named[0] if choice == "required" and named else None
    kind = known.required(choice, "type", known.TEXT, "tool_choice.")
    if kind == "allowed_tools":
        allowed = known.required(choice, "allowed_tools", known.OBJECT, "tool_choice.") if nested else choice
        listed = known.required(allowed, "tools", known.LIST, "tool_choice.")
        members = [one for _, one in known.objects(listed, "tool_choice.tools")]
        keys = [_key(one, nested) for one in members]
        usable = [key for key in keys if key in named]
        return usable[0] if allowed.get("mode") == "required" and usable else None
    if kind not in ("function", "custom"):
        if nested:
            known.supported(kind, ("function", "allowed_tools", "custom"), "tool_choice.type")
        return None
    key = _key(choice, nested)
    if key is None:
        raise field.missing(f"tool_choice.{kind}.name" if nested else "tool_choice.name")
    return key


def _key(tool: Mapping[str, Any], nested: bool) -> tuple[str, str] | None:
    kind = tool.get("type")
    inner = tool.get(str(kind)) if nested else tool
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return (str(kind), name) if isinstance(name, str) else None
