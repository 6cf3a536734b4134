"""Bodies on their way in: framing, limits, refusals in mid-upload, and nobody's memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.model.body import Body
from proxy.model.errors import Rejected, UpstreamError
from proxy.model.message import Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, serve

from .telling import CHUNKED, OK, POST, ask, chunk, config, post, posted, until, wired

MB = 1_000_000


async def test_a_chunked_body_goes_on_chunked() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        await client.send(CHUNKED)
        for number in range(10):
            await client.send(chunk(b"x%02d" % number))
        assert (await client.ask(b"0\r\n\r\n")).status == 200
        received = upstream.requests[0]
        assert received.get(b"transfer-encoding") == b"chunked" and received.get(b"content-length") is None
        assert received.body == b"".join(b"x%02d" % number for number in range(10))


async def test_a_chunked_body_that_is_already_whole_keeps_its_framing() -> None:
    # Transfer-Encoding dropped alone would send it without any framing: what follows would be a request of its own.
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        for body in (b"abc", b"GET /v1/evil HTTP/1.1\r\nHost: a\r\n\r\n", b""):
            data = chunk(body) if body else b""
            assert (await client.ask(CHUNKED + data + b"0\r\n\r\n")).status == 200
            received = upstream.requests[-1]
            assert received.body == body
            assert (received.get(b"transfer-encoding") is None) != (received.get(b"content-length") is None)
        assert len(upstream.requests) == 3 and upstream.connections == 1


async def test_trailers_of_a_chunked_body_go_no_further() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        assert (await client.ask(CHUNKED + chunk(b"abc") + b"0\r\nX-Evil: 1\r\n\r\n")).status == 200
        assert upstream.requests[0].body == b"abc" and upstream.requests[0].get(b"x-evil") is None


async def test_an_early_refusal_stops_the_upload_and_is_delivered() -> None:
    async def refuses(call: Call) -> None:
        await call.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await call.gone()
        call.cut()

    async with ScriptedUpstream(script=refuses) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            await client.send(post(90 * MB) + b"x" * 300_000)
            heard = await client.answer()
            assert heard.status == 413 and heard.body == b"big" and heard.get(b"connection") == b"close"


async def test_an_early_refusal_stops_the_upload_with_its_head_although_its_body_is_still_to_come() -> None:
    rest, stopped = asyncio.Event(), asyncio.Event()

    async def refuses(call: Call) -> None:
        await call.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nb")
        await rest.wait()
        await call.send(b"ig")
        await call.gone()
        call.cut()

    class Waiting(Body):
        length = None

        def now(self) -> None:
            return None

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x"
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

    async with ScriptedUpstream(script=refuses) as upstream, wired(upstream) as wire:
        response = await wire.send(posted(Waiting()))
        await stopped.wait()
        rest.set()
        assert response.status == 413 and await response.body.read(9) == b"big"


async def test_an_early_refusal_frees_the_connection_even_if_upstream_reads_no_further() -> None:
    # Found by reading: closing waits for a write buffer that nobody empties any more.
    over = asyncio.Event()

    async def refuses(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await over.wait()
        call.cut()

    class Endless(Body):
        length = None

        def now(self) -> None:
            return None

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x" * 32 * MB  # more than all buffers on the way

    async with ScriptedUpstream(script=refuses) as upstream, wired(upstream) as wire:
        assert await ask(wire, posted(Endless())) == b"big"
        await until(lambda: not wire.links)
        over.set()


@pytest.mark.parametrize("size", [3, 40_000])
async def test_a_refusal_is_heard_although_upstream_hangs_up_on_the_upload(size: int) -> None:
    # The upstream resets the connection, since our bytes lie there unread; the answer must not be lost with it.
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size + b"b" * size

    async def refuses(call: Call) -> None:
        await call.send(refusal)
        call.cut()

    async with ScriptedUpstream(script=refuses) as upstream, serve(config(upstream)) as served:
        piece = b"x" * MB
        for _ in range(30):
            async with RawClient(served.port) as client:

                async def push(client: RawClient = client) -> None:
                    try:
                        await client.send(post(40 * MB))
                        for _ in range(40):
                            await client.send(piece)
                    except ConnectionError:
                        pass

                pushing = asyncio.create_task(push())
                heard = await client.answer()
                assert heard.status == 413 and heard.body == b"b" * size
                pushing.cancel()
                await asyncio.gather(pushing, return_exceptions=True)


async def test_an_early_success_lets_the_upload_go_on() -> None:
    size = 3 * MB

    async def echo(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        got = 0
        while got < size:
            piece = await call.reader.read(2**16)
            got += len(piece)
            await call.send(chunk(piece))
        await call.send(b"0\r\n\r\n")

    data = os.urandom(size)
    async with ScriptedUpstream(script=echo) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            sending = asyncio.create_task(client.send(post(size) + data))
            assert (await client.answer()).body == data
            await sending


async def test_100_continue_goes_out_when_the_body_is_wanted() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        await client.send(b"POST /v1/x HTTP/1.1\r\nHost: me\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await client.head() == (b"HTTP/1.1 100 Continue", [])
        assert (await client.ask(b"hello")).status == 200
        assert upstream.requests[0].body == b"hello" and upstream.requests[0].get(b"expect") is None


async def test_a_refusal_never_invites_the_body() -> None:
    async def refuses(exchange, request, forward) -> Response:
        raise Rejected("No key.", status=401, code="unauthorized")

    async with ScriptedUpstream() as upstream, serve(config(upstream, refuses)) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(
                b"POST /v1/x HTTP/1.1\r\nHost: me\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            assert heard.status == 401 and heard.get(b"connection") == b"close"
            async with asyncio.timeout(2):  # not the ten seconds for which a body on its way would be read off
                assert await client.ended() == b""
        assert upstream.connections == 0


async def test_a_client_that_does_not_wait_for_100_continue_is_served_too() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        heard = await client.ask(
            b"POST /v1/x HTTP/1.1\r\nHost: me\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"
        )
        assert heard.status == 200 and upstream.requests[0].body == b"hi"


async def test_a_declared_length_over_the_limit_is_refused_before_anything_is_sent() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream, route='max_body = "1KiB"')) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(post(1025) + b"x" * 1025)
            assert heard.status == 413 and b"1024 bytes" in heard.body
        async with RawClient(served.port) as client:
            assert (await client.ask(post(1024) + b"x" * 1024)).status == 200
        assert len(upstream.requests) == 1


async def test_a_refused_body_that_still_comes_is_read_off_so_that_the_client_hears_the_refusal() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream, server='max_body = "1KiB"')) as served:
        async with RawClient(served.port) as client:
            sending = asyncio.create_task(client.send(post(20 * MB) + b"x" * 20 * MB))
            assert (await client.answer()).status == 413
            await sending
            assert await client.ended() == b""
        assert upstream.connections == 0


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_chunked_body_over_the_limit_is_a_413_and_upstream_is_hung_up_on(at_once: bool) -> None:
    gone = asyncio.Event()

    async def listens(call: Call) -> None:
        await call.gone()
        gone.set()
        call.cut()

    async with (
        ScriptedUpstream(script=listens) as upstream,
        serve(config(upstream, route='max_body = "1KiB"')) as served,
    ):
        async with RawClient(served.port) as client:
            if at_once:
                await client.send(CHUNKED + chunk(b"x" * 1025) + b"0\r\n\r\n")
            else:
                await client.send(CHUNKED)
                for _ in range(11):
                    await client.send(chunk(b"x" * 100))
            heard = await client.answer()
            assert heard.status == 413
        if upstream.connections:
            await gone.wait()
        line = (await served.ended(1))[0]
        assert line["error"] == "request_too_large"


class Lying(Body):
    """A plugin's body whose length is not the one it declares."""

    def __init__(self, length: int | None, *pieces: bytes) -> None:
        self.length = length
        self._pieces = pieces

    def now(self) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@pytest.mark.parametrize("pieces", [(b"abc",), (b"abc", b"defgh"), (b"abcdefghij", b"GET /evil HTTP/1.1\r\n\r\n")])
