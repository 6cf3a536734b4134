"""WebSockets through the house: messages and endings both ways, refusals as they are."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError, web

from proxy.model.errors import Rejected
from proxy.model.message import Response
from proxy.model.socket import Answer, Message
from proxy.testkit import RawClient, ScriptedUpstream, Served, serve

from .authority import Authority
from .telling import config

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SHAKE = (
    b"GET /v1/realtime HTTP/1.1\r\nHost: me\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@asynccontextmanager
async def upstream(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """aiohttp's own server as the upstream; its base URL."""
    server = web.Server(handler)
    runner = web.ServerRunner(server, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(served: Served, **options: object) -> AsyncIterator[ClientWebSocketResponse]:
    async with ClientSession() as session:
        url = f"ws://127.0.0.1:{served.port}/v1/realtime?model=x%2Fy"
        async with session.ws_connect(url, autoping=False, autoclose=False, max_msg_size=0, **options) as client:
            yield client


def offered(request: web.Request) -> list[str]:
    return [name.strip() for name in request.headers["Sec-WebSocket-Protocol"].split(",")]


async def echo(request: web.Request) -> web.WebSocketResponse:
    end = web.WebSocketResponse(autoping=False, max_msg_size=0)
    await end.prepare(request)
    async for message in end:
        if message.type is WSMsgType.TEXT:
            await end.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await end.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await end.pong(b"to-" + message.data)
        elif message.type is WSMsgType.PONG:
            await end.ping(b"re-" + message.data)
    return end


async def test_messages_of_every_kind_pass_both_ways() -> None:
    async with upstream(echo) as url, serve(config(url)) as served, connected(served) as client:
        await client.send_str("h\u00e9")
        assert (await client.receive()).data == "h\u00e9"
        await client.send_bytes(b"\0\xff")
        assert (await client.receive()).data == b"\0\xff"
        await client.send_str("")
        assert (await client.receive()).data == ""
        await client.ping(b"1")
        heard = await client.receive()
        assert heard.type is WSMsgType.PONG and heard.data == b"to-1"
        await client.pong(b"2")
        heard = await client.receive()
        assert heard.type is WSMsgType.PING and heard.data == b"re-2"


async def test_a_large_message_passes_whole() -> None:
    big = bytes(range(256)) * 20_000
    async with upstream(echo) as url, serve(config(url)) as served, connected(served) as client:
        await client.send_bytes(big)
        assert (await client.receive()).data == big


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, b"bye"), (1001, b""), (3999, b"ours"), (4001, "caf\u00e9".encode())]
)
async def test_the_upstreams_close_reaches_the_client(code: int, reason: bytes) -> None:
    async def closes(request: web.Request) -> web.WebSocketResponse:
        end = web.WebSocketResponse()
        await end.prepare(request)
        await end.close(code=code, message=reason)
        return end

    async with upstream(closes) as url, serve(config(url)) as served, connected(served) as client:
        heard = await client.receive()
        assert (heard.type, heard.data, heard.extra.encode()) == (WSMsgType.CLOSE, code, reason)


@pytest.mark.parametrize(("code", "reason"), [(1000, b"bye"), (3999, b"ours"), (4001, "caf\u00e9".encode())])
async def test_the_clients_close_reaches_upstream_and_is_answered_with_its_own_code(code: int, reason: bytes) -> None:
    told: asyncio.Future[tuple[int, str | None]] = asyncio.get_running_loop().create_future()

    async def listens(request: web.Request) -> web.WebSocketResponse:
        end = web.WebSocketResponse(autoclose=False)
        await end.prepare(request)
        message = await end.receive()
        told.set_result((message.data, message.extra))
        await end.close(code=message.data)
        return end

    async with upstream(listens) as url, serve(config(url)) as served:
        async with connected(served) as client:
            await client.close(code=code, message=reason)
            assert await told == (code, reason.decode())
            assert client.close_code == code
        line = (await served.ended(1))[0]
        assert line["status"] == 101 and "left" not in line and "complete" not in line


