"""A client that is nothing but a socket, and questions for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

GENERATION = {"model": "gpt-image-2", "prompt": "a fox", "size": "64x64"}
CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "the tide is high"}]}
# Asked behind a question, on the same connection: its answer ends what is heard, if the connection stayed open.
LAST = b"GET /v1/models/gpt-5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def post(path: str, body: object, **headers: str) -> bytes:
    """A question in JSON."""
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    lines = {"Host": "a", "Content-Type": "application/json", "Content-Length": str(len(sent))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + sent


@dataclass(frozen=True)
class Heard:
    """All bytes until the connection ended, and how it ended: "closed" or "reset"."""

    raw: bytes
    end: str

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0].lower()

    @property
    def body(self) -> bytes:
        """What follows the first head, framing included."""
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])


class Plain:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, url: str) -> Plain:
        at = urlsplit(url)
        return cls(*await asyncio.open_connection(at.hostname, at.port, limit=2**24))

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> Heard:
        """Everything, until the connection ends."""
        found = bytearray()
        try:
            while data := await self.reader.read(2**16):
                found += data
        except ConnectionResetError:
            return Heard(bytes(found), "reset")
        return Heard(bytes(found), "closed")

    async def leave(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


async def ask(url: str, sent: bytes) -> Heard:
    """Asks on a connection of its own, and hears it out."""
    plain = await Plain.to(url)
    try:
        await plain.say(sent)
        return await plain.rest()
    finally:
        await plain.leave()


async def until(true: Callable[[], bool]) -> None:
    """Lets others run until something holds."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0)


def dechunked(body: bytes) -> tuple[bytes, bytes, bool]:
    """The content of a chunked body, the bytes behind it, and whether it had an end."""
    content = b""
    while True:
        size, line, rest = body.partition(b"\r\n")
        if not line or len(rest) < int(size, 16) + 2:
            return content, body, False
        content += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
        if size == b"0":
            return content, body, True


def field(head: bytes, name: str) -> str | None:
    """A header's value, of a head in small letters."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key == name.encode():
            return value.strip().decode()
    return None