async def test_a_body_of_another_length_than_it_declares_is_never_sent_as_if_it_were_right(
    pieces: tuple[bytes],
) -> None:
    async def layer(exchange, request, forward) -> Response:
        return await forward(request.with_body(Lying(5, *pieces)))

    async with ScriptedUpstream() as upstream, serve(config(upstream, layer)) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(POST)
            assert heard.status == 500 and b"5 bytes" in heard.body
        assert all(received.body is None for received in upstream.requests)


async def test_an_empty_piece_does_not_end_a_chunked_upload() -> None:
    async def layer(exchange, request, forward) -> Response:
        return await forward(request.with_body(Lying(None, b"a", b"", b"b")))

    async with (
        ScriptedUpstream() as upstream,
        serve(config(upstream, layer)) as served,
        RawClient(served.port) as client,
    ):
        assert (await client.ask(POST)).status == 200
        assert upstream.requests[0].body == b"ab" and len(upstream.requests) == 1


async def test_what_a_plugins_body_raises_ends_the_question() -> None:
    class Broken(Lying):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"a"
            raise ZeroDivisionError

    async def layer(exchange, request, forward) -> Response:
        return await forward(request.with_body(Broken(None)))

    async with (
        ScriptedUpstream() as upstream,
        serve(config(upstream, layer)) as served,
        RawClient(served.port) as client,
    ):
        assert (await client.ask(POST)).status == 500


