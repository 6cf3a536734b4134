"""What an endpoint gives back: an answer as a value, which the server sends, so that faults can be done to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import orjson
from aiohttp import web


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `billed`: OpenAI would have charged for it. `signed`: it has the headers that OpenAI adds."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    billed: bool = False
    signed: bool = True


@dataclass(frozen=True, slots=True)
class Events:
    """Server-sent events, each frame whole, with its blank line."""

    frames: AsyncIterator[bytes]
    billed: bool = False
    content_type: str = "text/event-stream; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


Said = Answer | Events
Endpoint = Callable[[web.Request], Awaitable[Said]]
Route = tuple[str, str, Endpoint]  # method, path, who answers


def told(value: object, *, status: int = 200, billed: bool = False) -> Answer:
    """A JSON answer."""
    return Answer(orjson.dumps(value), status, billed=billed)


def event(value: object, name: str | None = None) -> bytes:
    """One frame of a stream, named where OpenAI names it."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(value) + b"\n\n"
