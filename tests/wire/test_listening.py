from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.core.tables import Listen
from proxy.telemetry.log import make
from proxy.wire.listening import Acceptor, Shares, bind, spelled


class Process:
    """What stands for one of several processes: its acceptor, on its own descriptor of the shared socket."""

    def __init__(self, listener: socket.socket, shares: Shares, place: int) -> None:
        self.connections: list[asyncio.Transport] = []
        self.log = io.BytesIO()
        self.listener = listener
        self._tasks: set[asyncio.Task[Any]] = set()
        self.acceptor = Acceptor(
            [self.listener], self.protocol, self.count, self.spawn, shares, place, make("json", self.log)
        )

    def count(self) -> int:
        return len(self.connections)

    def protocol(self) -> asyncio.Protocol:
        process = self

        class Greeting(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                process.connections.append(transport)
                transport.write(b"hello\n")

        return Greeting()

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        self.acceptor.close()
        for transport in self.connections:
            transport.abort()


async def connect(count: int, port: int) -> list[asyncio.StreamWriter]:
    """That many connections at once, each of them greeted."""

    async def one() -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.readline() == b"hello\n"
        return writer

    return list(await asyncio.gather(*[one() for _ in range(count)]))


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("at_once", [1, 10])
async def test_connections_are_shared(count: int, at_once: int) -> None:
    (listener,) = bind(Listen("127.0.0.1", 0))
    shares = Shares(count)
    processes = [Process(listener.dup(), shares, place) for place in range(count)]
    for process in processes:
        process.acceptor.open()
    clients: list[asyncio.StreamWriter] = []
    while len(clients) < 10 * count:
        clients += await connect(at_once, listener.getsockname()[1])
    assert all(8 <= process.count() <= 12 for process in processes), [process.count() for process in processes]
    for client in clients:
        client.close()
    for process in processes:
        process.close()
    listener.close()


async def test_nobody_waits_for_one_that_is_away_and_others_take_what_one_that_stalls_leaves() -> None:
    (listener,) = bind(Listen("127.0.0.1", 0))
    shares = Shares(3)  # the third is never there
    one, stalled = Process(listener.dup(), shares, 0), Process(listener.dup(), shares, 1)
    shares.set(1, 0)  # it would take connections, but its loop does not get to it
    one.acceptor.open()
    clients = await connect(20, listener.getsockname()[1])
    assert (one.count(), stalled.count()) == (20, 0)
    shares.set(1, 30)
    assert shares.above(1)
    one.close()
    assert not shares.above(1)
    for client in clients:
        client.close()
    stalled.listener.close()
    listener.close()


async def test_when_no_descriptor_is_left_it_says_so_and_takes_them_later(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exhausted(socket.socket):
        full = True

        def accept(self) -> Any:
            if self.full:
                raise OSError(24, "Too many open files")
            return super().accept()

    (bound,) = bind(Listen("127.0.0.1", 0))
    listener = Exhausted(fileno=bound.detach())
    monkeypatch.setattr("proxy.wire.listening.PAUSE", 0.01)
    process = Process(listener, Shares(1), 0)
    process.acceptor.open()
    waiting = asyncio.create_task(connect(1, listener.getsockname()[1]))
    while not process.log.getvalue():  # the log has no event to wait for
        await asyncio.sleep(0.005)
    assert not waiting.done()
    told = orjson.loads(process.log.getvalue().splitlines()[0])
    assert (told["event"], told["why"]) == ("accept_failed", "too many open files")
    listener.full = False
    (client,) = await waiting
    client.close()
    process.close()


def test_a_name_of_several_addresses_has_one_port() -> None:
    bound = bind(Listen("localhost", 0))
    assert len({one.getsockname()[1] for one in bound}) == 1
    assert spelled(bound[0]).startswith("http://")
    for one in bound:
        one.close()


def test_a_port_that_is_taken_is_said_in_words() -> None:
    (first,) = bind(Listen("127.0.0.1", 0))
    port = first.getsockname()[1]
    with pytest.raises(OSError, match=f"can't listen on 127.0.0.1 port {port}: address already in use"):
        bind(Listen("127.0.0.1", port))
    first.close()


def test_a_socket_that_is_listened_on_is_left_alone_and_a_dead_one_replaced(tmp_path: Path) -> None:
    listen = Listen("", 0, str(tmp_path / "s"))
    (first,) = bind(listen)
    assert spelled(first) == f"unix:{tmp_path}/s"
    with pytest.raises(OSError, match="another process listens"):
        bind(listen)
    first.close()
    (second,) = bind(listen)
    second.close()
