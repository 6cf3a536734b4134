"""Keys for some models only: all that a request names must be among them, and what can't be seen is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

import orjson

from proxy.api import Caller, Exchange, Forward, Message, Model, Rejected, Request, Response, Socket, operation, spoken

# Headers by which upstreams of Azure's are told a deployment beside, or before, the one of path and body.
HEADERS = ("x-ms-oai-image-generation-deployment", "azureml-model-deployment")
FREE = "moderation"  # costs nothing, and what it takes without being told is always the same
REFUSED = 1008  # of a socket: against the policy


def may(caller: Caller, name: str) -> bool:
    """Whether that is one of the key's models. A list with commas, which some routers take, must be so in all parts."""
    return all(any(fnmatchcase(part.strip(), glob) for glob in caller.models) for part in name.split(","))


async def restrained(exchange: Exchange, request: Request, forward: Forward, caller: Caller, sort: str) -> Response:
    """Forward what names models of the key's alone; what does not let itself be seen is refused."""
    path = request.target.removeprefix(exchange.prefix).partition("?")[0].strip("/")
    if sort != "inference":
        raise _denied(caller, f"Endpoints of the sort '{sort}' reach models that can't be seen from here")
    for header in HEADERS:
        for name in request.headers.getall(header):
            _judge(caller, [Model((header,), name)])
    if path.startswith("models/"):
        _judge(caller, [Model(("model",), unquote(path.removeprefix("models/")))])
        return await forward(request)
    if path == "realtime/calls":
        raise _denied(caller, "A call's session is held elsewhere, where its models can't be seen")
    asked = await operation(request, prefix=exchange.prefix)
    _judge(caller, asked.models)
    if request.method == "GET":
        return await _socket(request, forward, caller, asked.models, path)
    if any(not one.path for one in asked.unseen):
        raise _denied(caller, "The body can't be read here, nor a model seen in it")
    if asked.kind != FREE:
        _named(caller, asked.models, "body")
    return await forward(request)


def _judge(caller: Caller, models: Sequence[Model]) -> None:
    for model in models:
        if model.name is None or not model.name.strip():
            raise _denied(caller, f"What model is used for '{model.path[:64]}' can't be seen; name one")
        if not may(caller, model.name):
            where = "" if model.path == "model" else f", named in '{model.path[:64]}'"
            raise _denied(caller, f"This key may not use the model {model.name[:64]!r}{where}")


def _named(caller: Caller, models: Sequence[Model], place: str) -> None:
    """Without a name the upstream takes one of its own choice. One in the query of a POST is read by few."""
    if not any(model.place == place and (place == "query" or model.steps == ("model",)) for model in models):
        raise _denied(caller, f"No model is named; give one as 'model' in the {place}")


def _denied(caller: Caller, why: str) -> Rejected:
    return Rejected(
        f"{why}. This key may use: {', '.join(caller.models)}.",
        status=403,
        type="permission_error",
        code="permission_denied",
        param="model",
    )


# --- Sockets


async def _socket(request: Request, forward: Forward, caller: Caller, models: Sequence[Model], path: str) -> Response:
    """A socket whose every message is looked at: a session's models may change later."""
    if path == "realtime":
        if "call_id" in unquote(request.target.partition("?")[2]).lower():
            raise _denied(caller, "A call's session is held elsewhere, where its models can't be seen")
        _named(caller, models, "query")
    response = await forward(request)
    if response.socket is None:
        return response
    return replace(response, socket=_Watched(response.socket, caller, creates=path == "responses"))


@dataclass(slots=True)
class _Watched:
    """A socket that ends, with a word why, at the first message that names a model which is not the key's."""

    socket: Socket
    caller: Caller
    creates: bool  # each response names its model; in realtime, the session has one
    over: bool = False
    last: list[Message] = field(default_factory=list)  # what the client is still to hear

    async def receive(self) -> Message:
        """The upstream's next message, until one of the client's was refused."""
        if not self.over:
            message = await self.socket.receive()
            if not self.over:
                return message
        return self.last.pop(0) if self.last else Message("close", code=REFUSED)

    async def send(self, message: Message) -> None:
        """The client's message goes on, or is the last."""
        if self.over:
            return
        try:
            self._look(message)
        except Rejected as error:
            said = {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
            self.over = True
            told = orjson.dumps({"type": "error", "status": error.status, "error": said})
            self.last = [Message("text", told), Message("close", error.code.encode(), REFUSED)]
            await self.socket.close(REFUSED)  # wakes who receives
            return
        await self.socket.send(message)

    def _look(self, message: Message) -> None:
        if message.kind == "binary":
            raise _denied(self.caller, "A binary message can't be read here, nor a model seen in it")
        if message.kind != "text":
            return
        value, models = spoken(message.data)
        _judge(self.caller, models)
        if self.creates and _creates(value):
            _named(self.caller, models, "body")

    async def close(self, code: int = 1000, reason: bytes = b"") -> None:
        """End the socket beneath."""
        await self.socket.close(code, reason)


def _creates(value: Any) -> bool:
    """Whether a message asks for a response; one of a sort that is not known may."""
    return type(value) is not dict or value.get("type") in (None, "response.create")
