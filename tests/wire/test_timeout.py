"""Every clock: the upstream's first byte and pauses, the client's head and body, the deadline, our own patience."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.model.message import Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, TurnedClock, serve

from .telling import CHUNKED, GET, OK, POST, chunk, config, post

MB = 1_000_000


async def test_no_answer_in_time_is_a_504_and_upstream_is_hung_up_on() -> None:
    gone = asyncio.Event()

    async def silent(call: Call) -> None:
        await call.body()
        await call.gone()
        gone.set()
        call.cut()

    async with ScriptedUpstream(script=silent) as upstream:
        async with serve(config(upstream, upstreams='first_byte_timeout = "0.2s"')) as served:
            async with RawClient(served.port) as client:
                began = time.monotonic()
                heard = await client.ask(POST)
                assert heard.status == 504 and 0.2 <= time.monotonic() - began < 2
                assert b"upstream_timeout" in heard.body and b"It may have been billed" in heard.body
                assert heard.get(b"x-should-retry") == b"false"
            await gone.wait()
            assert (await served.ended(1))[0]["attempts"] == ["only=timeout"]


async def test_an_upstream_that_stops_taking_the_upload_is_given_up() -> None:
    over = asyncio.Event()

    async def deaf(call: Call) -> None:
        await over.wait()
        call.cut()

    async with ScriptedUpstream(script=deaf) as upstream:
        async with (
            serve(config(upstream, upstreams='idle_timeout = "0.3s"')) as served,
            RawClient(served.port) as client,
        ):
            sending = asyncio.create_task(client.send(post(90 * MB) + b"x" * 90 * MB))
            assert (await client.answer()).status == 504
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            over.set()


async def test_a_client_that_uploads_slowly_is_not_the_upstreams_silence() -> None:
    async with ScriptedUpstream() as upstream:
        slow = 'first_byte_timeout = "0.2s"\nidle_timeout = "0.2s"'
        async with serve(config(upstream, upstreams=slow)) as served, RawClient(served.port) as client:
            await client.send(CHUNKED)
            for _ in range(5):
                await client.send(chunk(b"x"))
                await asyncio.sleep(0.12)
            assert (await client.ask(b"0\r\n\r\n")).status == 200


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_an_answer_that_stands_still_is_cut(framing: bytes) -> None:
    gone = asyncio.Event()

    async def stalls(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + chunk(b"12345"))
        await call.gone()
        gone.set()
        call.cut()

    async with ScriptedUpstream(script=stalls) as upstream:
        async with (
            serve(config(upstream, upstreams='idle_timeout = "0.2s"')) as served,
            RawClient(served.port) as client,
        ):
            await client.send(GET)
            assert (await client.head())[0] == b"HTTP/1.1 200 OK"
            rest = await client.ended()
            assert b"12345" in rest and not rest.endswith(b"0\r\n\r\n")
            await gone.wait()
            line = (await served.ended(1))[0]
            assert line["error"] == "upstream_timeout" and line["complete"] is False


async def test_pauses_shorter_than_the_limit_add_up_to_any_length() -> None:
    async def drips(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(6):
            await asyncio.sleep(0.1)
            await call.send(chunk(b"x"))
        await call.send(b"0\r\n\r\n")

    async with ScriptedUpstream(script=drips) as upstream:
        async with (
            serve(config(upstream, upstreams='idle_timeout = "0.3s"')) as served,
            RawClient(served.port) as client,
        ):
            assert (await client.ask(GET)).body == b"x" * 6


@pytest.mark.parametrize("framing", ["counted", "chunked"])
@pytest.mark.parametrize("layered", [False, True])
async def test_our_own_pause_is_not_the_upstreams_stall(framing: str, layered: bool) -> None:
    # A client that takes nothing for longer than idle_timeout, from an upstream that would send all the while.
    total, sent = 40 * MB, 0
    piece = b"x" * MB

    async def sends(call: Call) -> None:
        nonlocal sent
        length = b"Content-Length: %d" % total if framing == "counted" else b"Transfer-Encoding: chunked"
        await call.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n")
        while sent < total:
            await call.send(piece if framing == "counted" else chunk(piece))
            sent += MB
        if framing == "chunked":
            await call.send(b"0\r\n\r\n")

    async def same(pieces):
        async for one in pieces:
            yield one

    async def layer(exchange, request, forward) -> Response:
        return (await forward(request)).through(same)

    layers = [layer] if layered else []
    async with ScriptedUpstream(script=sends) as upstream:
        async with serve(config(upstream, *layers, upstreams='idle_timeout = "0.2s"')) as served:
            async with RawClient(served.port, window=2**16) as client:
                await client.send(GET)
                await asyncio.sleep(0.7)
                assert sent < 20 * MB  # nor did memory grow meanwhile
                assert len((await client.answer()).body) == total


async def test_a_head_half_sent_is_answered_with_408() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream, server='header_timeout = "0.2s"')) as served:
        async with RawClient(served.port) as client:
            await client.send(b"GET /v1/x HTTP/1.1\r\nHost: me\r\nAuthoriz")
            heard = await client.answer()
            assert heard.status == 408 and heard.get(b"connection") == b"close"
            assert await client.ended() == b""
        assert not upstream.requests


async def test_a_head_that_drips_in_is_cut_off_all_the_same() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream, server='header_timeout = "0.3s"')) as served:
        for before in (b"", GET):
            async with RawClient(served.port) as client:
                if before:
                    await client.ask(before)

                async def drip(client: RawClient = client) -> None:
                    for byte in GET[:-1] * 100:
                        await client.send(bytes((byte,)))
                        await asyncio.sleep(0.02)

                began = time.monotonic()
                dripping = asyncio.create_task(drip())
                heard = await client.answer()
                assert heard.status == 408 and time.monotonic() - began < 1.5
                assert await client.ended() == b""
                dripping.cancel()
                await asyncio.gather(dripping, return_exceptions=True)


async def test_a_silent_connection_is_closed_without_a_word() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream, server='header_timeout = "0.2s"')) as served:
        async with RawClient(served.port) as client:
            assert await client.ended() == b""
        assert served.log == []


async def test_a_connection_between_two_requests_is_not_taken_for_a_slow_head() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream, server='header_timeout = "0.2s"')) as served:
        async with RawClient(served.port) as client:
            await client.ask(GET)
            await asyncio.sleep(0.6)
            assert (await client.ask(GET)).status == 200


async def test_a_connection_idle_for_too_long_is_closed_without_a_word() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served:
        served.house.edge.listener._kwargs["keepalive_timeout"] = 0.2
        async with RawClient(served.port) as client:
            await client.ask(GET)
            assert await client.ended() == b""


@pytest.mark.parametrize("head", [post(10), CHUNKED])
@pytest.mark.parametrize("layered", [False, True])
async def test_a_body_that_stands_still_is_answered_with_408(head: bytes, layered: bool) -> None:
    async def reads(exchange, request, forward) -> Response:
        return await forward(request.with_body(await request.body.read(1000)))

    layers = [reads] if layered else []
    async with (
        ScriptedUpstream() as upstream,
        serve(config(upstream, *layers, server='body_timeout = "0.2s"')) as served,
    ):
        async with RawClient(served.port) as client:
            await client.send(head + (chunk(b"abc") if head is CHUNKED else b"abc"))
            heard = await client.answer()
            assert heard.status == 408 and heard.get(b"connection") == b"close"
            assert await client.ended() == b""
        assert all(received.body is None for received in upstream.requests)


async def test_a_slow_upstream_is_not_the_clients_stall() -> None:
    # The body waits because upstream takes nothing; the client is not to blame.
    async def slow(call: Call) -> None:
        await asyncio.sleep(0.7)
        await call.body()
        await call.send(OK)

    async with (
        ScriptedUpstream(script=slow) as upstream,
        serve(config(upstream, server='body_timeout = "0.2s"')) as served,
    ):
        async with RawClient(served.port) as client:
            sending = asyncio.create_task(client.send(post(30 * MB) + b"x" * 30 * MB))
            assert (await client.answer()).status == 200
            await sending


@pytest.mark.parametrize(
    ("sent", "words"), [(True, b"It may have been billed"), (False, b"It can not have been billed")]
)
async def test_the_deadline_is_a_504_that_says_whether_it_may_have_been_billed(sent: bool, words: bytes) -> None:
    clock = TurnedClock()
    reached = asyncio.Event()

    async def silent(call: Call) -> None:
        reached.set()
        await call.gone()
        call.cut()

    async def waits(exchange, request, forward) -> Response:
        if sent:
            return await forward(request)
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with ScriptedUpstream(script=silent) as upstream:
        async with serve(config(upstream, waits, route='deadline = "300s"'), clock=clock) as served:
            async with RawClient(served.port) as client:
                await client.send(GET)
                await reached.wait()
                clock.turn(301)
                heard = await client.answer()
                assert heard.status == 504 and words in heard.body and b"upstream_timeout" in heard.body
                assert heard.get(b"x-should-retry") == b"false"
                assert (await client.ask(b"GET /livez HTTP/1.1\r\nHost: me\r\n\r\n")).status == 200


async def test_the_deadline_is_for_the_answer_to_begin_not_for_its_delivery() -> None:
    clock = TurnedClock()
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
        await go.wait()
        await call.send(b"}")

    async with ScriptedUpstream(script=script) as upstream:
        more = 'idle_timeout = "3000s"'
        async with serve(config(upstream, upstreams=more, route='deadline = "300s"'), clock=clock) as served:
            async with RawClient(served.port) as client:
                await client.send(GET)
                await client.head()
                clock.turn(301)
                served.house.edge.sweep(header=20, body=60, stall=600)
                go.set()
                assert await client.reader.readexactly(2) == b"{}"


async def test_a_client_that_takes_nothing_for_ever_is_hung_up_on() -> None:
    gone = asyncio.Event()

    async def sends(call: Call) -> None:
        try:
            await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await call.send(chunk(b"x" * MB))
        finally:
            gone.set()

    async with ScriptedUpstream(script=sends) as upstream, serve(config(upstream, route='deadline = "0.3s"')) as served:
        async with RawClient(served.port, window=2**16) as client:
            await client.send(GET)
            await gone.wait()
            assert (await served.ended(1))[0]["complete"] is False
