"""All use of aiohttp's internals is here and, for the server, in `internals_*.py`; the rest of the wire sees none.

Written against and tested with aiohttp 3.14.5. What is leaned on here: the C response parser and its messages,
`StreamReader` and the four things it asks of its protocol, and the client's protocol and connector.
Versions before 3.14 accept two Host headers and none at all, so none of them will do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
from aiohttp import BaseConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpResponseParser
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

__all__ = ["EMPTY_PAYLOAD", "Dialler", "StreamReader", "check", "quiet", "read_at_most", "response_parser", "whole"]

TESTED = ((3, 14, 3), (3, 15, 0))
LIMIT = 2**16  # bytes that a stream reader holds before it pauses its socket (twice this at the most)
MAX_FIELD = 16380  # bytes of one header
# Bytes that asyncio's transports take from a socket at a time. Where the other side is slow a connection holds two such
# pieces, and a piece that fits the processor's cache is written faster: with 32 pictures in flight 8 MB of memory less,
# and a tenth more MB/s, than with twice as many, which is what they take by themselves.
READ = 2**17


def check() -> None:
    """Raise RuntimeError, in words, where this aiohttp is not one that the wire was tested with."""
    version = tuple(int(part) for part in aiohttp.__version__.split(".")[:3] if part.isdigit())
    if not TESTED[0] <= version < TESTED[1]:
        raise RuntimeError(f"framegate's wire needs aiohttp>=3.14.3,<3.15; this is {aiohttp.__version__}")
    if "_http_parser" not in HttpResponseParser.__module__:
        raise RuntimeError("framegate's wire needs aiohttp's C parser; this installation has the pure Python one")


def quiet() -> None:
    """Silence aiohttp's own loggers: by default they write a malformed request's raw bytes, key and all."""
    for name in ("aiohttp.server", "aiohttp.web", "aiohttp.websocket", "aiohttp.access", "aiohttp.internal"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers = [logging.NullHandler()]


def read_at_most(transport: asyncio.BaseTransport | None, size: int) -> None:
    """Have it read pieces of that size, where it can be told so: uvloop's can't."""
    if transport is not None and hasattr(transport, "max_size"):
        transport.max_size = size


class BrokenBody(Exception):
    """The parser could not read a body."""


def response_parser(protocol: Any, loop: asyncio.AbstractEventLoop, *, with_body: bool) -> HttpResponseParser:
    """A parser for the answers on one connection; `with_body=False` for the answer to HEAD."""
    return HttpResponseParser(
        protocol,
        loop,
        LIMIT,
        max_line_size=8190,
        max_field_size=MAX_FIELD,
        payload_exception=BrokenBody,
        response_with_body=with_body,
        read_until_eof=True,
        auto_decompress=False,
    )


def whole(stream: StreamReader) -> bytes | None:
    """All that a stream holds, once it has come to its end; None before that, and where it broke."""
    if not stream._eof or stream._exception is not None:
        return None
    buffer = stream._buffer
    if len(buffer) == 1 and not stream._buffer_offset and not stream._protocol._reading_paused:
        stream._size = 0
        return buffer.popleft()  # what read_nowait does, at a tenth of its cost
    return stream.read_nowait()


class Lender(Protocol):
    """Who makes connections and counts them."""

    lent: set[object]

    async def lend(self, make: Callable[[], Lent]) -> Lent: ...
    def returned(self, one: object) -> None: ...


class Dialler(BaseConnector):
    """Connections for aiohttp's client that are made as ours are: one way to an upstream, with one set of words."""

    def __init__(self, lender: Lender) -> None:
        super().__init__(limit=0, force_close=True)
        self._lender = lender

    async def _create_connection(self, req: object, traces: object, timeout: object) -> ResponseHandler:
        return await self._lender.lend(lambda: Lent(self._loop, self._lender))


class Lent(ResponseHandler):
    """A connection of aiohttp's client, counted from its first moment to its last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lender: Lender) -> None:
        super().__init__(loop)
        self._lender = lender

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._lender.lent.add(self)
        super().connection_made(transport)

    def close(self) -> None:
        """Close, and hang up where that has begun: aiohttp does it itself when it can't read an answer.

        asyncio's TLS that is closed a second time forgets what there is to hang up on. `abort` does nothing then, and
        raises AttributeError before Python 3.11.4 (gh-98539).
        """
        if self.transport is not None and self.transport.is_closing():
            self.abort()
        else:
            super().close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        super().connection_lost(exc)
        self._lender.returned(self)
