"""TLS over a connection that stands, so made that bytes are saved which came before it broke."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

GOODBYE = 2.0  # seconds for the other end to answer TLS's own farewell before it is hung up on
PIECE = 2**16  # bytes read at once from a socket that has broken
STRAIGHT = ("get_buffer", "buffer_updated", "eof_received", "pause_writing", "resume_writing")
P = TypeVar("P", bound=asyncio.Protocol)


async def wrap(transport: asyncio.Transport, make: Callable[[], P], context: ssl.SSLContext, name: str) -> P:
    """Shake hands, and give the connection to what `make` makes. Raises OSError; then the transport is closed."""
    loop = asyncio.get_running_loop()
    young = Young()
    wrapped = await loop.start_tls(transport, young, context, server_hostname=name, ssl_shutdown_timeout=GOODBYE)
    assert wrapped is not None
    if young.heard or wrapped.is_closing():
        wrapped.abort()
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    transport.set_protocol(Rescue(transport))
    made = make()
    wrapped.set_protocol(made)
    made.connection_made(wrapped)
    return made


class Young(asyncio.Protocol):
    """A connection's first protocol: nobody has asked anything yet, so nothing is to be heard."""

    def __init__(self) -> None:
        self.heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Leave what comes for the handshake."""
        transport.pause_reading()  # type: ignore[attr-defined]
        # Before Python 3.11.4 asyncio begins to read behind this all the same (gh-103607): the second half of a
        # client's first word would reach TLS before the first.
        asyncio.get_running_loop().call_soon(self._pause, transport)

    def data_received(self, data: bytes) -> None:
        """The other end speaks before it was asked."""
        self.heard = True

    def _pause(self, transport: Any) -> None:
        if transport.get_protocol() is self:
            transport.resume_reading()  # it takes itself for paused
            transport.pause_reading()


class Rescue(asyncio.BufferedProtocol):
    """Stands between a socket and its TLS: when the socket breaks, TLS gets what still lies in it.

    A server that refuses early and hangs up with our bytes unread resets the connection. Our next write fails, and
    the loop gives the socket up with the answer still in it. All else goes straight to TLS's own methods.
    """

    __slots__ = ("_tls", "_transport", *STRAIGHT)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._tls: Any = transport.get_protocol()
        for name in STRAIGHT:
            setattr(self, name, getattr(self._tls, name))

    def connection_lost(self, exc: Exception | None) -> None:
        """Save what can be saved; then TLS hears of it."""
        try:
            if exc is not None:
                socket = self._transport.get_extra_info("socket")
                while count := os.readv(socket.fileno(), [self.get_buffer(PIECE)]):
                    self.buffer_updated(count)
        except OSError:
            pass  # nothing is left
        finally:
            self._tls.connection_lost(exc)
