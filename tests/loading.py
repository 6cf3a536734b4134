"""Serves a config in a process of its own, asks it a few things, and prints what was loaded before and meanwhile."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from proxy import build
from proxy.app import House
from proxy.core.config import load
from proxy.telemetry.log import make

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ANSWERS = {
    "/v1/chat/completions": {"choices": [{"message": {"role": "assistant", "content": "hello"}}], "usage": {}},
    "/v1/images/generations": {"created": 1, "data": [{"b64_json": PNG}]},
    "/v1/moderations": {"results": [{"flagged": False, "categories": {}, "category_scores": {}}]},
    "/v1/embeddings": {"error": {"message": "it fell over", "type": "server_error", "code": None}},
}
QUESTIONS = {
    "/v1/chat/completions": {"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}]},
    "/v1/images/generations": {"model": "gpt-image-2", "prompt": "a lighthouse"},
    "/v1/embeddings": {"model": "gpt-5", "input": "hello"},
}


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """A head; nothing when there is none to come."""
    with suppress(asyncio.IncompleteReadError):
        return await reader.readuntil(b"\r\n\r\n")
    return b""


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer what it is asked, until whoever asks hangs up."""
    while head := await head_of(reader):
        await reader.readexactly(
            next(int(line[15:]) for line in head.split(b"\r\n") if line[:15] == b"Content-Length:")
        )
        path = head.split(b" ")[1].decode()
        body = json.dumps(ANSWERS[path]).encode()
        status = b"500 Oh" if path == "/v1/embeddings" else b"200 OK"
        type = b"Content-Type: application/json\r\n"
        writer.write(b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, type, len(body), body))


async def asked(port: int, path: str, key: str) -> int:
    """The status of an answer that has come whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(QUESTIONS[path]).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    status = int((await reader.read()).split(b" ", 2)[1])
    writer.close()
    return status


async def main(file: Path) -> None:
    """Say as JSON what was loaded behind the fork, what by then, what by the first requests, and how these ended."""
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    file.write_text(file.read_text().replace("UPSTREAM", str(server.sockets[0].getsockname()[1])))
    config = load(file, os.environ)
    house = House(config, log=make("json", io.BytesIO()))
    build.load(config)  # as a supervisor does before it forks
    forked = set(sys.modules)
    await house.start()
    there = set(sys.modules)
    port = int(house.address.rpartition(":")[2])
    statuses = [await asked(port, path, key) for path in QUESTIONS for key in os.environ["KEYS"].split()]
    came = set(sys.modules) - there
    await house.stop()
    server.close()
    print(
        json.dumps({"late": sorted(there - forked), "there": sorted(there), "came": sorted(came), "statuses": statuses})
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
