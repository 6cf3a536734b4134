"""GET /v1/realtime: a conversation over a WebSocket, text in and text out."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from .. import usage
from ..refusal import Refusal, unknown_model
from ..stored import STORED
from ..talk import known, speech
from . import models

_PROTOCOL = "realtime"
# A browser can set no header: it sends its key among the subprotocols.
_OFFERED = "Sec-WebSocket-Protocol"
# OpenAI takes up to 15 MiB of audio in one event.
_LARGEST_EVENT = 16 * 2**20
_REFUSED = 4000
# A client that does not answer the goodbye is waited for so long, in seconds.
_FAREWELL = 1.0
_SESSION = {
    "type": known.TEXT,
    "audio": known.OBJECT,
    "include": known.LIST,
    "instructions": known.TEXT,
    "max_output_tokens": known.Kind((int, str), "one of an integer or 'inf'"),
    "model": known.TEXT,
    "output_modalities": known.LIST,
    "parallel_tool_calls": known.FLAG,
    "prompt": known.OBJECT,
    "reasoning": known.OBJECT,
    "tool_choice": known.TEXT_OR_OBJECT,
    "tools": known.LIST,
    "tracing": known.TEXT_OR_OBJECT,
    "truncation": known.TEXT_OR_OBJECT,
}
_RESPONSE = {
    "audio": known.OBJECT,
    "conversation": known.TEXT,
    "input": known.LIST,
    "instructions": known.TEXT,
    "max_output_tokens": _SESSION["max_output_tokens"],
    "metadata": known.OBJECT,
    "output_modalities": known.LIST,
    "parallel_tool_calls": known.FLAG,
    "prompt": known.OBJECT,
    "reasoning": known.OBJECT,
    "tool_choice": known.TEXT_OR_OBJECT,
    "tools": known.LIST,
}
_NO_AUDIO = (
    "input_audio_buffer.append",
    "input_audio_buffer.clear",
    "input_audio_buffer.commit",
    "output_audio_buffer.clear",
    "conversation.item.truncate",
)
_PARTS = {"user": ("input_text",), "system": ("input_text",), "assistant": ("output_text",)}


async def session(request: web.Request) -> web.StreamResponse:
    """Talks until the other side goes."""
    offered = [name.strip() for name in request.headers.get(_OFFERED, "").split(",")]
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise Refusal("This endpoint speaks WebSocket only: send 'Upgrade: websocket'.", code="websocket_required")
    if offered != [""] and _PROTOCOL not in offered:
        # Refused here: aiohttp would log what was offered, and that may be a key.
        raise Refusal("None of the offered subprotocols is supported. Supported values are: 'realtime'.")
    socket = web.WebSocketResponse(
        protocols=(_PROTOCOL,), compress=False, max_msg_size=_LARGEST_EVENT, timeout=_FAREWELL
    )
    await socket.prepare(request)
    request.app[STORED].sockets.add(socket)
    try:
        model = request.query.get("model")
        talk = _Talk(socket, model or "")
        if model is None:
            await talk.refuse(Refusal("You must provide a model parameter.", code="missing_model"), None)
            await socket.close(code=_REFUSED, message=b"invalid_request_error.missing_model")
        elif model not in models.REALTIME:
            await talk.refuse(unknown_model(model), None)
            await socket.close(code=_REFUSED, message=b"invalid_request_error.model_not_found")
        else:
            await talk.run()
    finally:
        request.app[STORED].sockets.discard(socket)
    return socket


async def close(app: web.Application) -> None:
    """Hangs up on everybody, so that a sandbox that stops need not wait for them."""
    goodbye = [
        socket.close(code=WSCloseCode.GOING_AWAY, message=b"the sandbox stops") for socket in app[STORED].sockets
    ]
    await asyncio.gather(*goodbye)


class _Talk:
    """One conversation."""

    def __init__(self, socket: web.WebSocketResponse, model: str) -> None:
        self._socket = socket
        self._items: dict[str, dict[str, Any]] = {}
        self._conversation = f"conv_{uuid.uuid4().hex}"
        self._session: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "id": f"sess_{uuid.uuid4().hex}",
            "model": model,
            "output_modalities": ["text"],
            "instructions": "",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "truncation": "auto",
            "prompt": None,
            "include": None,
        }
        self._answers: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "session.update": self._update,
            "conversation.item.create": self._create,
            "conversation.item.retrieve": self._retrieve,
            "conversation.item.delete": self._delete,
            "response.create": self._respond,
            "response.cancel": self._cancel,
        }

    async def run(self) -> None:
        """Answers each event of the client's with events."""
        await self._tell("session.created", session=self._session)
        async for message in self._socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            event_id = None
            try:
                event = _read(message.data)
                event_id = event.get("event_id")
                await self._answers[self._kind(event)](event)
            except Refusal as exc:
                await self.refuse(exc, event_id)

    async def refuse(self, refusal: Refusal, event_id: str | None) -> None:
        """Tells what was wrong with an event; the conversation goes on."""
        await self._tell("error", error={**refusal.error, "event_id": event_id})

    def _kind(self, event: dict[str, Any]) -> str:
        kind = known.required(event, "type", known.TEXT)
        if kind in _NO_AUDIO:
            raise Refusal(f"The sandbox hears no audio: '{kind}' is not supported.", param="type", code="unsupported")
        return known.supported(kind, tuple(self._answers), "type")

    async def _update(self, event: dict[str, Any]) -> None:
        wanted = known.required(event, "session", known.OBJECT)
        known.check(wanted, _SESSION, "session.")
        kind = known.required(wanted, "type", known.TEXT, "session.")
        known.supported(kind, ("realtime",), "session.type")
        if wanted.get("model") not in (None, self._session["model"]):
            message = "Cannot update a conversation's model after it was created."
            raise Refusal(message, param="session.model", code="cannot_update_model")
        _text_only(wanted, "session.")
        self._session |= {name: value for name, value in wanted.items() if value is not None}
        await self._tell("session.updated", session=self._session)

    async def _create(self, event: dict[str, Any]) -> None:
        item = _item(known.required(event, "item", known.OBJECT), "item.")
        if item["id"] in self._items:
            message = f"Error adding item: an item with ID {item['id']} already exists."
            raise Refusal(message, param="item.id", code="item_create_duplicate_item_id")
        after = event.get("previous_item_id") or next(reversed(self._items), None)
        if after not in self._items and after not in (None, "root"):
            message = f"Error adding item: the previous item with id '{after}' does not exist."
            raise Refusal(message, param="previous_item_id", code="item_create_invalid_previous_item_id")
        ids = list(self._items)
        at = 0 if after in (None, "root") else ids.index(str(after)) + 1
        entries = list(self._items.items())
        self._items = dict([*entries[:at], (item["id"], item), *entries[at:]])
        previous = None if after == "root" else after
        await self._tell("conversation.item.added", previous_item_id=previous, item=item)
        await self._tell("conversation.item.done", previous_item_id=previous, item=item)

    async def _retrieve(self, event: dict[str, Any]) -> None:
        await self._tell("conversation.item.retrieved", item=self._found(event, "retrieve"))

    async def _delete(self, event: dict[str, Any]) -> None:
        item = self._found(event, "delete")
        del self._items[item["id"]]
        await self._tell("conversation.item.deleted", item_id=item["id"])

    def _found(self, event: dict[str, Any], verb: str) -> dict[str, Any]:
        name = known.required(event, "item_id", known.TEXT)
        if name not in self._items:
            message = f"Error: the item with id '{name}' does not exist, so there is nothing to {verb}."
            raise Refusal(message, param="item_id", code=f"item_{verb}_invalid_item_id")
        return self._items[name]

    async def _cancel(self, event: dict[str, Any]) -> None:
        # Answers are whole before the next event is read, so none is ever under way.
        raise Refusal("Cancellation failed: no active response found", code="response_cancel_not_active")

    async def _respond(self, event: dict[str, Any]) -> None:
        wanted = event.get("response") or {}
        if not isinstance(wanted, dict):
            raise Refusal("Invalid type for 'response': expected an object.", param="response", code="invalid_type")
        known.check(wanted, _RESPONSE, "response.")
        _text_only(wanted, "response.")
        heard = list(self._items.values())
        if wanted.get("input") is not None:
            given = known.objects(wanted["input"], "response.input")
            heard = [_item(item, f"{name}.") for name, item in given]
        most = wanted.get("max_output_tokens") or self._session["max_output_tokens"]
        users = [_words(item) for item in heard if item["role"] == "user"]
        text, short = speech.cut(speech.echo(users[-1] if users else None), most if isinstance(most, int) else None)
        status = "incomplete" if short else "completed"
        item = {
            "id": f"item_{uuid.uuid4().hex[:21]}",
            "object": "realtime.item",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [{"type": "output_text", "text": text}],
        }
        response = {
            "object": "realtime.response",
            "id": f"resp_{uuid.uuid4().hex}",
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": None if wanted.get("conversation") == "none" else self._conversation,
            "output_modalities": ["text"],
            "max_output_tokens": most,
            "metadata": wanted.get("metadata"),
            "usage": None,
        }
        await self._unfold(response, item, text)
        asked = sum(usage.text_tokens(_words(one)) for one in heard)
        instructions = wanted.get("instructions") or self._session["instructions"]
        asked += usage.text_tokens(instructions) if instructions else 0
        details: dict[str, Any] = {"type": status, **({"reason": "max_output_tokens"} if short else {})}
        done = {"status": status, "status_details": details, "output": [item]}
        await self._tell("response.done", response={**response, **done, "usage": _spent(asked, text)})

    async def _unfold(self, response: dict[str, Any], item: dict[str, Any], text: str) -> None:
        at = {"response_id": response["id"], "item_id": item["id"], "output_index": 0, "content_index": 0}
        place = {"response_id": response["id"], "output_index": 0}
        opening = {**item, "status": "in_progress", "content": []}
        previous = next(reversed(self._items), None)
        remembered = response["conversation_id"] is not None
        await self._tell("response.created", response=response)
        await self._tell("response.output_item.added", **place, item=opening)
        if remembered:
            await self._tell("conversation.item.added", previous_item_id=previous, item=opening)
        await self._tell("response.content_part.added", **at, part={"type": "text", "text": ""})
        for piece in speech.pieces(text):
            await self._tell("response.output_text.delta", **at, delta=piece)
        await self._tell("response.output_text.done", **at, text=text)
        await self._tell("response.content_part.done", **at, part={"type": "text", "text": text})
        if remembered:
            self._items[item["id"]] = item
            await self._tell("conversation.item.done", previous_item_id=previous, item=item)
        await self._tell("response.output_item.done", **place, item=item)

    async def _tell(self, name: str, **members: Any) -> None:
        event = {"type": name, "event_id": f"event_{uuid.uuid4().hex[:21]}", **members}
        await self._socket.send_str(orjson.dumps(event).decode())


