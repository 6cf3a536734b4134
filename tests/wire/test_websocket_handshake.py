"""How a WebSocket comes about, and how it does not: handshakes both ways, refusals as they are."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from aiohttp import WSServerHandshakeError, web

from proxy.model.errors import Rejected
from proxy.model.message import Response
from proxy.testkit import RawClient, ScriptedUpstream, serve

from .authority import Authority
from .sockets import SHAKE, connected, echo, offered, upstream
from .telling import config


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
