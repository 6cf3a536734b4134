"""Reaching an upstream: names, several addresses, TLS; and that a failure here was never sent."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.model.errors import UpstreamError
from proxy.testkit import Call, RawClient, ScriptedUpstream, TurnedClock, serve
from proxy.wire.dial import Address

from .authority import Authority
from .telling import GET, ask, config, get, post, posted, wired


async def echo(call: Call) -> None:
    body = await call.body()
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
    await call.send(body)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_a_verified_upstream_is_asked_over_one_connection(name: str, tmp_path: Path) -> None:
    names: list[str | None] = []
    authority = Authority(tmp_path)
    tls = authority.server(name)
    tls.sni_callback = lambda sock, asked, context: names.append(asked)
    big = os.urandom(2_000_000)
    async with ScriptedUpstream(script=echo, tls=tls) as upstream:
        url = f"https://{name}:{upstream.port}/v1"
        async with serve(config(url, upstreams=f'ca_file = "{authority.ca_file}"')) as served:
            async with RawClient(served.port) as client:
                for _ in range(3):
                    assert (await client.ask(post(len(big)) + big)).body == big
        assert upstream.connections == 1
        assert names == (["localhost"] if name == "localhost" else [None])
        assert upstream.requests[0].get(b"host") == f"{name}:{upstream.port}".encode()


async def distrust(url: str, **settings: object) -> UpstreamError:
    async with wired(url, **settings) as wire:
        with pytest.raises(UpstreamError) as caught:
            await wire.send(posted())
        assert not caught.value.sent
        return caught.value


async def test_a_certificate_for_another_name_is_not_believed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with ScriptedUpstream(tls=authority.server("other.test")) as upstream:
        error = await distrust(upstream.url, ca_file=authority.ca_file)
        assert "certificate" in error.message and not upstream.requests


async def test_an_expired_certificate_is_not_believed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with ScriptedUpstream(tls=authority.server("127.0.0.1", expired=True)) as upstream:
        error = await distrust(upstream.url, ca_file=authority.ca_file)
        assert "expired" in error.message and not upstream.requests


async def test_an_unknown_authority_is_not_believed(tmp_path: Path) -> None:
    async with ScriptedUpstream(tls=Authority(tmp_path).server("127.0.0.1")) as upstream:
        error = await distrust(upstream.url)
        assert "certificate" in error.message and not upstream.requests
        async with serve(config(upstream)) as served, RawClient(served.port) as client:
            heard = await client.ask(GET)
            assert heard.status == 502 and heard.get(b"x-should-retry") == b"true"
            assert b"provider_submit_failed" in heard.body and b"Nothing was sent" in heard.body
            assert (await served.ended(1))[0]["attempts"] == ["only=unreachable"]


async def test_plain_http_where_tls_is_wanted_is_no_connection() -> None:
    def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answers, "127.0.0.1", 0) as server:
        error = await distrust(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert not error.timeout


async def test_a_refused_connection_is_asked_for_no_second_time() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        error = await distrust(f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert not error.timeout and error.code == "provider_submit_failed"


async def test_a_handshake_that_never_ends_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        error = await distrust(f"https://127.0.0.1:{mute.getsockname()[1]}", connect_timeout=0.2)
        assert error.timeout and 0.2 <= time.monotonic() - began < 1.5


@contextmanager
def blackhole() -> Iterator[int]:
    """A port whose queue of connections is full: whoever comes next hears nothing at all."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
            waiting.append(sock)
        try:
            yield full.getsockname()[1]
        finally:
            for sock in waiting:
                sock.close()


async def test_a_host_that_does_not_answer_is_given_up() -> None:
    with blackhole() as port:
        error = await distrust(f"http://127.0.0.1:{port}", connect_timeout=0.2)
        assert error.timeout


