"""A raw client on asyncio, for what wrk can't do: streams, uploads, held requests, and one request after another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from .framing import Malformed, Reader

AT_ONCE = 200  # connections that are dialled side by side
PIECE = 2**18  # bytes of an upload handed to the socket at a time
PATIENCE = 120.0  # seconds for one answer


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request ended."""

    status: int
    size: int
    checksum: int
    body: bytes  # its first bytes
    first: float  # seconds from the question's first byte to the answer's first byte of body
    whole: float  # seconds to its end


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent, as bytes; the port is told when it is sent."""

    path: str
    body: bytes
    content_type: str = "application/json"
    method: str = "POST"

    def raw(self, headers: Mapping[str, str]) -> bytes:
        """Head and body, with these headers too."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self.method != "GET":
            lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Connection(asyncio.Protocol):
    """One connection that asks one question after another."""

    def __init__(self) -> None:
        self._reader = Reader(self._head, self._end)
        self._answer: asyncio.Future[Answer] | None = None
        self._flow = asyncio.Event()
        self._flow.set()
        self._status = 0
        self._began = self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            if not self._first and self._reader.size:
                self._first = time.perf_counter()
        except Malformed as error:
            self._fail(error)

    def pause_writing(self) -> None:
        self._flow.clear()

    def resume_writing(self) -> None:
        self._flow.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._flow.set()
        self._fail(exc or ConnectionResetError("closed before the answer was whole"))

    async def ask(self, raw: bytes) -> Answer:
        """Send it, wait for the whole answer. Raises OSError or Malformed."""
        if self.transport.is_closing():
            raise ConnectionResetError("closed between two questions")
        self._answer = asyncio.get_running_loop().create_future()
        self._reader.size = 0  # of the answer before
        self._first, self._began = 0.0, time.perf_counter()
        view = memoryview(raw)
        for start in range(0, len(raw), PIECE):
            await self._flow.wait()
            if not self.transport.is_closing():
                self.transport.write(view[start : start + PIECE])
        return await asyncio.wait_for(self._answer, PATIENCE)

    def _head(self, lines: list[bytes]) -> None:
        self._status = int(lines[0].split(b" ", 2)[1])

    def _end(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            reader, now = self._reader, time.perf_counter()
            first = (self._first or now) - self._began
            answer.set_result(Answer(self._status, reader.size, reader.checksum, reader.kept, first, now - self._began))

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of many questions."""

    answers: list[Answer]
    failures: list[str]
    seconds: float


def ask(port: int, raw: bytes, *, connections: int = 1, each: int = 1) -> Asked:
    """Ask over so many connections at once, over each so many times; all are open before the first question."""
    return asyncio.run(_ask(port, raw, connections, each))


async def _ask(port: int, raw: bytes, connections: int, each: int) -> Asked:
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(AT_ONCE)
    answers: list[Answer] = []
    failures: list[str] = []
    lines: list[Connection] = []

    async def dial() -> None:
        async with gate:
            try:
                _, line = await loop.create_connection(Connection, "127.0.0.1", port)
                lines.append(line)
            except OSError as error:
                failures.append(f"no connection: {error}")

    async def talk(line: Connection) -> None:
        try:
            for _ in range(each):
                answers.append(await line.ask(raw))
        except (OSError, Malformed) as error:  # TimeoutError is an OSError
            failures.append(f"{type(error).__name__}: {error}")
        finally:
            line.transport.close()

    await asyncio.gather(*(dial() for _ in range(connections)))
    began = time.perf_counter()
    await asyncio.gather(*(talk(line) for line in lines))
    return Asked(answers, failures, time.perf_counter() - began)
