"""The public side: what is a request, what is refused, and what of it is ever written down."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from pathlib import Path

import pytest

from proxy.api import Exchange, Forward, Request
from proxy.model.message import Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, serve

from .telling import CHUNKED, GET, OK, POST, chunk, config, post, until

SECRET = b"sk-very-secret"


async def test_forty_pipelined_requests_are_answered_in_order() -> None:
    async def number(call: Call) -> None:
        await call.body()
        target = call.received.target
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    async with ScriptedUpstream(script=number) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            await client.send(b"".join(POST.replace(b"/v1/x", b"/v1/%d" % one) for one in range(40)))
            for one in range(40):
                assert (await client.answer()).body == b"/v1/%d" % one


async def test_a_request_may_come_byte_by_byte() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        for byte in CHUNKED + chunk(b"abc") + chunk(b"de") + b"0\r\n\r\n" + GET:
            await client.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await client.answer()).status == (await client.answer()).status == 200
        assert upstream.requests[0].body == b"abcde"


@pytest.mark.parametrize(
    "bad",
    [
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\nhi",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nhi",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\nhi",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\nhi",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\n\r\n",
        b"GET /v1/x HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET /v1/x HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /v1/x y HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60) + b"\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /v1/" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 200 + b"\r\n",
    ],
)
async def test_what_two_readers_could_read_differently_is_refused_once_and_reaches_nobody(bad: bytes) -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        await client.send(bad)
        said = await client.ended()
        assert said.startswith(b"HTTP/1.1 400 ") and said.count(b"HTTP/1.1 4") == 1
        assert b"Connection: close" in said and b'"code":"invalid_request"' in said
        assert upstream.connections == 0


async def test_two_authorization_headers_are_refused() -> None:
    twice = b"GET /v1/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n"
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        heard = await client.ask(twice)
        assert heard.status == 400 and b"Two Authorization headers" in heard.body
        assert (await client.ask(GET)).status == 200
        assert len(upstream.requests) == 1


async def test_bytes_after_a_request_are_a_request_of_their_own() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        assert (await client.ask(POST)).status == 200
        heard = await client.ask(b"junk\r\n\r\n")
        assert heard.status == 400 and await client.ended() == b""
        assert len(upstream.requests) == 1


async def test_junk_behind_a_request_in_the_same_segment_is_refused_with_it() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        heard = await client.ask(POST + b"junk\r\n\r\n")
        assert heard.status == 400 and await client.ended() == b""
        assert not upstream.requests


async def test_a_body_never_becomes_the_next_request() -> None:
    # Refused before the body is read: what the client still sends must not be taken for a question.
    evil = b"GET /v1/evil HTTP/1.1\r\nHost: a\r\n\r\n"
    refused = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nAuthorization: 1\r\nAuthorization: 2\r\nContent-Length: %d\r\n\r\n"
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        await client.send(refused % len(evil))
        heard = await client.answer()
        assert heard.status == 400 and heard.get(b"connection") == b"close"
        await client.send(evil)
        assert await client.ended() == b"" and upstream.connections == 0


async def test_nothing_of_a_malformed_request_is_ever_printed(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # By default aiohttp writes such a request's bytes to its log, the caller's key among them.
    caplog.set_level(logging.DEBUG)
    key = b"Authorization: Bearer " + SECRET
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served:
        for bad in (
            b"GET /v1/x HTTP/1.1\r\nHost: a\r\n" + key + b"\nX: a\r\n\r\n",
            b"GET /v1/x HTTP/1.1\r\nHost: a\r\n" + key + b"\0\r\n\r\n",
            b"GET /v1/" + SECRET + b" nonsense\r\n\r\n",
            SECRET + b" /v1/x HTTP/1.1\r\n\r\n",
            b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + SECRET + b"\r\n",
            CHUNKED + b"2\r\n" + SECRET + b"\r\n",
            b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: " + SECRET + b"\r\n\r\n",
        ):
            async with RawClient(served.port) as client:
                await client.send(bad)
                said = await client.ended()
                assert said.startswith(b"HTTP/1.1 400 ") and SECRET not in said
        assert SECRET not in served.raw_log
        lines = [line for line in served.log if line["event"] == "request_unreadable"]
        assert lines and all(line["client"] == "127.0.0.1" and line["status"] == 400 for line in lines)
    printed = capfd.readouterr()
    assert SECRET.decode() not in printed.out + printed.err + caplog.text


async def test_nothing_chooses_the_destination_but_the_config() -> None:
    async with ScriptedUpstream() as upstream, ScriptedUpstream() as other, serve(config(upstream)) as served:
        for line, host in (
            (b"GET http://127.0.0.1:%d/v1/x HTTP/1.1" % other.port, b"me"),
            (b"GET /v1/x HTTP/1.1", b"127.0.0.1:%d" % other.port),
            (b"GET @127.0.0.1:%d/v1/x HTTP/1.1" % other.port, b"me"),
            (b"CONNECT 127.0.0.1:%d HTTP/1.1" % other.port, b"me"),
        ):
            async with RawClient(served.port) as client:
                heard = await client.ask(b"%b\r\nHost: %b\r\n\r\n" % (line, host))
                assert heard.status == (200 if line.startswith(b"GET /") else 400) or heard.status in (404, 405)
        assert other.connections == 0 and len(upstream.requests) <= 1


async def test_a_unix_socket_is_listened_on_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    async with ScriptedUpstream() as upstream:
        async with serve(config(upstream, server=f'listen = "unix:{path}"')) as served, RawClient(str(path)) as client:
            assert (await client.ask(POST)).status == 200
            assert served.url == f"unix:{path}"
            assert (await served.ended(1))[0]["client"] == "unix"
        assert not path.exists()


async def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    import socket

    path = tmp_path / "gate.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with ScriptedUpstream() as upstream:
        async with serve(config(upstream, server=f'listen = "unix:{path}"')), RawClient(str(path)) as client:
            assert (await client.ask(GET)).status == 200


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    path.write_text("mine")
    async with ScriptedUpstream() as upstream:
        with pytest.raises(OSError, match="is not a socket"):
            async with serve(config(upstream, server=f'listen = "unix:{path}"')):
                raise AssertionError
    assert path.read_text() == "mine"


async def test_anothers_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    async with ScriptedUpstream() as upstream, serve(config(upstream, server=f'listen = "unix:{path}"')):
        with pytest.raises(OSError, match="another process listens"):
            async with serve(config(upstream, server=f'listen = "unix:{path}"')):
                raise AssertionError
        async with RawClient(str(path)) as client:
            assert (await client.ask(GET)).status == 200


async def test_marks_are_added_where_a_layer_stands_and_nowhere_else() -> None:
    async def layer(exchange, request, forward) -> Response:
        return await forward(request)

    async with ScriptedUpstream() as upstream:
        async with serve(config(upstream)) as served, RawClient(served.port) as client:
            heard = await client.ask(GET)
            assert [name for name, _ in heard.headers] == [b"Content-Type", b"Content-Length"]
        async with serve(config(upstream, layer)) as served, RawClient(served.port) as client:
            heard = await client.ask(GET)
            line = (await served.ended(1))[0]
            assert heard.get(b"x-framegate-id") == line["id"].encode()
            assert heard.get(b"x-framegate-upstream") == b"only"
            assert heard.get(b"x-framegate-attempts") == b"only=200"
            assert float(heard.get(b"x-framegate-overhead-ms") or b"") >= 0


async def test_a_plugin_can_not_break_the_framing_of_an_answer() -> None:
    # It changed the body and left the old headers in place, or made headers up.
    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        return Response(
            200,
            response.headers.replaced(content_length="999", transfer_encoding="chunked", connection="x"),
            response.body,
            reason=b"OK",
        )

    async with (
        ScriptedUpstream() as upstream,
        serve(config(upstream, layer)) as served,
        RawClient(served.port) as client,
    ):
        for _ in range(2):
            heard = await client.ask(GET)
            assert heard.body == OK[-2:] and heard.get(b"content-length") == b"2"
            assert heard.get(b"transfer-encoding") is None and heard.get(b"connection") is None


async def test_a_plugin_can_not_break_the_framing_of_a_request() -> None:
    async def layer(exchange, request, forward) -> Response:
        return await forward(
            request.with_headers(content_length="999", transfer_encoding="chunked", connection="close", host="evil")
        )

    async with (
        ScriptedUpstream() as upstream,
        serve(config(upstream, layer)) as served,
        RawClient(served.port) as client,
    ):
        for _ in range(2):
            assert (await client.ask(POST)).status == 200
        assert upstream.connections == 1 and upstream.requests[1].body == b"hi"
        names = [name.lower() for name, _ in upstream.requests[1].headers]
        assert names.count(b"content-length") == 1 and b"transfer-encoding" not in names
        assert upstream.requests[1].get(b"host") == b"127.0.0.1:%d" % upstream.port


async def test_a_fault_of_ours_before_there_is_an_exchange_does_not_look_like_the_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError(SECRET.decode())

    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        monkeypatch.setattr(served.house.engine, "open", crash)
        heard = await client.ask(GET)
        assert heard.status == 500 and b"internal_error" in heard.body and await client.ended() == b""
        (line,) = served.log
        assert (line["event"], line["crash"], line["level"]) == ("request_crashed", "ZeroDivisionError", "error")
        assert SECRET not in served.raw_log


async def test_a_request_whose_body_never_ends_does_not_hold_up_the_stop() -> None:
    async with ScriptedUpstream() as upstream:
        async with serve(config(upstream, server='drain_timeout = "0.2s"')) as served:
            client = RawClient(served.port)
            await client.__aenter__()
            await client.send(post(1000) + b"x")
            await until(lambda: upstream.requests)
        await client.__aexit__(None, None, None)


async def test_what_a_plugin_sets_in_its_context_is_not_there_for_the_next_request() -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: list[str] = []

    async def sets(exchange: Exchange, request: Request, forward: Forward) -> Response:
        seen.append(tenant.get())
        tenant.set("somebody")
        return await forward(request)

    async with ScriptedUpstream() as upstream, serve(config(upstream, sets)) as served:
        async with RawClient(served.port) as client:
            for _ in range(3):
                assert (await client.ask(POST)).status == 200
            await client.send(POST + POST)
            assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    assert seen == ["nobody"] * 5
