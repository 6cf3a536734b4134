"""A house that keeps pictures, and clients that ask it for them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from proxy.testkit import Answer, RawClient, Served, TurnedClock, serve

from .pictures import png

UP = '[upstreams.main]\nbase_url = "http://upstream.invalid/v1"\n'
CHAIN = UP + '[plugins.keep]\nuse = "tests.images.keeping:Keeping"\n[[routes]]\nmatch = "* /v1/*"\nchain = ["keep"]\n'
DATA = png(300_000)
TAG = f'"{hashlib.sha256(DATA).hexdigest()}"'


@asynccontextmanager
async def house(images: str = "", *, clock: TurnedClock | None = None, **environ: str) -> AsyncIterator[Served]:
    async with serve(f"[images]\n{images}\n{CHAIN}", environ=environ, clock=clock) as served:
        yield served


async def kept(served: Served, data: bytes = DATA, **headers: str) -> dict[str, Any]:
    """Have it kept; what the plugin was told."""
    lines = "".join([f"X-{name}: {value}\r\n" for name, value in headers.items()])
    async with RawClient(served.port) as client:
        head = f"POST /v1/keep HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: {len(data)}\r\n\r\n"
        answer = await client.ask(head.encode() + data)
    assert answer.status == 200, answer.body
    told: dict[str, Any] = orjson.loads(answer.body)
    return told


async def get(served: Served, target: str, *lines: str, method: str = "GET", version: str = "1.1") -> Answer:
    async with RawClient(served.port) as client:
        head = "".join([f"{line}\r\n" for line in (f"{method} {target} HTTP/{version}", "Host: a", *lines)])
        return await client.ask(f"{head}\r\n".encode(), bodiless=method == "HEAD")


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, orjson.loads(answer.body)["error"]["code"]
