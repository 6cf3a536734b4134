"""A request to the Responses API: what is asked, whether it may be, and what will be done about it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from typing import Any

import orjson

from .. import field, usage
from ..endpoints import models
from ..refusal import Refusal, unknown_model
from ..stored import Stored
from . import example, imaging, known, speech, turn
from .tools import Call, forced

# Every field that OpenAI's SDK of November 2026 can send here.
_FIELDS = {
    "access_programs": known.OBJECT,
    "background": known.FLAG,
    "context_management": known.LIST,
    "conversation": known.TEXT_OR_OBJECT,
    "image": known.OBJECT,
    "include": known.LIST,
    "input": known.TEXT_OR_LIST,
    "instructions": known.TEXT,
    "max_output_tokens": known.WHOLE.between(16, 2**31),
    "max_tool_calls": known.WHOLE.between(1, 2**31),
    "metadata": known.OBJECT,
    "model": known.TEXT,
    "moderation": known.OBJECT,
    "parallel_tool_calls": known.FLAG,
    "previous_response_id": known.TEXT,
    "prompt": known.OBJECT,
    "prompt_cache_key": known.TEXT,
    "prompt_cache_options": known.OBJECT,
    "prompt_cache_retention": known.TEXT,
    "reasoning": known.OBJECT,
    "safety_identifier": known.TEXT,
    "service_tier": known.TEXT,
    "store": known.FLAG,
    "stream": known.FLAG,
    "stream_options": known.OBJECT,
    "temperature": known.NUMBER.between(0, 2),
    "text": known.OBJECT,
    "tool_choice": known.TEXT_OR_OBJECT,
    "tools": known.LIST,
    "top_logprobs": known.WHOLE.between(0, 20),
    "top_p": known.NUMBER.between(0, 1),
    "truncation": known.TEXT,
    "user": known.TEXT,
}
# What an answer repeats as it was asked.
_REPEATED = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "user",
)
# Tools that nobody can force here are taken and left alone, as a model may.
_TOOLS = (
    "function",
    "image_generation",
    "custom",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
    "file_search",
    "computer",
    "computer_use_preview",
    "mcp",
    "code_interpreter",
    "local_shell",
    "shell",
    "apply_patch",
    "namespace",
    "tool_search",
    "programmatic_tool_calling",
)
_CHOICES = ("function", "custom", "image_generation", "allowed_tools")
_FORMATS = ("text", "json_object", "json_schema")


@dataclass(slots=True)
class Plan:
    """A request, read and found good, and what will be done about it."""

    response: dict[str, Any]
    conversation: turn.Conversation
    items: tuple[dict[str, Any], ...]
    job: imaging.Job | None
    call: Call | None
    text: str | None  # JSON that was asked for
    judge: str | None  # the model that judges input and output, where the caller wants it
    store: bool
    forbidden: tuple[str, ...] = ()  # why the picture must not be drawn


def read(body: field.Body, stored: Stored) -> Plan:
    """Reads the body, or refuses it as OpenAI would."""
    known.check(body, _FIELDS)
    model = known.required(body, "model", known.TEXT)
    conversation = _earlier(body, stored)
    given = body.get("input")
    if given is None and not conversation.texts:
        message = "One of 'input', 'previous_response_id', 'prompt' or 'conversation' must be provided."
        raise Refusal(f"Missing required parameter: {message}", code="missing_required_parameter")
    items = tuple(turn.read(given, stored, conversation)) if given is not None else ()
    if model not in models.CHAT:
        raise unknown_model(model)
    _only_what_is_here(body)
    conversation.tokens += usage.text_tokens(body["instructions"]) if body.get("instructions") else 0
    words = conversation.last or ""
    call, _ = forced(body.get("tools"), body.get("tool_choice"), words, nested=False)
    shape, text = _text(body, conversation)
    tools = _tools(body)
    response = _skeleton(body, model, tools, shape)
    moderation = body.get("moderation")
    judge = known.required(moderation, "model", known.TEXT, "moderation.") if moderation else None
    if judge is not None and judge not in models.MODERATION:
        raise unknown_model(judge)
    job = _job(body, conversation, stored)
    if any(tool["type"] == "image_generation" for tool in tools):
        response["tool_usage"] = {"image_gen": imaging.no_usage(), "web_search": {"num_requests": 0}}
    return Plan(
        response,
        conversation,
        items,
        job,
        None if job else call,
        text,
        judge,
        body.get("store") is not False,
    )


def _earlier(body: field.Body, stored: Stored) -> turn.Conversation:
    conversation = turn.Conversation()
    name = body.get("previous_response_id")
    if name is None:
        return conversation
    last = stored.responses.get(name)
    if last is None:
        message = f"Previous response with id '{name}' not found."
        raise Refusal(message, param="previous_response_id", code="previous_response_not_found")
    for item in (*stored.before(last), *last.response["output"]):
        conversation.add(item, lambda part: turn.seen(part, stored))
    conversation.tokens = last.tokens
    return conversation


def _only_what_is_here(body: field.Body) -> None:
    if body.get("background"):
        message = "The sandbox does not answer in the background."
        raise Refusal(message, param="background", code="unsupported_value")
    for name, kind in (("conversation", "Conversation"), ("prompt", "Prompt")):
        asked = body.get(name)
        if asked is not None:
            identity = asked.get("id") if isinstance(asked, dict) else asked
            raise Refusal(f"{kind} with id '{identity}' not found.", param=name, status=404)
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") not in _CHOICES:
        message = f"The sandbox has no tool '{choice.get('type')}' to be made to call."
        raise Refusal(message, param="tool_choice.type", code="unsupported_value")
    field.choice(body, "truncation", ("auto", "disabled"), default="disabled")


def _tools(body: field.Body) -> list[dict[str, Any]]:
    """The tools as the answer repeats them."""
    found = []
    for name, tool in known.objects(body.get("tools") or [], "tools"):
        known.supported(tool["type"], _TOOLS, f"{name}.type")
        if tool["type"] == "image_generation":
            with known.inside(name):
                found.append(imaging.echoed(tool))
        elif tool["type"] == "function":
            found.append({"description": None, "parameters": {}, "strict": True, **tool})
        else:
            found.append(dict(tool))
    return found


def _job(body: field.Body, conversation: turn.Conversation, stored: Stored) -> imaging.Job | None:
    """The picture to draw; the tool's settings are looked at even when there is none to draw."""
    tools = body.get("tools") or []
    choice = body.get("tool_choice")
    found = [(f"tools[{at}]", tool) for at, tool in enumerate(tools) if tool["type"] == "image_generation"]
    if isinstance(choice, dict) and choice.get("type") == "image_generation" and not found:
        message = "Tool choice 'image_generation' not found in 'tools' parameter."
        raise Refusal(message, param="tool_choice")
    if not found:
        return None
    name, tool = found[0]
    with known.inside(name):
        job = imaging.read(tool, conversation, stored)
    if body.get("stream") is not True:
        job = replace(job, partial_images=0)  # nobody would see them, so nobody pays for them
    return job if imaging.draws(choice, len(tools) == 1, conversation) else None


