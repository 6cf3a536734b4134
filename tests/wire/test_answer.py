"""Answers on their way out: framing, headers, and what no client may ever hear."""

from __future__ import annotations

import asyncio
import os

import pytest

from proxy.model.message import Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, serve

from .telling import GET, OK, chunk, config


def ask(method: bytes, path: bytes) -> bytes:
    return b"%b /v1%b HTTP/1.1\r\nHost: me\r\n\r\n" % (method, path)


async def test_headers_keep_case_order_and_repeats_both_ways() -> None:
    answer = (
        b"HTTP/1.1 201 Cre ated\r\ncontent-TYPE: a/b\r\nX-b: 1\r\nx-A: 2\r\nX-b: 3\r\nSet-Cookie: a=1\r\n"
        b"set-cookie: b=2\r\nConnection: keep-alive, X-Drop\r\nX-Drop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"X-L: caf\xc3\xa9 \xff\r\nContent-Length: 0\r\n\r\n"
    )
    async with (
        ScriptedUpstream(answer) as upstream,
        serve(config(upstream)) as served,
        RawClient(served.port) as client,
    ):
        heard = await client.ask(
            b"GET /v1/a%3Fb/c?q=%20+x&q HTTP/1.1\r\nhost: me\r\nACCEPT: a\r\nx-Two: 1\r\n"
            b"X-One: \xc3\xa9\xff\r\nx-two: 2\r\n"
            b"Connection: close, x-gone\r\nX-Gone: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Authorization: p\r\n\r\n"
        )
        assert heard.line == b"HTTP/1.1 201 Cre ated"
        assert heard.headers == [
            (b"content-TYPE", b"a/b"),
            (b"X-b", b"1"),
            (b"x-A", b"2"),
            (b"X-b", b"3"),
            (b"Set-Cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"X-L", b"caf\xc3\xa9 \xff"),
            (b"Content-Length", b"0"),
            (b"Connection", b"close"),
        ]
        received = upstream.requests[0]
        assert received.line == b"GET /v1/a%3Fb/c?q=%20+x&q HTTP/1.1"
        assert received.headers == [
            (b"Host", b"127.0.0.1:%d" % upstream.port),
            (b"ACCEPT", b"a"),
            (b"x-Two", b"1"),
            (b"X-One", b"\xc3\xa9\xff"),
            (b"x-two", b"2"),
        ]
        assert await client.ended() == b""


async def test_connection_can_not_name_what_framing_and_authority_stand_on() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        await client.ask(
            b"POST /v1/x HTTP/1.1\r\nHost: me\r\nAuthorization: Bearer k\r\nContent-Type: a/b\r\nContent-Length: 2\r\n"
            b"Connection: Authorization, content-type, Content-Length, host, x-mine\r\nX-Mine: 1\r\n\r\nhi"
        )
        received = upstream.requests[0]
        assert received.get(b"authorization") == b"Bearer k" and received.get(b"content-type") == b"a/b"
        assert received.body == b"hi" and received.get(b"x-mine") is None


async def test_look_alikes_with_underscores_are_dropped() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        await client.ask(
            b"GET /v1/x HTTP/1.1\r\nHost: me\r\nX_Forwarded_For: 1\r\nContent_Length: 5\r\n"
            b"X_Framegate_Id: 1\r\nMy_Own: 1\r\n\r\n"
        )
        assert [name for name, _ in upstream.requests[0].headers] == [b"Host", b"My_Own"]


@pytest.mark.parametrize("layered", [False, True])
async def test_answers_without_a_body_leave_the_connection_in_step(layered: bool) -> None:
    answers = {
        b"/v1/head": b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n",
        b"/v1/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"/v1/204": b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
        b"/v1/304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n",
        b"/v1/empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"/v1/ok": OK,
    }

    async def script(call: Call) -> None:
        await call.send(answers[call.received.target])

    async def layer(exchange, request, forward) -> Response:
        return (await forward(request)).with_headers(x_seen="1")

    layers = [layer] if layered else []
    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream, *layers)) as served:
        async with RawClient(served.port) as client:
            for _ in range(2):
                for method, path, length in (
                    (b"HEAD", b"/head", b"999"),
                    (b"GET", b"/ok", b"2"),
                    (b"GET", b"/204", None),
                    (b"GET", b"/304", b"77"),
                    (b"HEAD", b"/chunked", None),
                    (b"GET", b"/empty", b"0"),
                    (b"GET", b"/ok", b"2"),
                ):
                    heard = await client.ask(ask(method, path), bodiless=method == b"HEAD")
                    assert heard.get(b"content-length") == length, path
                    assert heard.get(b"connection") is None
                    assert heard.body == (b"{}" if path == b"/ok" else b"")
        assert upstream.connections == 1


