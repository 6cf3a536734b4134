"""A limited number of connections: never more, first come first served, and no place is lost whoever leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.model.errors import UpstreamError
from proxy.model.message import Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, TurnedClock, serve
from proxy.wire.dial import Address, P
from proxy.wire.line import Crowded, Line

from . import sockets
from .authority import Authority
from .telling import GET, OK, ask, config, get, posted, until, wired

CLOSES = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"


class Held:
    """An upstream's script: questions wait until they are let go, each by its number."""

    def __init__(self, answer: bytes = OK) -> None:
        self.answer = answer
        self.targets: list[bytes] = []
        self.waiting: list[asyncio.Event] = []

    async def __call__(self, call: Call) -> None:
        await call.body()
        self.targets.append(call.received.target)
        self.waiting.append(go := asyncio.Event())
        await go.wait()
        await call.send(self.answer)
        if b"close" in self.answer:
            call.cut()


@pytest.mark.parametrize("answer", [OK, CLOSES], ids=["kept", "closed"])
async def test_who_finds_no_connection_free_waits_for_their_turn(answer: bytes) -> None:
    held = Held(answer)
    async with ScriptedUpstream(script=held) as upstream, wired(upstream, max_connections=2) as wire:
        asking = []
        for i in range(8):
            asking.append(asyncio.create_task(ask(wire, get(f"/{i}"))))
            await asyncio.sleep(0)
        for done in range(8):
            await until(lambda done=done: len(held.waiting) == min(8, done + 2), steadily=3)
            held.waiting[done].set()
        assert await asyncio.gather(*asking) == [b"{}"] * 8
        assert sorted(held.targets[:2]) == [b"/v1/0", b"/v1/1"]
        assert held.targets[2:] == [b"/v1/%d" % i for i in range(2, 8)]
        assert upstream.connections == (2 if answer is OK else 8)


async def test_without_a_limit_nobody_waits() -> None:
    held = Held()
    async with ScriptedUpstream(script=held) as upstream, wired(upstream) as wire:
        asking = [asyncio.create_task(ask(wire, get())) for _ in range(40)]
        await until(lambda: len(held.waiting) == 40)
        for go in held.waiting:
            go.set()
        await asyncio.gather(*asking)


async def test_a_line_that_does_not_move_is_said_in_words() -> None:
    held = Held()
    async with ScriptedUpstream(script=held) as upstream:
        text = config(upstream, upstreams='max_connections = 1\nconnect_timeout = "100ms"')
        async with serve(text) as served, RawClient(served.port) as first, RawClient(served.port) as second:
            await first.send(GET)
            await until(lambda: held.waiting)
            heard = await second.ask(GET)
            assert heard.status == 503 and heard.get(b"x-should-retry") == b"true"
            error = orjson.loads(heard.body)["error"]
            assert error["code"] == "queue_unavailable" and error["type"] == "service_unavailable_error"
            assert "its one connection was busy for 0.1 s. Nothing was sent." in error["message"]
            held.waiting[0].set()
            assert (await first.answer()).status == 200
        assert len(upstream.requests) == 1