async def test_a_close_without_a_code_is_answered() -> None:
    async with upstream(echo) as url, serve(config(url)) as served, RawClient(served.port) as client:
        await client.send(SHAKE)
        assert (await client.head())[0].startswith(b"HTTP/1.1 101 ")
        await client.send(b"\x88\x80\0\0\0\0")
        assert (await client.reader.readexactly(2))[0] == 0x88
        await client.ended()


async def test_an_upstream_that_dies_is_a_1011() -> None:
    async def dies(request: web.Request) -> web.WebSocketResponse:
        end = web.WebSocketResponse()
        await end.prepare(request)
        await end.send_str("first")
        assert request.transport is not None
        request.transport.abort()
        return end

    async with upstream(dies) as url, serve(config(url)) as served, connected(served) as client:
        assert (await client.receive()).data == "first"
        heard = await client.receive()
        assert heard.type is WSMsgType.CLOSE and heard.data == 1011


@pytest.mark.parametrize("leave", ["fin", "rst"])
async def test_a_client_that_leaves_closes_the_upstreams_end(leave: str) -> None:
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def listens(request: web.Request) -> web.WebSocketResponse:
        end = web.WebSocketResponse()
        await end.prepare(request)
        async for _ in end:
            pass
        ended.set_result(end.close_code)
        return end

    finished = asyncio.Event()

    async def layer(exchange, request, forward) -> Response:
        async def finish(outcome: object) -> None:
            finished.set()

        exchange.on_finish(finish)
        return await forward(request)

    async with upstream(listens) as url, serve(config(url, layer)) as served:
        async with RawClient(served.port) as client:
            await client.send(SHAKE)
            await client.head()
            if leave == "rst":
                client.reset()
        assert await ended in (1001, 1006, 1011)
        await finished.wait()
        await served.ended(1)


