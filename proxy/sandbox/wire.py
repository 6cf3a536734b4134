"""How an answer gets onto the connection: as aiohttp does it, or byte by byte where that would mend a fault."""

from __future__ import annotations

import socket
import struct
import time
import uuid
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE

from .answer import Answer, Events, Said
from .clock import Time
from .heard import Heard
from .record import Record

STARTED = web.RequestKey("started", float)
EXTRA = web.RequestKey("extra", dict[str, str])  # headers that the limits add
UNSIGNED = web.RequestKey("unsigned", bool)
# A body is written in slices, so that a client who leaves is noticed and no second copy of it is made.
_SLICE = 256 * 1024


class Played(web.StreamResponse):
    """Stands for an answer that was written already: aiohttp has nothing to do but to close or go on."""

    def __init__(self, request: web.Request, *, close: bool) -> None:
        super().__init__()
        self._keep_alive = request.keep_alive and not close

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Done."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Done."""


class Wire:
    """The connection that one answer goes out on; it writes into the record what went."""

    def __init__(self, request: web.Request, heard: Heard, record: Record, clock: Time) -> None:
        self._request, self._heard, self._record, self._time = request, heard, record, clock
        self._started = False
        self.reads_body = request.method != "HEAD"
        self.chunks = request.version >= (1, 1)

    @property
    def started(self) -> bool:
        """Bytes have gone out: no other answer can be given."""
        return self._started

    async def send(self, said: Said) -> web.StreamResponse:
        """An answer as it should be."""
        if isinstance(said, Events):
            headers = {"Content-Type": said.content_type, **said.headers}
            return await self._stream(web.StreamResponse(headers=headers), said)
        self._record.status = said.status
        if not said.signed:
            self._request[UNSIGNED] = True
        headers = {"Content-Type": said.content_type, **said.headers}
        if len(said.body) <= _SLICE:
            response = web.Response(status=said.status, body=said.body, headers=headers)
            await self._whole(response)
            return response
        headers["Content-Length"] = str(len(said.body))
        return await self._slices(web.StreamResponse(status=said.status, headers=headers), said.body)

    async def _whole(self, response: web.Response) -> None:
        try:
            await response.prepare(self._request)
            self._first()
            await response.write_eof()
        finally:
            self._count()

    async def _slices(self, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
        view = memoryview(body)
        try:
            await response.prepare(self._request)
            self._first()
            if self.reads_body:
                for at in range(0, len(body), _SLICE):
                    await response.write(view[at : at + _SLICE])
            await response.write_eof()
        finally:
            self._count()
        return response

    async def _stream(self, response: web.StreamResponse, said: Events) -> web.StreamResponse:
        self._record.status = 200
        try:
            await response.prepare(self._request)
            self._first()
            async for frame in said.frames:
                await response.write(frame)
            await response.write_eof()
        finally:
            self._count()
        return response

    def _count(self) -> None:
        self._record.sent = getattr(self._request.writer, "output_size", 0)

    def _first(self) -> None:
        self._started = True
        self._record.first_byte = self._time.now()

    # Below aiohttp's framing.

    async def raw(self, data: bytes) -> None:
        """Exactly these bytes."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        if not self._started:
            self._first()
        transport.write(data)
        self._record.sent += len(data)
        await self._request.writer.drain()

    async def pause(self, seconds: float) -> None:
        """Lets time pass."""
        await self._time.pause(seconds, self._heard)

    def end(self) -> web.StreamResponse:
        """No more bytes from us (FIN); what the client still sends is read and dropped."""
        transport = self._request.transport
        if transport is not None and transport.can_write_eof():
            transport.write_eof()
        return Played(self._request, close=True)

    def reset(self) -> web.StreamResponse:
        """The connection breaks off (RST)."""
        transport = self._request.transport
        if transport is not None:
            end = transport.get_extra_info("socket")
            if end is not None:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        return Played(self._request, close=True)

    def stay(self) -> web.StreamResponse:
        """The connection goes on."""
        return Played(self._request, close=False)

    def head(self, said: Said, framing: dict[str, str]) -> bytes:
        """The head that aiohttp would have written, with a framing of one's own."""
        status = said.status if isinstance(said, Answer) else 200
        self._record.status = status
        headers = {"Content-Type": said.content_type, **said.headers, **framing}
        if isinstance(said, Events) or said.signed:
            headers |= signature(self._request)
        headers |= {"Date": formatdate(self._time.wall(), usegmt=True), "Server": SERVER_SOFTWARE}
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{name}: {text}" for name, text in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def framed(self, pieces: Sequence[bytes]) -> list[bytes]:
        """Pieces as chunks, without the last one that ends the body."""
        if not self.chunks:
            return list(pieces)
        return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]


def signature(request: web.BaseRequest) -> dict[str, str]:
    """The headers that OpenAI puts on every answer."""
    now = time.perf_counter()
    spent = now - request.get(STARTED, now)  # a refused Expect header never comes through the middleware
    return {
        "x-request-id": f"req_{uuid.uuid4().hex}",
        "openai-processing-ms": str(round(spent * 1000)),
        "openai-version": "2020-10-01",
        **request.get(EXTRA, {}),
    }