def _text(body: field.Body, conversation: turn.Conversation) -> tuple[dict[str, Any], str | None]:
    """How the answer is to be written, and the JSON itself where JSON is asked for."""
    asked = body.get("text") or {}
    known.check(asked, {"format": known.OBJECT, "verbosity": known.TEXT}, "text.")
    verbosity = asked.get("verbosity") or "medium"
    known.supported(verbosity, ("low", "medium", "high"), "text.verbosity")
    wanted = asked.get("format") or {"type": "text"}
    kind = known.required(wanted, "type", known.TEXT, "text.format.")
    known.supported(kind, _FORMATS, "text.format.type")
    text = None
    if kind == "json_object":
        if "json" not in "\n".join([*conversation.texts, body.get("instructions") or ""]).lower():
            message = "Response input messages must contain the word 'json' in some form"
            raise Refusal(f"{message} to use 'text.format' of type 'json_object'.", param="input")
        text = orjson.dumps({"message": speech.echo(conversation.last, tool=conversation.tool)}).decode()
    elif kind == "json_schema":
        known.required(wanted, "name", known.TEXT, "text.format.")
        schema = known.required(wanted, "schema", known.OBJECT, "text.format.")
        text = orjson.dumps(example.fitting(schema, conversation.last or "", "text.format.schema")).decode()
        wanted = {"description": None, "strict": True, **wanted}
    return {"format": wanted, "verbosity": verbosity}, text


def _skeleton(body: field.Body, model: str, tools: list[dict[str, Any]], shape: dict[str, Any]) -> dict[str, Any]:
    """The answer before anything is in it."""
    reasoning = body.get("reasoning") or {}
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "metadata": body.get("metadata") or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "service_tier": "default",
        "store": body.get("store") is not False,
        "temperature": 1.0 if body.get("temperature") is None else body["temperature"],
        "text": shape,
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": tools,
        "top_logprobs": body.get("top_logprobs") or 0,
        "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
        "truncation": body.get("truncation") or "disabled",
        "usage": None,
        **{name: body.get(name) for name in _REPEATED},
    }