def _read(said: str | bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(said)
    except orjson.JSONDecodeError as exc:
        raise Refusal("The event is not valid JSON.", code="invalid_json") from exc
    if not isinstance(event, dict):
        raise Refusal("An event must be an object.", code="invalid_event")
    return event


def _item(item: dict[str, Any], within: str) -> dict[str, Any]:
    """A message as it will be remembered."""
    kind = known.required(item, "type", known.TEXT, within)
    known.supported(kind, ("message",), f"{within}type")
    role = known.required(item, "role", known.TEXT, within)
    known.supported(role, tuple(_PARTS), f"{within}role")
    content = known.required(item, "content", known.LIST, within)
    for name, part in known.objects(content, f"{within}content"):
        known.supported(known.required(part, "type", known.TEXT, f"{name}."), _PARTS[role], f"{name}.type")
        known.required(part, "text", known.TEXT, f"{name}.")
    return {
        "id": item.get("id") or f"item_{uuid.uuid4().hex[:21]}",
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": role,
        "content": content,
    }


def _words(item: dict[str, Any]) -> str:
    return " ".join(part["text"] for part in item["content"])


def _text_only(wanted: dict[str, Any], within: str) -> None:
    if wanted.get("output_modalities") not in (None, ["text"]):
        message = "The sandbox speaks in writing only. Supported values are: ['text']."
        raise Refusal(message, param=f"{within}output_modalities", code="unsupported_value")


def _spent(asked: int, text: str) -> dict[str, Any]:
    answered = usage.text_tokens(text)
    return {
        "total_tokens": asked + answered,
        "input_tokens": asked,
        "output_tokens": answered,
        "input_token_details": {"text_tokens": asked, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0},
        "output_token_details": {"text_tokens": answered, "audio_tokens": 0},
    }
