"""Clients that leave: their work ends with them, or is finished without them, and is accounted for in either case."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections.abc import Callable

import pytest

from proxy.model.exchange import Outcome
from proxy.model.message import Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, serve

from .telling import CHUNKED, GET, OK, POST, chunk, config, post, until

MB = 1_000_000


class Witness:
    """A layer that keeps what its finisher was told."""

    def __init__(self, *, keep_going: bool = False) -> None:
        self.outcomes: list[Outcome] = []
        self.body = b""
        self.ended = asyncio.Event()
        self._keep_going = keep_going

    async def __call__(self, exchange, request, forward) -> Response:
        async def finish(outcome: Outcome) -> None:
            self.outcomes.append(outcome)
            self.ended.set()

        exchange.on_finish(finish)
        if self._keep_going:
            exchange.keep_going()
        return (await forward(request)).through(self._seen)

    async def _seen(self, pieces):
        async for piece in pieces:
            self.body += piece
            yield piece


async def before_the_head(call: Call) -> None:
    await call.body()


async def in_the_body(call: Call) -> None:
    await call.body()
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc")


@pytest.mark.parametrize("moment", [before_the_head, in_the_body])
@pytest.mark.parametrize("leave", ["fin", "rst"])
async def test_when_the_client_leaves_upstream_is_hung_up_on(moment: Callable, leave: str) -> None:
    reached, gone, witness = asyncio.Event(), asyncio.Event(), Witness()

    async def script(call: Call) -> None:
        await moment(call)
        reached.set()
        await call.gone()
        gone.set()
        call.cut()

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream, witness)) as served:
        async with RawClient(served.port) as client:
            await client.send(POST)
            await reached.wait()
            if moment is in_the_body:
                await client.head()
                await client.reader.readexactly(3)
            if leave == "rst":
                client.reset()
        await gone.wait()
        await witness.ended.wait()
        line = (await served.ended(1))[0]
        assert line["left"] is True and line["complete"] is False
        assert len(witness.outcomes) == 1
        outcome = witness.outcomes[0]
        assert outcome.left and not outcome.complete
        assert outcome.status == (200 if moment is in_the_body else 0)
        assert outcome.delivered == (3 if moment is in_the_body else 0)
        assert outcome.attempts[0].sent
        assert not served.house.engine.live


@pytest.mark.parametrize("head", [post(1000), CHUNKED])
async def test_when_the_client_leaves_in_mid_upload_upstream_is_hung_up_on(head: bytes) -> None:
    reached, gone, witness = asyncio.Event(), asyncio.Event(), Witness()

    async def script(call: Call) -> None:
        await call.reader.readexactly(3)
        reached.set()
        await call.gone()
        gone.set()
        call.cut()

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream, witness)) as served:
        async with RawClient(served.port) as client:
            await client.send(head + chunk(b"abc"))
            await reached.wait()
        await gone.wait()
        await witness.ended.wait()
        assert (await served.ended(1))[0]["left"] is True
        assert len(witness.outcomes) == 1 and witness.outcomes[0].left
        assert upstream.requests[0].body is None


async def test_a_client_that_leaves_while_we_do_not_read_from_it_is_noticed() -> None:
    # Reading is paused, since upstream takes nothing: no FIN is seen unless somebody asks the kernel.
    gone, over = asyncio.Event(), asyncio.Event()

    async def deaf(call: Call) -> None:
        await over.wait()
        await call.gone()
        gone.set()
        call.cut()

    witness = Witness()
    async with ScriptedUpstream(script=deaf) as upstream, serve(config(upstream, witness)) as served:
        async with RawClient(served.port) as client:
            sending = asyncio.create_task(client.send(post(90 * MB) + b"x" * 90 * MB))
            await until(lambda: any(one._reading_paused for one in served.house.edge.listener.connections), steadily=50)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            client.reset()
        await witness.ended.wait()
        assert witness.outcomes[0].left
        over.set()
        await gone.wait()


async def test_a_client_that_leaves_while_its_request_waits_in_a_plugin_cancels_the_plugin() -> None:
    reached, cancelled = asyncio.Event(), asyncio.Event()

    async def waits(exchange, request, forward) -> Response:
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    async with ScriptedUpstream() as upstream, serve(config(upstream, waits)) as served:
        async with RawClient(served.port) as client:
            await client.send(GET)
            await reached.wait()
        await cancelled.wait()
        line = (await served.ended(1))[0]
        assert line["left"] is True and line["status"] == 0
        assert upstream.connections == 0


async def test_a_pipelined_request_whose_client_has_left_is_not_begun() -> None:
    reached = asyncio.Event()

    async def waits(call: Call) -> None:
        reached.set()
        await call.gone()
        call.cut()

    async with ScriptedUpstream(script=waits) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            await client.send(GET * 3)
            await reached.wait()
        await served.ended(1)
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("moment", [before_the_head, in_the_body])
@pytest.mark.parametrize("leave", ["fin", "rst"])
async def test_work_that_keeps_going_is_finished_without_its_client(moment: Callable, leave: str) -> None:
    reached, go, witness = asyncio.Event(), asyncio.Event(), Witness(keep_going=True)
    size = MB

    async def script(call: Call) -> None:
        await moment(call)
        reached.set()
        await go.wait()
        if moment is before_the_head:
            await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nabc" % size)
        await call.send(b"x" * (size - 3))

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream, witness)) as served:
        async with RawClient(served.port) as client:
            await client.send(POST)
            await reached.wait()
            if moment is in_the_body:
                await client.head()
            if leave == "rst":
                client.reset()
        await until(lambda: all(one.transport is None for one in served.house.edge.listener.connections))
        go.set()
        await witness.ended.wait()
        assert witness.body == b"abc" + b"x" * (size - 3)
        outcome = witness.outcomes[0]
        assert len(witness.outcomes) == 1 and outcome.left and not outcome.complete
        assert outcome.error is None
        assert (await served.ended(1))[0]["left"] is True
        assert upstream.connections == 1 and upstream.open == 1  # heard to its end: the connection is kept


async def test_work_that_keeps_going_is_finished_for_a_client_that_stalled_and_then_left() -> None:
    # The answer waits for the client to take it when the connection breaks under it.
    total, sent = 20 * MB, 0
    witness = Witness(keep_going=True)

    async def script(call: Call) -> None:
        nonlocal sent
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent < total:
            await call.send(b"x" * MB)
            sent += MB

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream, witness)) as served:
        async with RawClient(served.port, window=2**16) as client:
            await client.send(GET)
            await until(lambda: any(one.writing_paused for one in served.house.edge.listener.connections))
            assert sent < total
            client.reset()
        await witness.ended.wait()
        assert len(witness.body) == total
        assert witness.outcomes[0].left and witness.outcomes[0].error is None


async def test_work_that_keeps_going_ends_at_its_deadline_even_so() -> None:
    reached, gone, witness = asyncio.Event(), asyncio.Event(), Witness(keep_going=True)

    async def silent(call: Call) -> None:
        reached.set()
        await call.gone()
        gone.set()
        call.cut()

    async with ScriptedUpstream(script=silent) as upstream:
        async with serve(config(upstream, witness, route='deadline = "0.3s"')) as served:
            async with RawClient(served.port) as client:
                await client.send(GET)
                await reached.wait()
            await gone.wait()
            await witness.ended.wait()
            assert witness.outcomes[0].left and (await served.ended(1))[0]["left"] is True


async def test_a_whole_answer_reaches_its_finisher_as_complete() -> None:
    witness = Witness()
    async with (
        ScriptedUpstream() as upstream,
        serve(config(upstream, witness)) as served,
        RawClient(served.port) as client,
    ):
        await client.ask(POST)
        await witness.ended.wait()
        outcome = witness.outcomes[0]
        assert outcome.complete and not outcome.left and outcome.error is None
        assert (outcome.status, outcome.delivered) == (200, 2) and outcome.attempts[0].status == 200
        assert witness.body == OK[-2:]


async def test_a_client_that_leaves_after_its_answer_has_not_left() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            await client.ask(POST)
        line = (await served.ended(1))[0]
        assert "left" not in line and "complete" not in line


async def test_a_reset_that_only_a_write_tells_of_is_a_client_that_left() -> None:
    """The loop had not come round to say so: the log told of an error of ours, and of nobody who left."""
    witness, client = Witness(), socket.socket()

    async def layer(exchange, request, forward) -> Response:
        async def pieces(source):
            async for piece in source:
                yield piece
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            yield b"b"  # the kernel refuses it
            yield b"c"  # and this finds the connection closing

        return (await witness(exchange, request, forward)).through(pieces)

    async with ScriptedUpstream(OK) as upstream, serve(config(upstream, layer)) as served:
        client.connect(("127.0.0.1", served.port))
        client.sendall(GET)
        await witness.ended.wait()
        line = (await served.ended(1))[0]
    outcome = witness.outcomes[0]
    assert (outcome.left, outcome.complete, outcome.error) == (True, False, None)
    assert line["left"] is True and "error" not in line


@pytest.mark.parametrize("moment", [before_the_head, in_the_body])
async def test_what_was_in_flight_is_gone_with_who_left_and_not_left_to_the_collector(moment: Callable) -> None:
    """Each kept some hundred KB until it came by: the memory of 32 who left in the middle of pictures grew by 14 MB."""
    reached, witness = asyncio.Event(), Witness()

    async def script(call: Call) -> None:
        await moment(call)
        reached.set()
        await call.gone()

    def left_over() -> bool:
        found = [one.__traceback__ for one in gc.get_objects() if isinstance(one, asyncio.CancelledError)]
        return any(trace and trace.tb_frame.f_code.co_qualname == "Connection.start" for trace in found)

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream, witness)) as served:
        gc.collect()
        gc.disable()
        try:
            async with RawClient(served.port) as client:
                await client.send(POST)
                await reached.wait()
            await witness.ended.wait()
            await until(lambda: not left_over())
        finally:
            gc.enable()
