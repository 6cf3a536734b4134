"""Going through an HTTP proxy: what it sees, what it must not, and what becomes of its refusals."""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import socket
import struct
from pathlib import Path

import pytest
from aiohttp import WSMsgType

from proxy.app import dial
from proxy.core.config import load
from proxy.core.proxies import Proxy
from proxy.model.errors import UpstreamError
from proxy.testkit import RawClient, ScriptedUpstream, serve

from . import sockets
from .authority import Authority
from .between import GRANTED, Between, Script
from .telling import GET, ask, config, get, post, posted, wired

BASIC = b"Basic " + base64.b64encode(b"me:p@ss word")
USER = "me:p%40ss%20word"


async def test_an_upstream_behind_a_proxy_is_asked_through_one_tunnel(tmp_path: Path) -> None:
    names: list[str | None] = []
    authority = Authority(tmp_path)
    tls = authority.server("up.test")
    tls.sni_callback = lambda sock, asked, context: names.append(asked)
    big = os.urandom(2_000_000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big) + big
    async with ScriptedUpstream(answer, tls=tls) as upstream, Between(upstream.port, wants=BASIC) as proxy:
        text = config("https://up.test/v1", upstreams=f'ca_file = "{authority.ca_file}"\nproxy = "env:A_PROXY"')
        async with serve(text, environ={"A_PROXY": proxy.url(USER)}) as served, RawClient(served.port) as client:
            for _ in range(3):
                assert (await client.ask(post(len(big)) + big)).body == big
            assert BASIC[6:] not in served.raw_log and b"word" not in served.raw_log
        assert proxy.asked == [
            (b"CONNECT up.test:443 HTTP/1.1", [(b"Host", b"up.test:443"), (b"Proxy-Authorization", BASIC)])
        ]
        assert names == ["up.test"] and upstream.connections == 1
        assert [one.body for one in upstream.requests] == [big] * 3
        assert all(one.get(b"proxy-authorization") is None for one in upstream.requests)
        assert upstream.requests[0].get(b"host") == b"up.test"


async def test_an_upstream_without_tls_is_tunnelled_too() -> None:
    async with ScriptedUpstream() as upstream, Between(upstream.port) as proxy:
        async with serve(config("http://up.test/v1"), environ={"HTTP_PROXY": proxy.url()}) as served:
            async with RawClient(served.port) as client:
                assert (await client.ask(GET)).status == 200
        assert proxy.asked == [(b"CONNECT up.test:80 HTTP/1.1", [(b"Host", b"up.test:80")])]
        assert upstream.requests[0].line == b"GET /v1/x HTTP/1.1"


async def test_what_is_on_this_machine_is_not_looked_for_through_the_environments_proxy() -> None:
    async with ScriptedUpstream() as upstream, Between() as proxy:
        environ = {"http_proxy": proxy.url(), "ALL_PROXY": proxy.url()}
        async with serve(config(upstream), environ=environ) as served, RawClient(served.port) as client:
            assert (await client.ask(GET)).status == 200
        assert proxy.connections == 0


