"""An upstream that streams events, holds questions, judges, and counts uploads: `python -m bench.upstream PORT`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from urllib.parse import parse_qsl, urlsplit

from .. import bodies
from ..framing import Malformed, Reader

STREAM = (  # X-Accel-Buffering is for nginx, which would gather events otherwise
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class Answering(asyncio.Protocol):
    """One connection: reads a question, does what its query says, reads the next."""

    def __init__(self) -> None:
        self._reader = Reader(self._head, self._asked)
        self._query: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._flow = asyncio.Event()
        self._flow.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except Malformed:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._flow.clear()

    def resume_writing(self) -> None:
        self._flow.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._flow.set()
        if self._task is not None:
            self._task.cancel()

    def _head(self, lines: list[bytes]) -> None:
        self._path, self._query = _target(lines[0])

    def _asked(self) -> None:
        query = self._query
        if "hold" in query:
            self._later = asyncio.get_running_loop().call_later(float(query["hold"]), self._say, bodies.SMALL_ANSWER)
        elif "events" in query:
            self._task = asyncio.ensure_future(
                self._stream(bodies.chat_events(int(query["events"])), float(query["gap"]))
            )
        elif "pictures" in query:
            events = bodies.picture_events(int(query["pictures"]), int(query["size"]))
            self._task = asyncio.ensure_future(self._stream(events, 0))
        elif self._path.endswith("/moderations"):
            self._say(bodies.verdict(_judged(self._reader.kept, self._reader.size)))
        elif self._path.endswith("/edits"):
            seen = {
                "size": self._reader.size,
                "checksum": self._reader.checksum,
                "data": [{"b64_json": "iVBORw0KGgo="}],
            }
            self._say(json.dumps(seen).encode())
        else:
            self._say(bodies.SMALL_ANSWER)

    def _say(self, body: bytes) -> None:
        if not self._transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            self._transport.write(head + body)

    async def _stream(self, events: Iterator[bytes], gap: float) -> None:
        start = STREAM
        for event in events:
            await self._flow.wait()
            self._transport.write(start + b"%x\r\n%b\r\n" % (len(event), event))
            start = b""
            await asyncio.sleep(gap)
        self._transport.write(b"0\r\n\r\n")
        self._task = None


def _target(line: bytes) -> tuple[str, dict[str, str]]:
    parts = urlsplit(line.split(b" ")[1].decode())
    return parts.path, dict(parse_qsl(parts.query))


def _judged(body: bytes, size: int) -> Sequence[object]:
    """What is to be judged; a picture's body is longer than what is kept of it, and has one result."""
    asked = json.loads(body)["input"] if len(body) == size else ()
    return [asked] if isinstance(asked, str) else asked


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1])))
