"""Requests and responses as aiohttp's server has them: no more of either than it asks for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_request import BaseRequest

from ..model.errors import ClientLeft
from ..model.exchange import Exchange

if TYPE_CHECKING:
    from .internals_server import Connection


class Incoming:
    """A request as the server hands it over: the message, its body or the stream of it, the connection.

    RequestHandler asks three things of a request: `_task`, `_cancel(exc)` when the client has gone, `_finish()`.
    """

    __slots__ = ("_task", "connection", "data", "exchange", "message", "payload", "task")

    def __init__(
        self, message: Any, payload: StreamReader, connection: Connection, task: Any, data: bytes | None = None
    ) -> None:
        self.message = message
        self.payload = payload
        self.data = data  # the body, where it was here with the head; the payload is empty then
        self.connection = connection
        self.exchange: Exchange | None = None
        self.task = self._task = task

    def _cancel(self, exc: BaseException) -> None:
        if self.payload is not EMPTY_PAYLOAD:
            self.payload.set_exception(ClientLeft("The client left before its request was complete."))
        if self.exchange is not None:
            self.exchange.leave()

    def _finish(self) -> None:
        pass


class Upgrade(BaseRequest):
    """A request that asks for a WebSocket: aiohttp's own, since WebSocketResponse needs a real one."""

    ATTRS = BaseRequest.ATTRS | frozenset(("connection", "data", "exchange", "payload"))

    def __init__(self, message: Any, payload: StreamReader, connection: Connection, writer: Any, task: Any) -> None:
        super().__init__(message, payload, connection, writer, task, asyncio.get_running_loop())
        self.payload = payload
        self.data: bytes | None = None
        self.connection = connection
        self.exchange: Exchange | None = None

    @property
    def message(self) -> Any:
        """The message, as Incoming has it; aiohttp's own property of that name warns that it is going."""
        return self._message

    def _cancel(self, exc: BaseException) -> None:
        super()._cancel(exc)
        if self.exchange is not None:
            self.exchange.leave()


class Sent:
    """A response that has been written: RequestHandler asks `prepare`, `write_eof` and `keep_alive` of one."""

    __slots__ = ("keep_alive",)
    status = 200
    body_length = 0

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: object) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self) -> None:
        """Nothing is left to write."""


KEPT, CLOSED = Sent(True), Sent(False)


def handed_over(message: Any, payload: StreamReader, connection: Connection, writer: Any, task: Any) -> Any:
    """What the handler gets for a message, and what aiohttp needs where it answers by itself."""
    connection.payload = payload
    if not message.raw_headers and message.method == "UNKNOWN":  # aiohttp's stand-in for what it could not parse
        return BaseRequest(message, payload, connection, writer, task, asyncio.get_running_loop())
    if message.upgrade and message.headers.get("Upgrade", "").lower() == "websocket":
        return Upgrade(message, payload, connection, writer, task)
    return Incoming(message, payload, connection, task)