async def test_a_refused_handshake_is_delivered_as_it_is() -> None:
    body = b'{"error": {"message": "no such key"}}'

    async def refuses(request: web.Request) -> web.Response:
        return web.Response(status=401, body=body, headers={"X-Why": "key", "Content-Type": "application/json"})

    async with upstream(refuses) as url, serve(config(url)) as served, RawClient(served.port) as client:
        heard = await client.ask(SHAKE)
        assert heard.status == 401 and heard.body == body and heard.get(b"x-why") == b"key"
        assert heard.get(b"content-type") == b"application/json"
        assert (await served.ended(1))[0]["attempts"] == ["only=401"]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_connection_that_never_comes_about_was_not_sent(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as mute, socket.socket() as first, socket.socket() as second:
        if scheme == "http":  # a full queue: whoever comes next hears nothing
            for sock in (first, second):
                sock.setblocking(False)
                sock.connect_ex(mute.getsockname())
        url = f"{scheme}://127.0.0.1:{mute.getsockname()[1]}/v1"
        async with serve(config(url, upstreams='connect_timeout = "0.2s"')) as served, RawClient(served.port) as client:
            heard = await client.ask(SHAKE)
            assert heard.status == 502 and b"Nothing was sent" in heard.body


async def test_a_redirect_is_not_followed() -> None:
    async with ScriptedUpstream() as elsewhere:

        async def redirects(request: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": elsewhere.url})

        async with upstream(redirects) as url, serve(config(url)) as served, RawClient(served.port) as client:
            assert (await client.ask(SHAKE)).status == 302
        assert elsewhere.connections == 0


async def test_a_plugins_refusal_reaches_the_client_and_nobody_is_dialled() -> None:
    async def refuses(exchange, request, forward) -> Response:
        raise Rejected("No.", status=403, code="permission_denied")

    async with ScriptedUpstream() as plain, serve(config(plain, refuses)) as served:
        with pytest.raises(WSServerHandshakeError) as caught:
            async with connected(served):
                raise AssertionError
        assert caught.value.status == 403 and plain.connections == 0


async def test_the_subprotocol_is_chosen_by_upstream() -> None:
    async def picks(request: web.Request) -> web.WebSocketResponse:
        assert offered(request) == ["a", "realtime", "b"]
        end = web.WebSocketResponse(protocols=("realtime",))
        await end.prepare(request)
        await end.receive()
        return end

    async with upstream(picks) as url, serve(config(url)) as served:
        async with connected(served, protocols=("a", "realtime", "b")) as client:
            assert client.protocol == "realtime"


async def test_headers_and_query_pass_and_the_handshakes_own_do_not() -> None:
    seen: list[web.Request] = []

    async def looks(request: web.Request) -> web.WebSocketResponse:
        seen.append(request)
        end = web.WebSocketResponse()
        end.headers["X-Up"] = "1"
        await end.prepare(request)
        return end

    async with upstream(looks) as url, serve(config(url)) as served, RawClient(served.port) as client:
        shake = SHAKE.replace(b"realtime HTTP", b"realtime?m=%2F&n HTTP").replace(
            b"Host: me", b"Host: me\r\nX-Mine: 1\r\nOpenAI-Beta: realtime=v1\r\nConnection: x-gone\r\nX-Gone: 1"
        )
        await client.send(shake)
        line, headers = await client.head()
        assert line.startswith(b"HTTP/1.1 101 ") and (b"X-Up", b"1") in headers
        names = [name.lower() for name, _ in headers]
        assert names.count(b"sec-websocket-accept") == 1 and names.count(b"upgrade") == 1
        request = seen[0]
        assert request.raw_path == "/v1/realtime?m=%2F&n" and request.headers["X-Mine"] == "1"
        assert request.headers["OpenAI-Beta"] == "realtime=v1" and "X-Gone" not in request.headers
        assert request.headers["Sec-WebSocket-Key"] != "dGhlIHNhbXBsZSBub25jZQ=="
        assert request.headers.getall("Host") == [url[7:-3]]
        assert "User-Agent" not in request.headers


async def test_a_plugin_sees_and_changes_messages_both_ways() -> None:
    async def layer(exchange, request, forward) -> Response:
        async def inward(message: Message) -> Message | None:
            return None if message.data == b"drop" else Message(message.kind, b"<" + message.data)

        async def outward(message: Message) -> Message | None:
            return None if message.data == b"<hide" else Message(message.kind, message.data + b">")

        return (await forward(request)).through(inward=inward, outward=outward)

    async with upstream(echo) as url, serve(config(url, layer)) as served, connected(served) as client:
        for word in ("drop", "hide", "show"):
            await client.send_str(word)
        assert (await client.receive()).data == "<show>"


async def test_a_plugin_answers_the_client_and_the_socket_goes_on() -> None:
    async def outside(exchange, request, forward) -> Response:
        async def outward(message: Message) -> Message | None:
            return None if message.data == b"hide" else Message(message.kind, message.data + b">")

        return (await forward(request)).through(outward=outward)

    async def inside(exchange, request, forward) -> Response:
        async def inward(message: Message) -> Message:
            if message.data != b"on":
                raise Answer(Message("text", message.data))
            return message

        return (await forward(request)).through(inward=inward)

    for layers, expected in (((inside,), ["no", "hide", "on"]), ((outside, inside), ["no>", "on>"])):
        async with upstream(echo) as url, serve(config(url, *layers)) as served:
            async with connected(served) as client:
                for word in ("no", "hide", "on"):
                    await client.send_str(word)
                assert [(await client.receive()).data for _ in expected] == expected
                await client.close()
            # What a plugin says is counted like all else that a client is sent.
            assert (await served.ended(1))[0]["bytes_out"] == sum(map(len, expected))


async def test_a_key_among_the_subprotocols_stays_here_where_a_credential_is_translated() -> None:
    seen: list[web.Request] = []

    async def looks(request: web.Request) -> web.WebSocketResponse:
        seen.append(request)
        end = web.WebSocketResponse(protocols=("realtime",))
        await end.prepare(request)
        await end.receive()
        return end

    secret = "openai-insecure-api-key.sk-callers"
    async with upstream(looks) as url:
        async with serve(
            config(url, upstreams='api_key = "env:UP"', route="unmetered = true"), environ={"UP": "sk-ours"}
        ) as served:
            async with connected(served, protocols=("realtime", secret, "openai-beta.realtime-v1")) as client:
                assert client.protocol == "realtime"
            assert seen[0].headers["Authorization"] == "Bearer sk-ours"
            assert offered(seen[0]) == ["realtime", "openai-beta.realtime-v1"]
            assert b"sk-callers" not in served.raw_log
        async with serve(config(url)) as served, connected(served, protocols=("realtime", secret)):
            assert offered(seen[1]) == ["realtime", secret]


async def test_a_verified_upstream_carries_sockets_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with upstream(echo, tls=authority.server("127.0.0.1")) as url:
        async with (
            serve(config(url, upstreams=f'ca_file = "{authority.ca_file}"')) as served,
            connected(served) as client,
        ):
            await client.send_str("x")
            assert (await client.receive()).data == "x"
        async with serve(config(url)) as served, RawClient(served.port) as client:
            heard = await client.ask(SHAKE)
            assert heard.status == 502 and b"Nothing was sent" in heard.body


async def test_an_upstream_that_is_not_there_is_a_502() -> None:
    async with ScriptedUpstream() as gone:
        url = gone.url
    async with serve(config(url)) as served, RawClient(served.port) as client:
        heard = await client.ask(SHAKE)
        assert heard.status == 502 and b"provider_submit_failed" in heard.body


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 12"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short"),
        (b"Sec-WebSocket-Key:", b"X-Key:"),
    ],
)
async def test_a_client_that_shakes_hands_wrongly_is_refused(was: bytes, now: bytes) -> None:
    async with upstream(echo) as url, serve(config(url)) as served, RawClient(served.port) as client:
        heard = await client.ask(SHAKE.replace(was, now))
        assert heard.status == 400 and b"invalid_request" in heard.body
        await client.ended()