async def test_interim_answers_are_swallowed() -> None:
    early = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    )

    async def script(call: Call) -> None:
        await call.send(early)
        await call.send(early + OK)

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            for _ in range(2):
                heard = await client.ask(GET)
                assert heard.status == 200 and heard.get(b"link") is None
        assert upstream.connections == 1


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_that_runs_until_the_close_reaches_both_kinds_of_client(version: bytes) -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/%b 200 OK\r\nX: 1\r\n\r\n" % version + b"z" * 300_000)
        call.cut()

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(GET)
            assert heard.get(b"transfer-encoding") == b"chunked" and heard.body == b"z" * 300_000
        async with RawClient(served.port) as client:
            heard = await client.ask(b"GET /v1/x HTTP/1.0\r\n\r\n")
            assert heard.get(b"transfer-encoding") is None and heard.body == b"z" * 300_000


async def test_chunks_are_unwrapped_for_a_client_of_http_1_0() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"a" * 50) * 4000 + b"0\r\n\r\n"
    async with ScriptedUpstream(answer) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(b"GET /v1/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert heard.get(b"connection") == b"close" and heard.body == b"a" * 200_000


async def test_a_client_of_http_1_0_may_keep_its_connection() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        for _ in range(3):
            heard = await client.ask(b"GET /v1/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert heard.get(b"connection") == b"keep-alive" and heard.body == b"{}"
        heard = await client.ask(b"GET /v1/x HTTP/1.0\r\n\r\n")
        assert heard.get(b"connection") == b"close"
        assert await client.ended() == b""


async def test_a_chunked_answer_passes_piece_by_piece() -> None:
    turns = asyncio.Queue[None]()

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            await turns.get()
            await call.send(chunk(b"data: %d\n\n" % number))
        await call.send(b"0\r\n\r\n")

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            await client.send(GET)
            await client.head()
            for number in range(5):
                turns.put_nowait(None)
                assert await client.reader.readexactly(14) == b"9\r\ndata: %d\n\n\r\n" % number
            assert await client.reader.readexactly(5) == b"0\r\n\r\n"


async def test_large_bodies_pass_unchanged_both_ways_on_one_connection() -> None:
    big = os.urandom(6_000_000)

    async def script(call: Call) -> None:
        body = await call.body()
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        await call.send(body)

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            for _ in range(2):
                head = b"POST /v1/x HTTP/1.1\r\nHost: me\r\nContent-Length: %d\r\n\r\n" % len(big)
                assert (await client.ask(head + big)).body == big
        assert upstream.connections == 1


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdefg\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("hang_up", [Call.cut, Call.reset])
async def test_a_truncated_answer_looks_truncated(cut: bytes, hang_up: object) -> None:
    heard = asyncio.Event()

    async def script(call: Call) -> None:
        head, _, rest = cut.partition(b"\r\n\r\n")
        await call.send(head + b"\r\n\r\n")
        await heard.wait()
        await call.send(rest)
        hang_up(call)  # type: ignore[operator]

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            await client.send(GET)
            await client.head()
            heard.set()
            rest = await client.ended()
            assert not rest.endswith(b"0\r\n\r\n")
            assert len(rest) < 1_000_000 and rest != b"1234567890"
        line = (await served.ended(1))[0]
        assert line["complete"] is False and line["error"] == "upstream_failed" and "left" not in line


@pytest.mark.parametrize(
    "bad",
    [
        b"X: a\rSet-Cookie: evil=1",
        b"X: a\r\n folded: 1",
        b"X: a\nSet-Cookie: evil=1",
        b"X\r: a",
        b"X: a\x00b",
        b"X y: a",
    ],
)
async def test_a_header_is_never_injected_through_an_upstream(bad: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + bad + b"\r\nContent-Length: 2\r\n\r\n{}"
    async with (
        ScriptedUpstream(answer) as upstream,
        serve(config(upstream)) as served,
        RawClient(served.port) as client,
    ):
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        head = (await client.ended()).split(b"\r\n\r\n")[0]
        bare = head.replace(b"\r\n", b"")
        assert head.startswith(b"HTTP/1.1 ")
        assert b"\r" not in bare and b"\n" not in bare and b"\0" not in bare


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 500 + b"Content-Length: 2\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
async def test_an_answer_whose_framing_can_not_be_believed_is_a_502(answer: bytes) -> None:
    async with (
        ScriptedUpstream(answer) as upstream,
        serve(config(upstream)) as served,
        RawClient(served.port) as client,
    ):
        for turn in (1, 2):
            heard = await client.ask(GET)
            assert heard.status == 502 and b"It may have been billed" in heard.body
            assert heard.get(b"x-should-retry") == b"false"
            assert upstream.connections == turn


async def test_an_empty_piece_from_a_plugin_does_not_end_a_chunked_answer() -> None:
    async def layer(exchange, request, forward) -> Response:
        return (await forward(request)).through(holes)

    async def holes(pieces):
        yield b"a"
        yield b""
        async for piece in pieces:
            yield piece

    async with (
        ScriptedUpstream() as upstream,
        serve(config(upstream, layer)) as served,
        RawClient(served.port) as client,
    ):
        for _ in range(2):
            assert (await client.ask(GET)).body == b"a{}"
