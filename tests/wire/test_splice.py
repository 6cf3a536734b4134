"""An answer that nobody looks at goes from socket to socket; the moment a layer reads, the same answer is iterated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from proxy.api import Exchange, Forward, Outcome, Request, Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, serve
from proxy.wire import upstream as upstream_module
from proxy.wire.turn import Round, Turn

from .telling import GET, chunk, config, until

MB = 1_000_000
DATA = bytes(range(256)) * 8000


async def looks(exchange: Exchange, request: Request, forward: Forward) -> Response:
    async def same(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece

    return (await forward(request)).through(same)


async def passes(exchange: Exchange, request: Request, forward: Forward) -> Response:
    return await forward(request)


def counted(data: bytes) -> list[bytes]:
    return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data), data]


def chunked(data: bytes) -> list[bytes]:
    cuts = [data[at : at + 99_991] for at in range(0, len(data), 99_991)]
    return [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *map(chunk, cuts), b"0\r\n\r\n"]


def until_close(data: bytes) -> list[bytes]:
    return [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", data]


@pytest.mark.parametrize("layer", [passes, looks], ids=["spliced", "looked-at"])
@pytest.mark.parametrize("framing", [counted, chunked, until_close])
@pytest.mark.parametrize("paused", [False, True], ids=["at-once", "in-two"])
async def test_the_bytes_are_the_same_either_way(layer: Callable, framing: Callable, paused: bool) -> None:
    async def script(call: Call) -> None:
        head, *pieces = framing(DATA)
        await call.send(head + (b"" if paused else pieces.pop(0)))
        if paused:
            await heard.wait()
        for piece in pieces:
            await call.send(piece)
        if framing is until_close:
            call.cut()

    heard = asyncio.Event()
    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream, layer)) as served:
        async with RawClient(served.port) as client:
            for _ in range(1 if framing is until_close else 3):
                heard.clear()
                await client.send(GET)
                asyncio.get_running_loop().call_later(0.02, heard.set)
                assert (await client.answer()).body == DATA
        assert (await served.ended(1))[0]["bytes_out"] == len(DATA)


@pytest.mark.parametrize(("layer", "waits"), [(passes, range(1, 3)), (looks, range(30, 102))])
async def test_no_task_wakes_for_bytes_that_nobody_looks_at(
    layer: Callable, waits: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Turn] = []

    def watched(round: Round) -> Turn:
        made.append(Turn(round))
        return made[-1]

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for number in range(100):
            await call.send(b"x")
            await until(lambda number=number: heard > number)

    monkeypatch.setattr(upstream_module, "Turn", watched)
    heard = 0
    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream, layer)) as served:
        async with RawClient(served.port) as client:
            await client.send(GET)
            await client.head()
            for _ in range(100):
                await client.reader.readuntil(b"x")
                heard += 1
    assert len(made) in waits


@pytest.mark.parametrize("framing", [counted, chunked, until_close])
async def test_what_nobody_looks_at_is_finished_without_its_client_where_it_keeps_going(framing: Callable) -> None:
    reached, go, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    outcomes: list[Outcome] = []

    async def keeps_going(exchange: Exchange, request: Request, forward: Forward) -> Response:
        async def ended(outcome: Outcome) -> None:
            outcomes.append(outcome)
            over.set()

        exchange.keep_going()
        exchange.on_finish(ended)
        return await forward(request)

    async def script(call: Call) -> None:
        head, *pieces = framing(DATA)
        await call.send(head + pieces[0][:3])
        reached.set()
        await go.wait()
        await call.send(pieces[0][3:] + b"".join(pieces[1:]))
        if framing is until_close:
            call.cut()

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream, keeps_going)) as served:
        async with RawClient(served.port) as client:
            await client.send(GET)
            await reached.wait()
            await client.head()
            client.reset()
        await until(lambda: all(one.transport is None for one in served.house.edge.listener.connections))
        go.set()
        await over.wait()
        assert outcomes[0].left and not outcomes[0].complete and outcomes[0].error is None
        assert outcomes[0].delivered < 10
        if framing is not until_close:
            await until(lambda: upstream.open == 1)  # heard to its end: the connection is kept


async def test_a_client_that_takes_nothing_stops_the_upstream_and_goes_on_where_it_stood() -> None:
    sent = 0

    async def script(call: Call) -> None:
        nonlocal sent
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (40 * MB))
        for number in range(40):
            await call.send(bytes([number]) * MB)
            sent += 1

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port, window=2**16) as client:
            await client.send(GET)
            await until(lambda: any(one.writing_paused for one in served.house.edge.listener.connections))
            seen = -1
            while seen != sent:  # as much as the kernels hold, and no more
                seen = sent
                await asyncio.sleep(0.05)
            assert sent < 40
            body = (await client.answer()).body
            assert body == b"".join(bytes([number]) * MB for number in range(40))


async def test_the_upstreams_clock_stands_while_the_client_takes_nothing() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (40 * MB))
        await call.send(b"x" * 40 * MB)

    async with ScriptedUpstream(script=script) as upstream:
        async with (
            serve(config(upstream, upstreams='idle_timeout = "0.2s"')) as served,
            RawClient(served.port, window=2**16) as client,
        ):
            await client.send(GET)
            await until(lambda: any(one.writing_paused for one in served.house.edge.listener.connections))
            await asyncio.sleep(0.5)  # more than twice the clock's time: nothing tells that it does not run
            assert len((await client.answer()).body) == 40 * MB


# --- Turn


async def test_a_turn_runs_who_waits_inside_the_call() -> None:
    loop = asyncio.get_running_loop()
    turn, order = Turn(Round(loop)), []

    async def waits() -> None:
        await turn
        order.append("ran")

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    done = loop.create_future()

    def callback() -> None:
        order.append("before")
        turn.take()
        order.append("after")
        done.set_result(None)

    loop.call_soon(callback)
    await done
    assert order == ["before", "ran", "after"]
    await task


async def test_a_turn_taken_within_a_task_runs_who_waits_later() -> None:
    turn = Turn(Round(asyncio.get_running_loop()))

    async def waits() -> str:
        await turn
        return "ran"

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    turn.take()
    assert not task.done()
    assert await task == "ran"


async def test_a_turn_that_was_taken_before_anybody_waited_is_no_wait() -> None:
    turn = Turn(Round(asyncio.get_running_loop()))
    turn.later()
    await turn


async def test_who_waits_for_a_turn_can_be_cancelled_and_the_turn_is_then_nothing() -> None:
    turn = Turn(Round(asyncio.get_running_loop()))

    async def waits() -> None:
        await turn

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    turn.take()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled() and not turn.cancel()


async def test_a_timeout_round_a_turn_is_a_timeout() -> None:
    turn = Turn(Round(asyncio.get_running_loop()))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await turn


async def test_a_round_lets_all_go_on_in_their_order_and_who_is_added_meanwhile_in_the_next() -> None:
    loop = asyncio.get_running_loop()
    turns, order = Round(loop), []

    def first() -> None:
        order.append("first")
        turns.add(lambda: order.append("third"))

    turns.add(first)
    turns.add(lambda: order.append("second"))
    assert not order
    loop.call_soon(lambda: order.append("between"))
    await asyncio.sleep(0)
    assert order == ["first", "second", "between"]
    await asyncio.sleep(0)
    assert order[3:] == ["third"]


async def test_one_that_fails_keeps_none_of_its_round() -> None:
    loop = asyncio.get_running_loop()
    turns, order, told = Round(loop), [], []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    error = RuntimeError("a fault")

    def fails() -> None:
        raise error

    turns.add(fails)
    turns.add(lambda: order.append("second"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["second"] and told == [error]