@pytest.mark.parametrize("broken", [b"zz\r\n", b"3\r\nabcd\r\n", b"-1\r\n", b"3\r\nabc\n0\r\n\r\n"])
@pytest.mark.parametrize("waits", [True, False])
async def test_a_broken_chunk_is_answered_once_with_400_and_a_close(broken: bytes, waits: bool) -> None:
    async def reads(exchange, request, forward) -> Response:
        await request.body.read(1000)
        return await forward(request)

    async with ScriptedUpstream() as upstream, serve(config(upstream, *([reads] if waits else []))) as served:
        async with RawClient(served.port) as client:
            await client.send(CHUNKED + chunk(b"ok"))
            if not waits:
                await until(lambda: upstream.requests)
            await client.send(broken)
            said = await client.ended()
            assert said.startswith(b"HTTP/1.1 400 ") and said.count(b"HTTP/1.1 4") == 1
            assert b"Connection: close" in said
        assert all(received.body is None for received in upstream.requests)


def held_by_the_kernel() -> int:
    """Bytes that its buffers may come to hold on the way to us and from us: half of a receiver's counts as overhead."""
    reading, writing = (Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2] for way in "rw")
    return 2 * (int(reading) // 2 + int(writing))


@pytest.mark.parametrize("framing", ["counted", "chunked"])
async def test_a_slow_upstream_stops_the_clients_upload(framing: str) -> None:
    go = asyncio.Event()
    size = 60 * MB
    put = 0

    async def slow(call: Call) -> None:
        await go.wait()
        await call.body()
        await call.send(OK)

    async with ScriptedUpstream(script=slow) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            stopped = asyncio.Event()

            async def push() -> None:
                nonlocal put
                await client.send(post(size) if framing == "counted" else CHUNKED)
                while put < size:
                    await client.send(b"x" * MB if framing == "counted" else chunk(b"x" * MB))
                    put += MB
                    stopped.set()
                if framing == "chunked":
                    await client.send(b"0\r\n\r\n")

            pushing = asyncio.create_task(push())
            while True:  # until nothing has moved for a while
                before = put
                await asyncio.sleep(0.15)
                if put == before and stopped.is_set():
                    break
            assert put < max(25 * MB, held_by_the_kernel() + 4 * MB) < size
            go.set()
            assert (await client.answer()).status == 200
            await pushing
        assert len(upstream.requests[0].body or b"") == size


async def test_the_wire_says_that_an_upload_broken_in_the_middle_may_have_been_heard() -> None:
    async def reads_a_little(call: Call) -> None:
        await call.reader.readexactly(100)
        call.reset()

    class Endless(Lying):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x" * MB
                await asyncio.sleep(0)

    async with ScriptedUpstream(script=reads_a_little) as upstream, wired(upstream) as wire:
        with pytest.raises(UpstreamError) as caught:
            await wire.send(posted(Endless(None)))
        assert caught.value.sent
