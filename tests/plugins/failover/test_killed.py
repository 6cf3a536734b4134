"""An upstream that is killed: in mid-upload, before its head, in mid-answer."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp
import orjson
import pytest

from proxy.sandbox import Sandbox
from proxy.testkit.house import serve

Moment = Literal["mid-upload", "before-head", "mid-answer"]
WORDS = b'{"choices":[{"message":{"role":"assistant","content":"' + b"word " * 2000
HALF = b'{"created":1,"data":[{"b64_json":"' + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(6000))


@asynccontextmanager
async def killed(moment: Moment) -> AsyncIterator[tuple[str, list[int]]]:
    """An upstream whose process dies at that moment, as a socket sees it; its URL, and how often it was asked."""
    asked: list[int] = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(len(head))
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length // 2 if moment == "mid-upload" else length)
        if moment == "mid-answer":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999\r\n\r\n")
            writer.write(WORDS if b"/chat/" in head else HALF)
            await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", asked


# What the client hears and whom the second request was made to, for a paid request and for one that is free to repeat.
TABLE: list[tuple[Moment, str, str]] = [
    ("mid-upload", "502 upstream_failed", "answer"),
    ("before-head", "502 upstream_failed", "answer"),
    ("mid-answer", "cut", "answer"),
]


@pytest.mark.parametrize("paid", [True, False])
@pytest.mark.parametrize(("moment", "of_paid", "of_free"), TABLE)
async def test_is_told_for_what_it_is(moment: Moment, of_paid: str, of_free: str, paid: bool) -> None:
    path, body = "images/generations", {"model": "gpt-image-2", "prompt": "x" * 5_000_000, "size": "64x64"}
    if not paid:
        path, body = (
            "chat/completions",
            {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "x" * 4_000_000}]},
        )
    async with killed(moment) as (url, asked), Sandbox() as good:
        config = (
            f'[upstreams.dying]\nbase_url = "{url}"\n[upstreams.good]\nbase_url = "{good.url}"\n'
            '[[routes]]\nmatch = "* /v1/*"\nchain = ["failover"]\ndeadline = "20s"\n'
        )
        async with serve(config) as served, aiohttp.ClientSession() as session:
            heard = await _heard(session, f"{served.url}/v1/{path}", body)
    assert heard == (of_paid if paid else of_free)
    assert len(asked) == 1
    assert good.counters.requests == (0 if paid else 1)


async def _heard(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> str:
    try:
        data = io.BytesIO(orjson.dumps(body))
        async with session.post(url, data=data, headers={"content-type": "application/json"}) as answer:
            said = await answer.json()
            return "answer" if answer.status == 200 else f"{answer.status} {said['error']['code']}"
    except aiohttp.ClientPayloadError:
        return "cut"
