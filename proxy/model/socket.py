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


Change = Callable[[Message], Awaitable[Message | None]]


@dataclass(frozen=True, slots=True)
class Passage:
    """A socket whose messages pass a plugin: `inward` what the client says, `outward` what it hears. None drops one."""

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
        if changed is not None:
            await self.socket.send(changed)

    async def close(self, code: int = 1000, reason: bytes = b"") -> None:
        """End the socket beneath."""
        await self.socket.close(code, reason)
