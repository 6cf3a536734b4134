"""Upstream connections: kept, taken again, found dead, and never shared by two answers."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from proxy.model.errors import UpstreamError
from proxy.testkit import Call, RawClient, ScriptedUpstream, TurnedClock, serve
from proxy.wire.link import Link

from .telling import GET, OK, POST, ask, config, get, posted, wired


async def echo_target(call: Call) -> None:
    target = call.received.target
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))


async def test_answers_never_cross() -> None:
    # A connection may be in use again before the task that waits for its last answer has run.
    async with ScriptedUpstream(script=echo_target) as upstream, serve(config(upstream)) as served:

        async def one(number: int) -> None:
            async with RawClient(served.port) as client:
                for turn in range(30):
                    target = b"/v1/%d-%d" % (number, turn)
                    answer = await client.ask(b"GET %b HTTP/1.1\r\nHost: me\r\n\r\n" % target)
                    assert answer.body == target

        await asyncio.gather(*(one(number) for number in range(40)))


async def test_one_connection_serves_one_question_after_another() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        for _ in range(20):
            assert (await client.ask(POST)).body == b"{}"
        assert upstream.connections == 1
        assert [received.body for received in upstream.requests] == [b"hi"] * 20


async def test_a_young_connection_is_not_swept_up_as_an_idle_one() -> None:
    clock = TurnedClock()
    async with ScriptedUpstream() as upstream, wired(upstream, clock=clock) as wire:
        loop = asyncio.get_running_loop()
        link = await wire.address.connect(lambda: Link(wire, loop), timeout=5, now=clock.now)
        clock.turn(3600)
        wire.sweep()
        assert link.transport is not None and not link.transport.is_closing()
        link.abort()


async def test_an_idle_connection_is_closed_in_time() -> None:
    clock = TurnedClock()
    async with ScriptedUpstream() as upstream, wired(upstream, clock=clock, keepalive=15.0) as wire:
        await ask(wire, get())
        clock.turn(14)
        await ask(wire, get())
        assert upstream.connections == 1
        clock.turn(16)
        wire.sweep()
        await ask(wire, get())
        assert upstream.connections == 2


async def test_an_old_idle_connection_is_not_used_even_before_the_sweep() -> None:
    clock = TurnedClock()
    async with ScriptedUpstream() as upstream, wired(upstream, clock=clock, keepalive=15.0) as wire:
        await ask(wire, get())
        clock.turn(16)
        await ask(wire, get())
        assert upstream.connections == 2


class Peer:
    """An upstream whose hang-up the loop has not had a moment to see."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.seen: list[bytes] = []
        self._open: list[socket.socket] = []

    async def answer_one(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        peer, _ = await loop.sock_accept(self._listener)
        self._open.append(peer)
        self.seen.append(await loop.sock_recv(peer, 2**16))
        await loop.sock_sendall(peer, OK)
        return peer

    def close(self) -> None:
        for sock in [*self._open, self._listener]:
            sock.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("hang_up", [socket.socket.close, reset])
async def test_a_hang_up_is_noticed_before_anything_is_written(hang_up: object) -> None:
    peer = Peer()
    async with wired(peer.url) as wire:
        first = asyncio.create_task(peer.answer_one())
        await ask(wire, posted())
        hang_up(await first)  # type: ignore[operator]
        second = asyncio.create_task(peer.answer_one())
        assert await ask(wire, posted()) == b"{}"
        await second
        assert len(peer.seen) == 2
    peer.close()


async def test_a_write_that_the_kernel_refuses_was_not_sent_and_a_post_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = Peer()
    async with wired(peer.url) as wire:
        first = asyncio.create_task(peer.answer_one())
        await ask(wire, posted())
        reset(await first)
        monkeypatch.setattr(Link, "stale", lambda *_: False)
        second = asyncio.create_task(peer.answer_one())
        assert await ask(wire, posted()) == b"{}"
        await second
        assert len(peer.seen) == 2
    peer.close()


async def test_a_post_is_not_asked_twice_when_a_kept_connection_died_after_sending_but_a_get_is() -> None:
    heard = 0

    async def dies(call: Call) -> None:
        nonlocal heard
        await call.body()
        heard += 1
        if heard in (2, 4):
            call.cut()
        else:
            await call.send(OK)

    async with ScriptedUpstream(script=dies) as upstream, wired(upstream) as wire:
        await ask(wire, posted())
        with pytest.raises(UpstreamError) as caught:
            await wire.send(posted())
        assert caught.value.sent and heard == 2
        await ask(wire, posted())
        assert await ask(wire, get()) == b"{}"
        assert heard == 5


async def test_a_fresh_connection_that_dies_is_an_answer_in_itself() -> None:
    async def dies(call: Call) -> None:
        call.cut()

    async with ScriptedUpstream(script=dies) as upstream, wired(upstream) as wire:
        with pytest.raises(UpstreamError) as caught:
            await wire.send(get())
        assert caught.value.sent and len(upstream.requests) == 1


async def test_a_connection_that_upstream_closes_after_each_answer_costs_nobody_an_error() -> None:
    async def once(call: Call) -> None:
        await call.body()
        await call.send(OK)
        call.cut()

    async with ScriptedUpstream(script=once) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            for _ in range(20):
                assert (await client.ask(GET)).status == 200
        assert upstream.connections == 20


async def test_a_connection_is_not_used_again_after_connection_close() -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    async with ScriptedUpstream(answer) as upstream, wired(upstream) as wire:
        await ask(wire, get())
        await ask(wire, get())
        assert upstream.connections == 2


@pytest.mark.parametrize(
    "more",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"evil", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nev"],
)
@pytest.mark.parametrize("size", [2, 70_000])
async def test_bytes_nobody_asked_for_reach_nobody(more: bytes, size: int) -> None:
    body = b"x" * size
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, body)

    async def evil(call: Call) -> None:
        await call.body()
        await call.send(answer + more)

    async with ScriptedUpstream(script=evil) as upstream, serve(config(upstream)) as served:
        for turn in range(1, 4):
            async with RawClient(served.port) as client:
                heard = await client.ask(GET)
                assert b"evil" not in heard.body
                assert heard.body == body or heard.status == 502
            assert upstream.connections == turn


async def test_an_idle_connection_that_speaks_unasked_is_dropped() -> None:
    answered, gone = asyncio.Event(), asyncio.Event()

    async def talks(call: Call) -> None:
        await call.send(OK)
        if call.received.connection == 1:
            await answered.wait()
            await call.send(OK)
            await call.gone()
            gone.set()
            call.cut()

    async with ScriptedUpstream(script=talks) as upstream, wired(upstream) as wire:
        assert await ask(wire, get()) == b"{}"
        answered.set()
        await gone.wait()
        assert await ask(wire, get()) == b"{}"
        assert upstream.connections == 2


async def test_a_response_dropped_unread_takes_its_connection_with_it() -> None:
    gone = asyncio.Event()

    async def long(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc")
        await call.gone()
        gone.set()
        call.cut()

    async with ScriptedUpstream(script=long) as upstream, wired(upstream) as wire:
        response = await wire.send(get())
        await response.aclose()
        await response.aclose()
        await gone.wait()


async def test_a_whole_answer_dropped_unread_leaves_its_connection_in_use() -> None:
    async with ScriptedUpstream() as upstream, wired(upstream) as wire:
        for _ in range(3):
            await (await wire.send(get())).aclose()
        assert upstream.connections == 1