async def test_a_streaming_answer_holds_its_connection_until_it_is_closed() -> None:
    async def endless(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        await call.gone()

    async with ScriptedUpstream(script=endless) as upstream:
        async with wired(upstream, max_connections=1, connect_timeout=0.05) as wire:
            first = await wire.send(get())
            with pytest.raises(Crowded):
                await wire.send(get())
            second = asyncio.create_task(wire.send(get()))
            await asyncio.sleep(0)
            await first.body.aclose()
            await (await second).body.aclose()
            assert upstream.connections == 2


async def test_who_leaves_the_line_takes_nothing_along() -> None:
    held = Held()
    async with ScriptedUpstream(script=held) as upstream, wired(upstream, max_connections=1) as wire:
        first = asyncio.create_task(ask(wire, get("/first")))
        await until(lambda: held.waiting)
        waiting = [asyncio.create_task(ask(wire, get(f"/{i}"))) for i in range(5)]
        await asyncio.sleep(0)
        waiting[2].cancel()  # in the midst of the line
        waiting[0].cancel()  # at its head
        held.waiting[0].set()
        await first
        for i, go in ((1, 1), (3, 2), (4, 3)):
            await until(lambda go=go: len(held.waiting) > go)
            held.waiting[go].set()
            assert await waiting[i] == b"{}"
        assert held.targets == [b"/v1/first", b"/v1/1", b"/v1/3", b"/v1/4"] and upstream.connections == 1
        gone = await asyncio.gather(waiting[0], waiting[2], return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in gone)


async def test_one_who_is_woken_and_leaves_before_running_wakes_the_next() -> None:
    room = False
    line = Line(1, lambda: room)
    first, second = [asyncio.create_task(line.enter(lambda: None, 60.0)) for _ in range(2)]
    await asyncio.sleep(0)
    room = True
    line.nudge()
    first.cancel()
    assert await second is None
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_connection_that_can_not_be_made_makes_place_for_the_next() -> None:
    async with ScriptedUpstream() as upstream, wired(upstream, max_connections=1) as wire:
        refusals = iter([True] * 3)
        wire.address = Watched(upstream.url, 1, lambda: next(refusals, False))
        heard = await asyncio.gather(*(ask(wire, get()) for _ in range(6)), return_exceptions=True)
        assert [isinstance(one, UpstreamError) for one in heard] == [True] * 3 + [False] * 3


async def test_an_idle_connection_that_died_is_replaced_within_the_limit(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for tls in (None, authority.server("127.0.0.1")):
        clock = TurnedClock()
        async with ScriptedUpstream(tls=tls) as upstream:
            async with wired(upstream, clock=clock, max_connections=1, ca_file=authority.ca_file) as wire:
                for i in range(3):
                    assert await ask(wire, get()) == b"{}"
                    assert upstream.connections == i + 1
                    clock.turn(60)


async def test_a_socket_counts_and_takes_the_place_of_an_idle_connection() -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(sockets.upstream(sockets.echo))
        lines = 'max_connections = 1\nconnect_timeout = "100ms"'
        served = await stack.enter_async_context(serve(config(url, upstreams=lines)))
        client = await stack.enter_async_context(RawClient(served.port))
        # aiohttp's handler wants a socket; a question without one is a 400 that leaves its connection idle.
        assert (await client.ask(GET)).status == 400
        for _ in range(2):
            async with sockets.connected(served) as socket:
                await socket.send_str("x")
                assert (await socket.receive()).data == "x"
                heard = await client.ask(GET)
                assert heard.status == 503 and b"queue_unavailable" in heard.body
        assert (await client.ask(GET)).status == 400


class Watched(Address):
    """Counts its open sockets from without each time it makes one; now and then it can't make one."""

    def __init__(self, url: str, limit: int, refuse: Callable[[], bool], **more: Any) -> None:
        super().__init__(url, **more)
        self._limit = limit
        self._refuse = refuse
        self._sockets: list[Any] = []
        self._dialling = 0

    async def connect(self, make: Callable[[], P], **how: Any) -> P:
        self._dialling += 1
        try:
            self._sockets = [one for one in self._sockets if one.fileno() != -1]
            assert len(self._sockets) + self._dialling <= self._limit
            if self._refuse():
                await asyncio.sleep(0)
                raise UpstreamError("no connection", sent=False)
            made = await super().connect(make, **how)
            self._sockets.append(made.transport.get_extra_info("socket"))  # type: ignore[attr-defined]
            return made
        finally:
            self._dialling -= 1


async def whole(response: Response) -> None:
    await response.body.read(2**20)


async def a_part(response: Response) -> None:
    async for _ in response.body:
        break
    await response.body.aclose()


async def nothing(response: Response) -> None:
    await response.body.aclose()


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_there_are_never_more_and_none_is_lost(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    limit = chance.randint(1, 4)
    authority = Authority(tmp_path) if seed % 4 == 3 else None
    calm = asyncio.Event()

    async def does_anything(call: Call) -> None:
        await call.body()
        if calm.is_set():
            return await call.send(OK)
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        match chance.randrange(6):
            case 0:
                call.reset()
            case 1:
                call.cut()
            case 2:
                await call.send(CLOSES)
                call.cut()
            case 3:
                await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 30_000)
                call.cut() if chance.random() < 0.5 else await call.send(b"x" * 20_000)
            case _:
                await call.send(OK)

    takes: list[Callable[[Response], Awaitable[None]]] = [whole, whole, a_part, nothing]
    tls = authority.server("127.0.0.1") if authority else None
    async with (
        ScriptedUpstream(script=does_anything, tls=tls) as upstream,
        wired(upstream, max_connections=limit, connect_timeout=60.0) as wire,
    ):
        ca_file = authority.ca_file if authority else None
        wire.address = Watched(
            upstream.url, limit, lambda: not calm.is_set() and chance.random() < 0.1, ca_file=ca_file
        )

        async def client() -> None:
            response = await wire.send(posted() if chance.random() < 0.5 else get())
            await chance.choice(takes)(response)

        async def one() -> None:
            asking = asyncio.create_task(client())
            if chance.random() < 0.4:
                for _ in range(chance.randrange(60)):
                    await asyncio.sleep(0)
                asking.cancel()
            (error,) = await asyncio.gather(asking, return_exceptions=True)
            assert error is None or isinstance(error, UpstreamError | asyncio.CancelledError), error

        await asyncio.gather(*(one() for _ in range(100)))
        calm.set()
        held = Held()
        upstream.script = held
        last = [asyncio.create_task(ask(wire, get())) for _ in range(limit)]
        await until(lambda: len(held.waiting) == limit)  # every place is there again
        for go in held.waiting:
            go.set()
        await asyncio.gather(*last)
