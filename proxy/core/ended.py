"""Answers of which somebody is told, once, when they have ended, broken off or been let go of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from ..model.body import Body, Pour
from ..model.message import Response
from ..model.socket import Message, Socket

Over = Callable[[], None]


def told(response: Response, over: Over) -> Response:
    """The same answer; `over` is called when it has ended. One that is here whole has."""
    if response.socket is not None:
        return replace(response, socket=EndedSocket(response.socket, _Once(over)))
    if response.body.now() is not None:
        over()
        return response
    return response.but(body=Ended(response.body, _Once(over)))


class _Once:
    __slots__ = ("_call",)

    def __init__(self, call: Over) -> None:
        self._call: Over | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class Ended(Body):
    """A body whose bytes go on as they come, from socket to socket where they would."""

    __slots__ = ("_over", "_source", "length")

    def __init__(self, source: Body, over: Over) -> None:
        self.length = source.length
        self._source = source
        self._over = over

    @property
    def coding(self) -> str | None:  # type: ignore[override]
        """The coding that the body has."""
        return self._source.coding

    def now(self) -> bytes | None:
        """All of it, when it has come since."""
        data = self._source.now()
        if data is not None:
            self._over()
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The same bytes in the same pieces."""
        front = aiter(self._source)
        try:
            async for piece in front:
                yield piece
        finally:
            try:
                if (close := getattr(front, "aclose", None)) is not None:
                    await close()
            finally:
                self._over()

    @property
    def pour(self) -> Pour | None:
        """Its way from socket to socket, if it has one."""
        pour: Pour | None = getattr(self._source, "pour", None)
        if pour is None:
            return None

        async def poured(sink: Callable[[bytes], bool], drained: Callable[[], Awaitable[None]]) -> None:
            try:
                await pour(sink, drained)
            finally:
                self._over()

        return poured

    @property
    def more(self) -> Callable[[], Awaitable[bytes]] | None:
        """How its beginning is taken and the rest left, if it can be."""
        more: Callable[[], Awaitable[bytes]] | None = getattr(self._source, "more", None)
        if more is None:
            return None

        async def piece() -> bytes:
            try:
                taken = await more()
            except Exception:  # cancelled, it has lost nothing and goes on
                self._over()
                raise
            if not taken:
                self._over()
            return taken

        return piece

    async def aclose(self) -> None:
        """Let go of it."""
        try:
            await self._source.aclose()
        finally:
            self._over()
            await super().aclose()


class EndedSocket:
    """A socket whose messages go on as they come."""

    __slots__ = ("_over", "_socket")

    def __init__(self, socket: Socket, over: Over) -> None:
        self._socket = socket
        self._over = over

    async def receive(self) -> Message:
        """The next message."""
        message = await self._socket.receive()
        if message.kind == "close":
            self._over()
        return message

    async def send(self, message: Message) -> None:
        """Send one."""
        await self._socket.send(message)

    async def close(self, code: int = 1000, reason: bytes = b"") -> None:
        """End it."""
        try:
            await self._socket.close(code, reason)
        finally:
            self._over()
