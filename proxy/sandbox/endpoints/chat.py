"""POST /v1/chat/completions: says back what it heard, whole or word by word."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from aiohttp import web

from .. import field, usage
from ..answer import Events, Route, Said, event, told
from ..refusal import Refusal, unknown_model
from . import models

_LONGEST_ECHO = 400
_WORDS_A_CHUNK = 3


async def completions(request: web.Request) -> Said:
    """Answers the last user message with itself."""
    body = await field.read(request)
    model = field.text(body, "model")
    if model is None:
        raise field.missing("model")
    messages = _messages(body)
    if model not in models.CHAT:
        raise unknown_model(model)
    heard = [_said(message.get("content")) for message in messages]
    reply = _reply([text for text, message in zip(heard, messages, strict=True) if message["role"] == "user"])
    spent = usage.of_chat(sum(usage.text_tokens(text) for text in heard), usage.text_tokens(reply))
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
    if field.flag(body, "stream"):
        return Events(_frames(_chunks(head, reply, spent if _wants_usage(body) else None)), billed=True)
    message: dict[str, Any] = {"role": "assistant", "content": reply, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    answer = {**head, "object": "chat.completion", "choices": [choice], "usage": spent, "service_tier": "default"}
    return told(answer, billed=True)


async def _frames(chunks: Iterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield event(chunk)
    yield b"data: [DONE]\n\n"


def _chunks(head: dict[str, Any], reply: str, spent: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    head = {**head, "object": "chat.completion.chunk", "service_tier": "default"}
    if spent is not None:
        head["usage"] = None  # OpenAI's streams hold it in every chunk once it was asked for, filled in the last only

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    words = re.findall(r"\s*\S+|\s+$", reply)
    for at in range(0, len(words), _WORDS_A_CHUNK):
        yield chunk({"content": "".join(words[at : at + _WORDS_A_CHUNK])})
    yield chunk({}, "stop")
    if spent is not None:
        yield {**head, "choices": [], "usage": spent}


def _messages(body: field.Body) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if messages is None:
        raise field.missing("messages")
    if not isinstance(messages, list):
        raise field.wrong_type("messages", "an array", messages)
    if not messages:
        message = "empty array. Expected an array with minimum length 1, but got an empty array instead."
        raise Refusal(f"Invalid 'messages': {message}", param="messages", code="empty_array")
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            raise field.wrong_type(f"messages[{at}]", "an object", message)
        if not isinstance(message.get("role"), str):
            raise field.missing(f"messages[{at}].role")
    return messages


def _said(content: object) -> str:
    """The text of a message; a part that isn't text is named instead."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part for part in content if isinstance(part, dict)]
    return " ".join(part["text"] if isinstance(part.get("text"), str) else f"[{part.get('type')}]" for part in parts)


def _reply(asked: list[str]) -> str:
    if not asked:
        return "This is the sandbox. There was no user message to answer."
    last = asked[-1]
    if len(last) > _LONGEST_ECHO:
        last = last[:_LONGEST_ECHO] + "…"
    return f"This is the sandbox. You said: {last}"


def _wants_usage(body: field.Body) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


ROUTES: tuple[Route, ...] = (("POST", "/v1/chat/completions", completions),)
