"""Relays that keep every byte: one before the proxy, one behind it, so that both sides of it can be compared."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from proxy.testkit import ScriptedUpstream, Served, serve
from proxy.testkit.upstream import OK, Script

from .raw import Message, answers, crossing, requests

PIECE = 2**18


@dataclass(slots=True)
class Recorded:
    """What went through one connection: bytes, and when each message of the client's may have begun."""

    inward: bytearray = field(default_factory=bytearray)
    outward: bytearray = field(default_factory=bytearray)
    marks: list[tuple[int, int]] = field(default_factory=list)  # offset in `inward`, the tee's count at that moment


def reset(writer: asyncio.StreamWriter) -> None:
    """Hang up with RST."""
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Tee:
    """`async with Tee(where) as tee`: relays to a TCP port of 127.0.0.1 or to a Unix socket's path, and records."""

    def __init__(self, where: int | str, *, listen: str | None = None) -> None:
        self._where = where
        self._listen = listen
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self.connections: list[Recorded] = []

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        if self._listen is not None:
            self._server = await asyncio.start_unix_server(self._serve, self._listen)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        recorded = Recorded()
        self.connections.append(recorded)
        on: asyncio.StreamWriter | None = None
        try:
            if isinstance(self._where, int):
                back, on = await asyncio.open_connection("127.0.0.1", self._where)
            else:
                back, on = await asyncio.open_unix_connection(self._where)
            await asyncio.gather(
                self._pump(reader, on, recorded, recorded.inward), self._pump(back, writer, recorded, recorded.outward)
            )
        except ConnectionError:
            for one in (writer, on):
                if one is not None:
                    reset(one)
        except asyncio.CancelledError:
            pass  # only __aexit__ cancels, and asyncio's streams would write this to the log
        finally:
            self._tasks.discard(task)
            for one in (writer, on):
                if one is not None:
                    one.close()
                    with suppress(ConnectionError):
                        await one.wait_closed()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, recorded: Recorded, into: bytearray
    ) -> None:
        while piece := await reader.read(PIECE):
            if into is recorded.inward:
                self._count += 1
                recorded.marks.append((len(into), self._count))
            into += piece
            writer.write(piece)
            await writer.drain()
        with suppress(OSError):  # the other side may be gone already
            writer.write_eof()

    def messages(self) -> list[tuple[Message, Message]]:
        """All requests with their answers, in the order in which the requests came. Raises ValueError for a cut one."""
        found: list[tuple[int, Message, Message]] = []
        for recorded in self.connections:
            asked = requests(bytes(recorded.inward))
            said = answers(bytes(recorded.outward), [message.method for message in asked])
            assert len(said) == len(asked), f"{len(asked)} requests, {len(said)} answers"
            for request, answer in zip(asked, said, strict=True):
                when = max(count for offset, count in recorded.marks if offset <= request.offset)
                found.append((when, request, answer))
        found.sort(key=lambda one: one[0])
        return [(request, answer) for _, request, answer in found]


@dataclass(slots=True)
class Passage:
    """A client's side, the proxy, an upstream's side: what went in, and what came out."""

    front: Tee
    served: Served
    back: Tee
    upstream: ScriptedUpstream

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self.front.port}/v1"

    def compare(self, count: int) -> list[tuple[Message, Message]]:
        """Assert that so many exchanges crossed the proxy unchanged both ways; what the client sent and heard."""
        before, behind = self.front.messages(), self.back.messages()
        assert len(before) == count, [request.start for request, _ in before]
        assert len(behind) == count, [request.start for request, _ in behind]
        for (asked, heard), (got, said) in zip(before, behind, strict=True):
            assert asked.start.replace(b"HTTP/1.0", b"HTTP/1.1") == got.start
            assert crossing(asked, inward=True) == crossing(got, inward=True)
            assert asked.body == got.body
            assert asked.framing == got.framing
            assert heard.start == said.start
            assert crossing(heard, inward=False) == crossing(said, inward=False)
            assert heard.body == said.body
        return before


def transparent(base_url: str, more: str = "") -> str:
    """The config that changes nothing."""
    return f'{more}\n[upstreams.only]\nbase_url = "{base_url}"\n[[routes]]\nmatch = "* /v1/*"\nchain = []\n'


@asynccontextmanager
async def passage(
    answer: bytes = OK, *, script: Script | None = None, config: str = "", unix: str | None = None
) -> AsyncIterator[Passage]:
    """A transparent proxy between two tees, before an upstream that answers as it is told.

    `unix`: a path; the proxy listens on `{unix}.proxy` and the client's tee on `unix` itself.
    """
    if unix is not None:
        config += f'[server]\nlisten = "unix:{unix}.proxy"\n'
    async with (
        ScriptedUpstream(answer, script=script) as upstream,
        Tee(upstream.port) as back,
        serve(transparent(f"http://127.0.0.1:{back.port}/v1", config)) as served,
        Tee(f"{unix}.proxy" if unix is not None else served.port, listen=unix) as front,
    ):
        yield Passage(front, served, back, upstream)
