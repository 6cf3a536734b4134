"""An upstream that takes requests apart by the letter of RFC 9112 and keeps every byte, and a client that only listens.

None of the proxy's code and none of aiohttp's: what either of them would wave through has to show here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
LINE = re.compile(rb"(%b) ([\x21-\x7e\x80-\xff]+) HTTP/1\.1" % TOKEN)
VALUE = rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
HEADER = re.compile(rb"(%b):[ \t]*(%b)[ \t]*" % (TOKEN, VALUE))
SIZE = re.compile(rb"([0-9a-fA-F]{1,16})\r\n")
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
PATIENCE = 20.0  # seconds until a connection that nobody closes fails its test


class Dirt(ValueError):
    """Bytes that are no request."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One clean request."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    raw: bytes

    def all(self, name: bytes) -> list[bytes]:
        """All values of that lower-case name."""
        return [value for key, value in self.headers if key.lower() == name]


def read(raw: bytes) -> Heard | None:
    """The request at the front; None when it is not whole yet. Raises Dirt."""
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        if re.search(rb"[\x00]|[^\r]\n|\r[^\n]", raw):
            raise Dirt("a line that does not end as lines do")
        return None
    first, *lines = raw[:end].split(b"\r\n")
    line = LINE.fullmatch(first)
    if line is None:
        raise Dirt("not a request line")
    pairs = [HEADER.fullmatch(text) for text in lines]
    if not all(pairs):
        raise Dirt("not a header")
    headers = tuple([(pair[1], pair[2]) for pair in pairs if pair is not None])
    heard = Heard(line[1], line[2], headers, b"", raw[: end + 4])
    if len(heard.all(b"host")) != 1:
        raise Dirt("not one Host")
    lengths, codings = heard.all(b"content-length"), heard.all(b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Dirt("framed twice")
    if codings:
        if codings != [b"chunked"]:
            raise Dirt("a foreign transfer coding")
        body = _chunks(raw, end + 4)
    elif lengths:
        if not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
            raise Dirt("not a length")
        after = end + 4 + int(lengths[0])
        body = (raw[end + 4 : after], after) if len(raw) >= after else None
    else:
        body = b"", end + 4
    return None if body is None else Heard(line[1], line[2], headers, body[0], raw[: body[1]])


def _chunks(raw: bytes, at: int) -> tuple[bytes, int] | None:
    pieces = []
    while True:
        if b"\n" not in raw[at : at + 20] and len(raw) - at < 20:
            return None
        size = SIZE.match(raw, at)
        if size is None:
            raise Dirt("not a chunk's size")
        end = size.end() + int(size[1], 16)
        if len(raw) < end + 2:
            return None
        if raw[end : end + 2] != b"\r\n":
            raise Dirt("a chunk longer than it says")
        pieces.append(raw[size.end() : end])
        at = end + 2
        if end == size.end():
            return b"".join(pieces), at


def echo(heard: Heard) -> bytes:
    """An answer that tells which question it belongs to."""
    body = b"%b %b %b" % (heard.method, heard.target, heard.body[:200])
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class StrictUpstream:
    """`async with StrictUpstream() as upstream`: answers each clean request with what `answer` makes of it."""

    def __init__(self, answer: Callable[[Heard], bytes] = echo) -> None:
        self.answer = answer
        self.requests: list[Heard] = []
        self.dirt: list[tuple[str, bytes]] = []
        self.raw = b""
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Its base URL, with /v1."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in tuple(self._connections):
            connection.transport.abort()
        await self._server.wait_closed()


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, upstream: StrictUpstream) -> None:
        self._upstream = upstream
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._upstream._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._upstream.raw += data
        self._rest += data
        try:
            while heard := read(self._rest):
                self._rest = self._rest[len(heard.raw) :]
                self._upstream.requests.append(heard)
                self.transport.write(self._upstream.answer(heard))
        except Dirt as dirt:
            self._upstream.dirt.append((str(dirt), self._rest))
            self.transport.abort()


async def speak(port: int, data: bytes, *, drip: bool = False) -> bytes:
    """Send all of it, at once or byte by byte, and hear everything until the other side hangs up."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        said = asyncio.ensure_future(_all(reader))
        try:
            with suppress(ConnectionError):
                if not drip:
                    writer.write(data)
                    await writer.drain()
                for at in range(len(data) if drip else 0):
                    if said.done() or writer.transport.is_closing():
                        break
                    writer.write(data[at : at + 1])
                    await asyncio.sleep(0)  # the house runs in this loop: it reads before the next byte leaves
            return await said
        finally:
            said.cancel()
            writer.transport.abort()


async def _all(reader: asyncio.StreamReader) -> bytes:
    heard = b""
    with suppress(ConnectionError):
        while piece := await reader.read(2**16):
            heard += piece
    return heard


def statuses(said: bytes) -> list[int]:
    """The status of each answer in there, wherever it stands."""
    return [int(code) for code in STATUS.findall(said)]
