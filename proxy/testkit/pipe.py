"""A client of the real server without a socket: what it says is handed to the protocol, what it hears is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..wire.internals_server import Connection
from .wire import Pairs, value

PIECE = 2**16  # bytes handed over at once, about what a socket gives
Wake = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer as far as it has come."""

    status: int
    pairs: Pairs
    body: bytes
    whole: bool  # its framing says that this is all


class Pipe(asyncio.Transport):
    """One connection: the server's transport on one side, the client's hands on the other."""

    def __init__(self, protocol: Connection, changed: Wake, *, bodiless: bool) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 80)})
        self._protocol = protocol
        self._changed = changed
        self._bodiless = bodiless
        self._raw = bytearray()
        self._reading = asyncio.Event()
        self._reading.set()
        self._closing = False
        self.ended = False  # nothing more comes from the server
        protocol.connection_made(self)

    # --- the client's side

    async def say(self, data: bytes) -> None:
        """Hand bytes to the server, as fast as it takes them."""
        for at in range(0, len(data), PIECE):
            await self._reading.wait()
            if self._closing:
                return
            self._protocol.data_received(data[at : at + PIECE])

    def hang_up(self) -> None:
        """The client goes."""
        if not self._closing:
            self._closing = self.ended = True
            self._reading.set()
            self._protocol.connection_lost(None)

    def heard(self) -> Heard | None:
        """The answer so far; None while its head is not whole."""
        return decode(bytes(self._raw), ended=self.ended, bodiless=self._bodiless)

    # --- the server's side

    def write(self, data: Any) -> None:
        """The client takes whatever comes."""
        if not self._closing:
            self._raw += data
            self._changed()

    def get_write_buffer_size(self) -> int:
        """The client has taken all."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def can_write_eof(self) -> bool:
        """One side can end before the other."""
        return True

    def write_eof(self) -> None:
        """The server says no more."""
        self.ended = True
        self._changed()

    def pause_reading(self) -> None:
        """The server takes nothing for now."""
        self._reading.clear()

    def resume_reading(self) -> None:
        """The server takes bytes again."""
        self._reading.set()

    def is_reading(self) -> bool:
        """Whether it takes bytes."""
        return self._reading.is_set()

    def is_closing(self) -> bool:
        """Whether either side has hung up."""
        return self._closing

    def close(self) -> None:
        """The server hangs up."""
        if not self._closing:
            self._closing = self.ended = True
            self._reading.set()
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)
            self._changed()

    abort = close


def decode(raw: bytes, *, ended: bool, bodiless: bool) -> Heard | None:
    """An answer's bytes taken apart, by hand, as far as they go; informational answers before it are passed over."""
    while True:
        head, end, rest = raw.partition(b"\r\n\r\n")
        if not end:
            return None
        start, *lines = head.split(b"\r\n")
        status = int(start.split(b" ")[1])
        if not 100 <= status < 200 or status == 101:
            break
        raw = rest
    pairs = [(name, text.strip(b" \t")) for name, _, text in (line.partition(b":") for line in lines)]
    if bodiless or status in (101, 204, 304):
        return Heard(status, pairs, b"", True)
    if (value(pairs, b"transfer-encoding") or b"").lower() == b"chunked":
        return Heard(status, pairs, *_chunks(rest))
    length = value(pairs, b"content-length")
    if length is None:
        return Heard(status, pairs, rest, ended)
    return Heard(status, pairs, rest, len(rest) == int(length))


def _chunks(rest: bytes) -> tuple[bytes, bool]:
    body: list[bytes] = []
    at = 0
    while (line := rest.find(b"\r\n", at)) >= 0:
        size = int(rest[at:line], 16)
        if size == 0:
            return b"".join(body), rest[line:] == b"\r\n\r\n"
        body.append(rest[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
    return b"".join(body), False