class Resolver:
    """Stands in for the loop's resolver."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[tuple[str, int]] | Exception) -> None:
        self.asked = 0
        self._answers = answers
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self)

    async def __call__(self, host: str, port: int, **_: object) -> list[tuple]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in answer]


async def test_the_next_address_is_tried_while_the_first_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream() as upstream:
        with blackhole() as port:
            Resolver(monkeypatch, [("127.0.0.1", port), ("127.0.0.1", upstream.port)])
            async with wired("http://two.test", connect_timeout=5.0) as wire:
                began = time.monotonic()
                assert await ask(wire, get()) == b"{}"
                assert time.monotonic() - began < 1.5


async def test_the_next_address_is_tried_when_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream() as upstream:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            Resolver(monkeypatch, [closed.getsockname(), ("127.0.0.1", upstream.port)])
            async with wired("http://two.test") as wire:
                assert await ask(wire, get()) == b"{}"


async def test_a_name_is_looked_up_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = TurnedClock()
    async with ScriptedUpstream(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}") as upstream:
        resolver = Resolver(monkeypatch, [("127.0.0.1", upstream.port)])
        async with wired("http://one.test", clock=clock) as wire:
            for _ in range(3):
                await ask(wire, get())
            assert resolver.asked == 1
            clock.turn(31)
            await ask(wire, get())
            assert resolver.asked == 2


async def test_a_name_is_looked_up_anew_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream() as upstream:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            resolver = Resolver(monkeypatch, [closed.getsockname()], [("127.0.0.1", upstream.port)])
            async with wired("http://moved.test") as wire:
                with pytest.raises(UpstreamError):
                    await wire.send(get())
                assert await ask(wire, get()) == b"{}" and resolver.asked == 2


async def test_a_name_is_looked_up_anew_after_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream() as upstream:
        with blackhole() as port:
            resolver = Resolver(monkeypatch, [("127.0.0.1", port)], [("127.0.0.1", upstream.port)])
            async with wired("http://moved.test", connect_timeout=0.2) as wire:
                with pytest.raises(UpstreamError):
                    await wire.send(get())
                assert await ask(wire, get()) == b"{}" and resolver.asked == 2


async def test_a_name_that_nobody_knows_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    error = await distrust("http://nowhere.test")
    assert "Name or service not known" in error.message and "nowhere" not in error.message


async def test_a_resolver_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    error = await distrust("http://slow.test", connect_timeout=0.1)
    assert error.timeout


async def test_a_client_that_leaves_while_we_dial_leaves_no_socket_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with wired(f"https://127.0.0.1:{mute.getsockname()[1]}") as wire:
            asking = asyncio.create_task(wire.send(get()))
            loop = asyncio.get_running_loop()
            mute.setblocking(False)
            peer, _ = await loop.sock_accept(mute)
            while not (await loop.sock_recv(peer, 2**16)):
                raise AssertionError
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            del asking
            assert await loop.sock_recv(peer, 2**16) == b""
            peer.close()
            gc.collect()  # a socket left behind would warn, and warnings are errors


@pytest.mark.parametrize(
    ("base", "rest", "target", "host"),
    [
        ("http://a.test/v1", "/x", b"/v1/x", b"a.test"),
        ("http://a.test/v1/", "/x?q=%2F", b"/v1/x?q=%2F", b"a.test"),
        ("http://a.test", "", b"/", b"a.test"),
        ("http://a.test", "?a=1", b"/?a=1", b"a.test"),
        ("http://a.test:80", "/x", b"/x", b"a.test"),
        ("https://a.test:443", "/x", b"/x", b"a.test"),
        ("https://a.test:80", "/x", b"/x", b"a.test:80"),
        ("http://[::1]:8000/v1", "/x", b"/v1/x", b"[::1]:8000"),
        ("https://a.test/openai?api-version=2", "/x", b"/openai/x?api-version=2", b"a.test"),
        ("https://a.test/openai?api-version=2", "/x?b=1", b"/openai/x?b=1&api-version=2", b"a.test"),
        ("http://a.test/v1", "/caf\udcc3\udca9", b"/v1/caf\xc3\xa9", b"a.test"),
        ("http://bücher.test/v1", "/x", b"/v1/x", b"xn--bcher-kva.test"),
    ],
)
def test_a_target_is_the_base_and_the_clients_bytes(base: str, rest: str, target: bytes, host: bytes) -> None:
    address = Address(base)
    assert address.target(rest) == target and address.header == host


async def test_dialling_alone_says_whether_it_can_be_done() -> None:
    async with ScriptedUpstream() as upstream, wired(upstream) as wire:
        await wire.dial()
        assert not upstream.requests
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with wired(f"http://127.0.0.1:{closed.getsockname()[1]}") as wire:
            with pytest.raises(UpstreamError):
                await wire.dial()
