"""WebSocket messages and the socket that carries them both ways."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["text", "binary", "ping", "pong", "close"]


@dataclass(frozen=True, slots=True)
class Message:
    """One WebSocket message (RFC 6455 §5.6). `code` belongs to a close."""

    kind: Kind
    data: bytes = b""
    code: int = 1000


class Socket(Protocol):
    """The upstream's end of a WebSocket, as the chain sees it."""

    async def receive(self) -> Message:
        """The upstream's next message; a `close` message once it has ended."""

    async def send(self, message: Message) -> None:
        """Send one message of the client's to the upstream."""

    async def close(self, code: int = 1000, reason: bytes = b"") -> None:
        """End it; does nothing when it has ended."""


class Answer(Exception):
    """Raised in the place of sending a message on: the client hears this one, and the socket goes on.

    An exception, so that sockets which others put around this one let it out without knowing of it.
    """

    def __init__(self, message: Message) -> None:
        super().__init__(message.kind)
        self.message = message


Change = Callable[[Message], Awaitable[Message | None]]


@dataclass(frozen=True, slots=True)
class Passage:
    """A socket whose messages pass a plugin: `inward` what the client says, `outward` what it hears. None drops one.

    `inward` may raise Answer: nothing goes on, and the client hears that, through `outward` of whoever stands outside.
    """

    socket: Socket
    inward: Change | None = None
    outward: Change | None = None

    async def receive(self) -> Message:
        """The next message that the plugin lets out; the end is always told."""
        while True:
            message = await self.socket.receive()
            if self.outward is None or message.kind == "close":
                return message
            if (changed := await self.outward(message)) is not None:
                return changed

    async def send(self, message: Message) -> None:
        """Send what the plugin makes of it."""
        changed = message if self.inward is None else await self.inward(message)
        if changed is None:
            return
        try:
            await self.socket.send(changed)
        except Answer as answer:
            told = answer.message if self.outward is None else await self.outward(answer.message)
            if told is not None:
                raise Answer(told) from None

    async def close(self, code: int = 1000, reason: bytes = b"") -> None:
        """End the socket beneath."""
        await self.socket.close(code, reason)