@pytest.mark.parametrize("plain", [SHAKE.replace(b"Connection: Upgrade\r\n", b""), SHAKE.replace(b"GET", b"POST")])
async def test_what_only_looks_like_a_handshake_is_an_ordinary_request(plain: bytes) -> None:
    async with ScriptedUpstream() as ordinary, serve(config(ordinary)) as served, RawClient(served.port) as client:
        assert (await client.ask(plain)).body == b"{}"
        assert ordinary.requests[0].get(b"upgrade") is None
        assert ordinary.requests[0].line.endswith(b"/v1/realtime HTTP/1.1")


async def test_a_socket_outlives_the_deadline_of_its_handshake() -> None:
    async with upstream(echo) as url, serve(config(url, route='deadline = "0.2s"')) as served:
        async with connected(served) as client:
            await asyncio.sleep(0.8)
            await client.send_str("still here")
            assert (await client.receive()).data == "still here"


async def test_a_socket_ends_when_the_house_stops() -> None:
    async with upstream(echo) as url:
        async with ClientSession() as session:
            async with serve(config(url, server='drain_timeout = "0.2s"')) as served:
                client = await session.ws_connect(f"ws://127.0.0.1:{served.port}/v1/realtime")
                await client.send_str("x")
                await client.receive()
                last = asyncio.create_task(client.receive())
            assert (await last).type is WSMsgType.CLOSE
            await client.close()


async def test_a_crash_in_a_plugin_ends_the_socket_and_is_logged() -> None:
    async def layer(exchange, request, forward) -> Response:
        async def inward(message: Message) -> Message:
            raise ZeroDivisionError

        return (await forward(request)).through(inward=inward)

    async with upstream(echo) as url, serve(config(url, layer)) as served:
        async with connected(served) as client:
            await client.send_str("x")
            heard = await client.receive()
            assert heard.type is WSMsgType.CLOSE and heard.data == 1011
        line = (await served.ended(1))[0]
        assert line["error"] == "ZeroDivisionError" and line["complete"] is False
        assert any(line["event"] == "delivery_crashed" for line in served.log)


async def test_the_log_counts_what_a_client_was_sent() -> None:
    async with upstream(echo) as url, serve(config(url)) as served:
        async with connected(served) as client:
            await client.send_str("12345")
            await client.receive()
            await client.close()
        line = (await served.ended(1))[0]
        assert (line["status"], line["bytes_out"]) == (101, 5)