async def test_a_socket_takes_the_same_way(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with sockets.upstream(sockets.echo, tls=authority.server("up.test")) as url:
        port = int(url.split(":")[2].partition("/")[0])
        async with Between(port, wants=BASIC) as proxy:
            text = config("https://up.test/v1", upstreams=f'ca_file = "{authority.ca_file}"\nproxy = "env:A_PROXY"')
            async with serve(text, environ={"A_PROXY": proxy.url(USER)}) as served:
                async with sockets.connected(served) as client:
                    await client.send_str("through")
                    heard = await client.receive()
                    assert (heard.type, heard.data) == (WSMsgType.TEXT, "through")
            assert [line for line, _ in proxy.asked] == [b"CONNECT up.test:443 HTTP/1.1"]


async def test_a_certificate_is_believed_for_the_upstream_not_for_the_proxy(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with ScriptedUpstream(tls=authority.server("127.0.0.1")) as upstream, Between(upstream.port) as proxy:
        error = await refused(proxy, "https://up.test", ca_file=authority.ca_file)
        assert "certificate" in error.message and not upstream.requests


async def refused(proxy: Between, url: str = "https://up.test", **settings: object) -> UpstreamError:
    async with wired(url, proxy=Proxy.parse(proxy.url(USER)), **settings) as wire:
        with pytest.raises(UpstreamError) as caught:
            await wire.send(posted())
    error = caught.value
    assert not error.sent and error.code == "provider_submit_failed" and error.status == 502
    assert "p@ss" not in error.message and "127.0.0.1" not in error.message and "up.test" not in error.message
    return error


def says(*pieces: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return script


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "the proxy hung up without a word"),
        (b"HTTP/1.1 200 O", "the proxy's answer broke off"),
        (b"220 mail.test ESMTP\r\n\r\n", "the proxy's answer is not HTTP"),
        (b"SSH-2.0-x\r\n", "the proxy's answer is not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "the proxy's answer is not HTTP"),
        (b"HTTP/1.1 200 " + b"x" * 2**15, "the proxy's answer is not HTTP"),
        (b"HTTP/1.1 403 no\r\nX: y\r\n\r\n<html>", "the proxy refused the tunnel with status 403"),
        (b"HTTP/1.0 502 \r\n\r\n", "the proxy refused the tunnel with status 502"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "the proxy refused the tunnel with status 100"),
        (GRANTED + b"x", "the proxy sent bytes that are nobody's"),
        (GRANTED + b"\r\n\r\n", "the proxy sent bytes that are nobody's"),
    ],
)
async def test_what_is_no_tunnel_is_said_in_words(answer: bytes, words: str) -> None:
    async with Between(script=says(answer)) as proxy:
        error = await refused(proxy)
        assert words in error.message and not error.timeout


async def test_a_grant_that_comes_byte_by_byte_is_a_grant() -> None:
    async with ScriptedUpstream() as upstream, Between(upstream.port, step=1) as proxy:
        async with wired("http://up.test", proxy=Proxy.parse(proxy.url())) as wire:
            assert await ask(wire, get()) == b"{}"


async def test_a_proxy_that_wants_another_password_is_named_by_its_status() -> None:
    async with ScriptedUpstream() as upstream, Between(upstream.port, wants=b"Basic other") as proxy:
        assert "status 407" in (await refused(proxy)).message
        text = config("http://up.test", upstreams='proxy = "env:A_PROXY"')
        async with serve(text, environ={"A_PROXY": proxy.url(USER)}) as served, RawClient(served.port) as client:
            heard = await client.ask(GET)
            assert heard.status == 502 and b"status 407" in heard.body and b"Nothing was sent" in heard.body
            assert heard.get(b"x-should-retry") == b"true"
            assert b"word" not in heard.body + served.raw_log and BASIC[6:] not in heard.body + served.raw_log
        assert not upstream.requests


async def test_a_proxy_that_hangs_is_given_up() -> None:
    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Between(script=hangs) as proxy:
        error = await refused(proxy, connect_timeout=0.1)
        assert error.timeout and "through the proxy in time" in error.message


async def test_a_proxy_that_resets_is_no_connection() -> None:
    async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with Between(script=resets) as proxy:
        assert "no connection through the proxy: Connection reset by peer" in (await refused(proxy)).message


async def test_a_proxy_that_is_not_there_is_no_connection() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with wired("https://up.test", proxy=Proxy("127.0.0.1", port)) as wire:
            with pytest.raises(UpstreamError, match="no connection through the proxy: Connection refused"):
                await wire.send(get())


async def test_a_client_that_leaves_while_the_proxy_hangs_leaves_no_socket_behind() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        gone.set()

    async with Between(script=hangs) as proxy, wired("https://up.test", proxy=Proxy.parse(proxy.url())) as wire:
        asking = asyncio.create_task(wire.send(get()))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        del asking
        await gone.wait()
        gc.collect()  # a socket left behind would warn, and warnings are errors


async def test_only_the_proxys_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    real = asyncio.get_running_loop().getaddrinfo

    async def look(host: str, port: int, **more: int) -> object:
        looked.append(host)
        return await real(host, port, **more)

    async with ScriptedUpstream() as upstream, Between(upstream.port) as proxy:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look)
        async with wired("http://nowhere.test", proxy=Proxy("localhost", proxy.port)) as wire:
            assert await ask(wire, get()) == b"{}"
    assert looked == ["localhost"]


async def test_check_live_goes_through_the_proxy(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, Between(upstream.port, wants=BASIC) as proxy:
        path = tmp_path / "framegate.toml"
        path.write_text(config("http://up.test", upstreams='proxy = "env:A_PROXY"'))
        fine = load(path, {"A_PROXY": proxy.url(USER)})
        assert await asyncio.to_thread(dial, fine) == []
        wrong = load(path, {"A_PROXY": proxy.url("me:other")})
        (line,) = await asyncio.to_thread(dial, wrong)
        assert line.startswith("upstreams.only: ") and "status 407" in line and "other" not in line
