"""POST /v1/chat/completions: says back what it heard, whole or word by word."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
from aiohttp import web

from .. import field, usage
from ..answer import Events, Route, Said, event, told
from ..refusal import Refusal, unknown_model
from ..stored import STORED
from ..talk import example, known, speech
from ..talk.message import Heard, hear
from ..talk.tools import Call, forced
from ..talk.verdict import rider
from . import models

# Every field that OpenAI's SDK of November 2026 can send here.
_FIELDS = {
    "audio": known.OBJECT,
    "frequency_penalty": known.NUMBER.between(-2, 2),
    "function_call": known.TEXT_OR_OBJECT,
    "functions": known.LIST,
    "logit_bias": known.OBJECT,
    "logprobs": known.FLAG,
    "max_completion_tokens": known.WHOLE.between(1, 2**31),
    "max_tokens": known.WHOLE.between(1, 2**31),
    "messages": known.LIST,
    "metadata": known.OBJECT,
    "modalities": known.LIST,
    "model": known.TEXT,
    "moderation": known.OBJECT,
    "n": known.WHOLE.between(1, 128),
    "parallel_tool_calls": known.FLAG,
    "prediction": known.OBJECT,
    "presence_penalty": known.NUMBER.between(-2, 2),
    "prompt_cache_key": known.TEXT,
    "prompt_cache_options": known.OBJECT,
    "prompt_cache_retention": known.TEXT,
    "reasoning_effort": known.TEXT,
    "response_format": known.OBJECT,
    "safety_identifier": known.TEXT,
    "seed": known.WHOLE,
    "service_tier": known.TEXT,
    "stop": known.TEXT_OR_LIST,
    "store": known.FLAG,
    "stream": known.FLAG,
    "stream_options": known.OBJECT,
    "temperature": known.NUMBER.between(0, 2),
    "tool_choice": known.TEXT_OR_OBJECT,
    "tools": known.LIST,
    "top_logprobs": known.WHOLE.between(0, 20),
    "top_p": known.NUMBER.between(0, 1),
    "user": known.TEXT,
    "verbosity": known.TEXT,
    "web_search_options": known.OBJECT,
}
# What the real models do and this one can't; better refused than answered by half.
_NOT_HERE = ("audio", "functions", "function_call", "web_search_options")
_MOST_STOPS = 4
_FORMATS = ("json_object", "json_schema", "text")


async def completions(request: web.Request) -> Said:
    """Answers the last message with itself, or with the JSON or the tool call that was asked for."""
    body = await field.read(request)
    known.check(body, _FIELDS)
    model = known.required(body, "model", known.TEXT)
    messages = known.required(body, "messages", known.LIST)
    if not messages:
        raise known.empty("messages")
    heard = hear(messages, request.app[STORED])
    if model not in models.CHAT:
        raise unknown_model(model)
    _only_what_is_here(body)
    choices = _choices(body, heard)
    stream = body.get("stream") is True
    include_usage = _stream_options(body, stream)
    spent = usage.of_chat(heard.tokens, sum(choice.tokens for choice in choices))
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
    moderation = _moderation(body, heard, choices)
    if stream:
        return Events(_frames(_chunks(head, choices, spent if include_usage else None, moderation)), billed=True)
    answer = {
        **head,
        "object": "chat.completion",
        "choices": [choice.whole(index) for index, choice in enumerate(choices)],
        "usage": spent,
        "service_tier": "default",
        **moderation,
    }
    return told(answer, billed=True)


class _Choice:
    """One of the answers: words or a tool call."""

    def __init__(self, text: str, finish: str, call: Call | None = None) -> None:
        self.text = text
        self.finish = finish
        self.call = call
        self.tokens = usage.text_tokens(call.arguments if call else text)
        self._id = f"call_{uuid.uuid4().hex[:24]}" if call else ""

    def whole(self, index: int) -> dict[str, Any]:
        """As it stands in an answer."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text, "refusal": None, "annotations": []}
        if self.call:
            message |= {"content": None, "tool_calls": [self._called(self.call)]}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": self.finish}

    def deltas(self) -> Iterator[dict[str, Any]]:
        """As a stream brings it."""
        if self.call is None:
            yield {"role": "assistant", "content": "", "refusal": None}
            for piece in speech.pieces(self.text):
                yield {"content": piece}
            return
        called = self._called(self.call)
        if self.call.custom:  # the SDK's chunks have no word for these: they come in one piece
            yield {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **called}]}
            return
        opening = {**called, "function": {"name": self.call.name, "arguments": ""}}
        yield {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **opening}], "refusal": None}
        for piece in speech.pieces(self.call.arguments):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}

    def _called(self, call: Call) -> dict[str, Any]:
        if call.custom:
            return {"id": self._id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
        return {"id": self._id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _choices(body: field.Body, heard: Heard) -> list[_Choice]:
    count = body.get("n") or 1
    call, named = forced(body.get("tools"), body.get("tool_choice"), heard.last or "", nested=True)
    if call is not None:
        # A call that was asked for by name ends with "stop", as OpenAI's does.
        return [_Choice("", "stop" if named else "tool_calls", call) for _ in range(count)]
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    stops = _stops(body)
    found = []
    for index in range(count):
        text = _json(body, heard)
        if text is None:
            text = speech.echo(heard.last, tool=heard.tool) + (f" ({index + 1} of {count})" if count > 1 else "")
        text, short = speech.cut(text, most, stops)
        found.append(_Choice(text, "length" if short else "stop"))
    return found


def _json(body: field.Body, heard: Heard) -> str | None:
    """The JSON that was asked for, if any was."""
    asked = body.get("response_format")
    if asked is None:
        return None
    kind = known.required(asked, "type", known.TEXT, "response_format.")
    known.supported(kind, _FORMATS, "response_format.type")
    if kind == "json_object":
        if "json" not in heard.everything.lower():
            message = (
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
            )
            raise Refusal(message, param="messages")
        return orjson.dumps({"message": speech.echo(heard.last, tool=heard.tool)}).decode()
    if kind == "json_schema":
        name = "response_format.json_schema"
        schema = known.required(asked, "json_schema", known.OBJECT, "response_format.")
        known.required(schema, "name", known.TEXT, f"{name}.")
        wanted = known.required(schema, "schema", known.OBJECT, f"{name}.")
        return orjson.dumps(example.fitting(wanted, heard.last or "", f"{name}.schema")).decode()
    return None


def _stops(body: field.Body) -> list[str]:
    stops = body.get("stop") or []
    if isinstance(stops, str):
        stops = [stops]
    if len(stops) > _MOST_STOPS:
        raise known.too_long("stop", _MOST_STOPS, len(stops))
    for at, stop in enumerate(stops):
        if not isinstance(stop, str):
            raise field.wrong_type(f"stop[{at}]", "a string", stop)
    return [stop for stop in stops if stop]


def _only_what_is_here(body: field.Body) -> None:
    for name in _NOT_HERE:
        if body.get(name) is not None:
            raise _unsupported(name)
    if body.get("modalities") not in (None, ["text"]):
        raise _unsupported("modalities")
    if body.get("logprobs") or body.get("top_logprobs"):
        raise _unsupported("logprobs" if body.get("logprobs") else "top_logprobs")


def _unsupported(name: str) -> Refusal:
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    return Refusal(message, param=name, code="unsupported_parameter")


def _stream_options(body: field.Body, stream: bool) -> bool:
    """Whether usage is wanted at the end of the stream."""
    options = body.get("stream_options")
    if options is None:
        return False
    if not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refusal(message, param="stream_options")
    known.check(options, {"include_usage": known.FLAG, "include_obfuscation": known.FLAG}, "stream_options.")
    return options.get("include_usage") is True


def _moderation(body: field.Body, heard: Heard, choices: list[_Choice]) -> dict[str, Any]:
    """The verdicts on what was asked and answered, where the caller wanted them."""
    asked = body.get("moderation")
    if asked is None:
        return {}
    model = known.required(asked, "model", known.TEXT, "moderation.")
    if model not in models.MODERATION:
        raise unknown_model(model)

    def of(texts: list[str]) -> dict[str, Any]:
        results = [rider(model, [text]) for text in texts]
        return {"type": "moderation_results", "model": model, "results": results}

    return {"moderation": {"input": of([heard.everything]), "output": of([choice.text for choice in choices])}}


async def _frames(chunks: Iterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield event(chunk)
    yield b"data: [DONE]\n\n"


def _chunks(
    head: dict[str, Any], choices: list[_Choice], spent: dict[str, Any] | None, moderation: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    head = {**head, "object": "chat.completion.chunk", "service_tier": "default"}
    if spent is not None:
        head["usage"] = None  # OpenAI's streams hold it in every chunk once it was asked for, filled in the last only
    for index, choice in enumerate(choices):
        for delta in choice.deltas():
            yield {**head, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]}
        end = {"index": index, "delta": {}, "logprobs": None, "finish_reason": choice.finish}
        yield {**head, "choices": [end], **(moderation if index == len(choices) - 1 else {})}
    if spent is not None:
        yield {**head, "choices": [], "usage": spent}


ROUTES: tuple[Route, ...] = (("POST", "/v1/chat/completions", completions),)
