"""What the tests of the wire say again and again: configs, requests, and a wire without a house."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from proxy.model.body import EMPTY, Body, Bytes
from proxy.model.message import Headers, Request
from proxy.model.services import Clock
from proxy.testkit import ScriptedUpstream, TurnedClock
from proxy.wire.upstream import Wire

from ..plugins_for_tests import Layer, told

GET = b"GET /v1/x HTTP/1.1\r\nHost: me\r\n\r\n"
POST = b"POST /v1/x HTTP/1.1\r\nHost: me\r\nContent-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def config(
    upstream: ScriptedUpstream | str, *layers: Layer | str, server: str = "", upstreams: str = "", route: str = ""
) -> str:
    """One upstream named `only`, one route, and the layers round it; the rest is further lines of each table."""
    url = upstream if isinstance(upstream, str) else upstream.url
    words = [layer if isinstance(layer, str) else told(layer) for layer in layers]
    plugins = "".join(f'[plugins.{word}]\nuse = "tests.plugins_for_tests:Told"\nword = "{word}"\n' for word in words)
    chain = ", ".join(f'"{word}"' for word in words)
    listen = "" if "listen" in server else 'listen = "127.0.0.1:0"\n'
    return f"""
[server]
{listen}{server}
[upstreams.only]
base_url = "{url}"
{upstreams}
{plugins}
[[routes]]
match = "* /v1/*"
chain = [{chain}]
{route}
"""


def post(length: int) -> bytes:
    """The head of a request whose body of that length follows."""
    return b"POST /v1/x HTTP/1.1\r\nHost: me\r\nContent-Length: %d\r\n\r\n" % length


CHUNKED = b"POST /v1/x HTTP/1.1\r\nHost: me\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def get(target: str = "/x", method: str = "GET") -> Request:
    """A request for a wire, without a body."""
    return Request(method, target, Headers(), EMPTY)


def posted(body: bytes | Body = b"hi") -> Request:
    """A request for a wire, with a body."""
    new = Bytes(body) if isinstance(body, bytes) else body
    return Request("POST", "/x", Headers(), new)


async def until(true: Callable[[], object], *, steadily: int = 1) -> None:
    """Wait for what no event tells, so many looks in a row; a test's own time limit is the only other end."""
    seen = 0
    while (seen := seen + 1 if true() else 0) < steadily:
        await asyncio.sleep(0.002)


@asynccontextmanager
async def wired(
    upstream: ScriptedUpstream | str, *, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Wire]:
    """A wire to that upstream, without a house round it."""
    url = upstream if isinstance(upstream, str) else upstream.url
    wire = Wire(url, clock or TurnedClock(), **settings)
    try:
        yield wire
    finally:
        await wire.aclose()


async def ask(wire: Wire, request: Request) -> bytes:
    """Ask, and read the answer's body."""
    return await (await wire.send(request)).body.read(2**26)
