"""The public port with TLS: failed and endless handshakes, farewells, slow clients, another certificate, the stop."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from contextlib import ExitStack, closing, suppress
from functools import partial

import pytest
from aiohttp import ClientSession

from proxy.core.tables import Listen
from proxy.testkit import Call, ScriptedUpstream, Served, serve
from proxy.wire import listening, secure

from ..loops import Run
from .authority import Authority
from .securing import Client, connected, secured
from .sockets import echo
from .sockets import upstream as sockets
from .telling import GET, config, post, until

MB = 1_000_000
LAST = b"GET /v1/x HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"
OLD = b"GET /v1/x HTTP/1.0\r\nHost: me\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def failed(served: Served) -> list[str]:
    """Why handshakes failed, as the log has it."""
    return [line["why"] for line in served.log if line["event"] == "handshake_failed"]


def test_https_is_spoken_and_said(run: Run, authority: Authority) -> None:
    async def story() -> None:
        async with ScriptedUpstream() as upstream:
            async with serve(config(upstream, server=secured(authority.pair("127.0.0.1")))) as served:
                assert served.url == f"https://127.0.0.1:{served.port}"
                assert served.house.config.server.public_url.startswith("https://127.0.0.1:")
                context = authority.client()
                context.set_alpn_protocols(["h2", "http/1.1"])
                with await asyncio.to_thread(Client, served, context) as client:
                    for _ in range(3):
                        assert (await asyncio.to_thread(client.ask, GET)).startswith(b"HTTP/1.1 200 OK")
                    assert client.tls.selected_alpn_protocol() == "http/1.1"
                    assert client.tls.version() == "TLSv1.3"
                context = authority.client()
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                with await asyncio.to_thread(Client, served, context) as client:
                    assert (await asyncio.to_thread(client.ask, GET)).startswith(b"HTTP/1.1 200 OK")
                    assert client.tls.selected_alpn_protocol() is None
                lines = await served.ended(4)
                assert {line["client"] for line in lines} == {"127.0.0.1"}
                assert failed(served) == []

    run(story())


@pytest.mark.parametrize("asked", [LAST, OLD], ids=["1.1", "1.0"])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
def test_a_whole_answer_ends_with_a_farewell_and_a_cut_one_without(
    run: Run, authority: Authority, cut: bool, asked: bytes
) -> None:
    async def sends(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        if cut:
            call.reset()
        else:
            await call.send(b"0\r\n\r\n")

    async def story() -> None:
        async with ScriptedUpstream(script=sends) as upstream:
            async with serve(config(upstream, server=secured(authority.pair("127.0.0.1")))) as served:
                with await asyncio.to_thread(Client, served, authority.client()) as client:
                    said, farewell = await asyncio.to_thread(client.all, asked)
                assert farewell is not cut
                # A client of HTTP/1.0 has nothing but the farewell to tell them by. (A reset may overtake the bytes.)
                assert cut or said.endswith(b"hello" if asked == OLD else b"5\r\nhello\r\n0\r\n\r\n")
                assert (await served.ended(1))[0].get("complete", True) is not cut

    run(story())


class ByHand:
    """A client that puts what it says into the same segment as the end of its handshake."""

    def __init__(self, served: Served, context: ssl.SSLContext) -> None:
        self.sock = socket.create_connection(("127.0.0.1", served.port), timeout=20)
        self._inward, self._outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._inward, self._outward, server_hostname="127.0.0.1")

    def say(self, request: bytes) -> bytes:
        """Shake hands, and say this in the same breath; the first of what comes."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                if self._outward.pending:
                    self.sock.sendall(self._outward.read())
                self._inward.write(self.sock.recv(2**16))
        self.tls.write(request)
        self.sock.sendall(self._outward.read())
        while True:
            try:
                return self.tls.read(2**16)
            except ssl.SSLWantReadError:
                self._inward.write(self.sock.recv(2**16))


@pytest.mark.parametrize(("said", "heard"), [(GET, b"200"), (GET[:20], b"408")], ids=["whole", "half a head"])
def test_a_client_may_speak_in_the_breath_that_ends_the_handshake(
    run: Run, authority: Authority, said: bytes, heard: bytes
) -> None:
    async def story() -> None:
        server = secured(authority.pair("127.0.0.1"), 'header_timeout = "300ms"')
        async with ScriptedUpstream() as upstream, serve(config(upstream, server=server)) as served:
            client = await asyncio.to_thread(ByHand, served, authority.client())
            with closing(client.sock):
                assert (await asyncio.to_thread(client.say, said)).startswith(b"HTTP/1.1 " + heard)

    run(story())


def narrow(listen: Listen) -> list[socket.socket]:
    """Sockets whose connections hold little in the kernel, so that a slow client's answer waits with us."""
    bound = listening.bind(listen)
    for one in bound:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**12)
    return bound


@pytest.mark.parametrize("takes", [True, False], ids=["takes it", "never does"])
def test_a_slow_client_gets_the_end_of_its_answer_however_long_it_takes(
    run: Run, authority: Authority, monkeypatch: pytest.MonkeyPatch, takes: bool
) -> None:
    # asyncio's TLS hangs up on a client that has not taken all within the time for the farewell.
    monkeypatch.setattr("proxy.app.bind", narrow)
    monkeypatch.setattr(secure, "GOODBYE", 0.01)
    monkeypatch.setattr(secure, "LONGEST", 0.02)
    looks, sweep = 0, secure.Greeter.sweep

    def counted(greeter: secure.Greeter, stall: float) -> None:
        nonlocal looks
        looks += 1
        sweep(greeter, stall)

    monkeypatch.setattr(secure.Greeter, "sweep", counted)
    body = bytes(range(256)) * 400

    async def story() -> None:
        server = secured(authority.pair("127.0.0.1"), 'body_timeout = "160ms"')
        route = "" if takes else 'deadline = "300ms"'
        async with ScriptedUpstream(ANSWER % len(body) + body) as upstream:
            async with serve(config(upstream, server=server, route=route)) as served:
                with await asyncio.to_thread(Client, served, authority.client(), window=2**12) as client:
                    client.tls.sendall(LAST)
                    await served.ended(1)
                    (connection,) = secure_ones(served)
                    assert connection.get_write_buffer_size() > 2**14
                    before = looks
                    await until(lambda: looks >= before + 5 if takes else not secure_ones(served))
                    said, farewell = await asyncio.to_thread(client.rest)
                    assert (said.endswith(b"\r\n\r\n" + body), farewell) == (takes, takes)
                await until(lambda: not secure_ones(served))

    run(story())


def secure_ones(served: Served) -> list[secure.Secure]:
    """The connections that came of handshakes, and are not gone yet."""
    assert served.house.greeter is not None
    return list(served.house.greeter._connections)


def test_a_slow_client_does_not_make_memory_grow(run: Run, authority: Authority) -> None:
    sent = 0

    async def sends(call: Call) -> None:
        nonlocal sent
        await call.send(ANSWER % (40 * MB))
        for _ in range(40):
            await call.send(b"x" * MB)
            sent += 1

    async def story() -> None:
        async with ScriptedUpstream(script=sends) as upstream:
            async with serve(config(upstream, server=secured(authority.pair("127.0.0.1")))) as served:
                with await asyncio.to_thread(Client, served, authority.client(), window=2**14) as client:
                    client.tls.sendall(LAST)
                    before = -1

                    def still() -> bool:
                        nonlocal before
                        before, was = sent, before
                        return sent == was and sent > 0

                    await until(still, steadily=50)
                    (connection,) = secure_ones(served)
                    assert sent < 30 and connection.get_write_buffer_size() < 600_000
                    said, farewell = await asyncio.to_thread(client.rest)
                    assert len(said) > 40 * MB and farewell

    run(story())


def test_a_client_that_is_refused_early_may_go_on_sending_before_it_listens(run: Run, authority: Authority) -> None:
    # To asyncio's TLS what comes behind its own farewell is a fault, and it resets the connection.
    async def story() -> None:
        server = secured(authority.pair("127.0.0.1"), 'max_body = "1KiB"')
        async with ScriptedUpstream() as upstream, serve(config(upstream, server=server)) as served:
            with await asyncio.to_thread(Client, served, authority.client()) as client:
                client.tls.sendall(post(20 * MB))
                await until(lambda: any(one._parted for one in secure_ones(served)))
                for _ in range(20):
                    await asyncio.to_thread(client.tls.sendall, b"x" * MB)
                said, farewell = await asyncio.to_thread(client.rest)
                assert said.startswith(b"HTTP/1.1 413 ") and farewell
        assert not upstream.requests

    run(story())


def test_who_does_not_answer_a_farewell_is_hung_up_on(
    run: Run, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure, "GOODBYE", 0.05)

    async def story() -> None:
        server = secured(authority.pair("127.0.0.1"), 'body_timeout = "160ms"')
        async with ScriptedUpstream() as upstream, serve(config(upstream, server=server)) as served:
            with await asyncio.to_thread(Client, served, authority.client()) as client:
                said, farewell = await asyncio.to_thread(client.all, LAST)
                assert said.startswith(b"HTTP/1.1 200 OK") and farewell
                with socket.socket(fileno=client.tls.detach()) as bare:
                    bare.settimeout(20)
                    assert await asyncio.to_thread(bare.recv, 1) == b""
            await until(lambda: not secure_ones(served))

    run(story())


def test_half_open_handshakes_hold_up_nobody_and_end_in_time(run: Run, authority: Authority) -> None:
    async def story() -> None:
        server = secured(authority.pair("127.0.0.1"), 'header_timeout = "400ms"')
        async with ScriptedUpstream() as upstream, serve(config(upstream, server=server)) as served:
            with ExitStack() as held:
                silent = [held.enter_context(connected(served)) for _ in range(30)]
                for sock in silent[:10]:
                    sock.sendall(b"\x16\x03\x01")  # the beginning of a handshake
                with await asyncio.to_thread(Client, served, authority.client()) as client:
                    assert (await asyncio.to_thread(client.ask, GET)).startswith(b"HTTP/1.1 200 OK")
                for sock in silent:
                    with suppress(ConnectionResetError):
                        assert await asyncio.to_thread(sock.recv, 1) == b""
                await until(lambda: len(failed(served)) >= 30)
                assert failed(served) == ["it took longer than 0.4 s"] * 30

    run(story())


def test_a_stop_waits_neither_for_handshakes_nor_for_farewells(run: Run, authority: Authority) -> None:
    async def story() -> None:
        server = secured(authority.pair("127.0.0.1"), 'drain_timeout = "10m"\nheader_timeout = "10m"')
        with ExitStack() as held:
            async with ScriptedUpstream() as upstream, serve(config(upstream, server=server)) as served:
                silent = [held.enter_context(connected(served)) for _ in range(30)]
                idle = held.enter_context(await asyncio.to_thread(Client, served, authority.client()))
                assert (await asyncio.to_thread(idle.ask, GET)).startswith(b"HTTP/1.1 200 OK")
                greeter = served.house.greeter
                assert greeter is not None
                await until(lambda: len(greeter._shaking) == 30)
                async with asyncio.timeout(15):
                    await served.house.stop()
            assert await asyncio.to_thread(idle.rest) == (b"", True)
            for sock in silent:
                with suppress(ConnectionResetError):
                    assert await asyncio.to_thread(sock.recv, 1) == b""
            assert failed(served) == []  # they have not failed

    run(story())


def outdated() -> ssl.SSLContext:
    """A client's of ten years ago."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ssl.create_default_context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def test_a_handshake_that_fails_is_one_line_and_no_hang(
    run: Run, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        async with ScriptedUpstream() as upstream:
            async with serve(config(upstream, server=secured(authority.pair("127.0.0.1")))) as served:
                with connected(served):
                    pass  # who only looks whether the port is open: no line
                for count, said in enumerate((GET, b"\0" * 100), 1):
                    with connected(served) as sock:
                        sock.sendall(said)
                        with suppress(ConnectionResetError):
                            while await asyncio.to_thread(sock.recv, 2**10):  # TLS's own word for it, if any
                                pass
                    await until(partial(lambda count: len(failed(served)) == count, count))
                for count, context in enumerate((ssl.create_default_context(), outdated()), 3):
                    with pytest.raises((ssl.SSLError, ConnectionResetError)):
                        await asyncio.to_thread(Client, served, context)
                    await until(partial(lambda count: len(failed(served)) == count, count))
                assert failed(served) == [
                    "it speaks plain HTTP, and this port speaks TLS",
                    "wrong version number",
                    "it does not know who signed the certificate",
                    "it offers nothing newer than TLS 1.1",
                ]
                assert {line.get("client", "127.0.0.1") for line in served.log} == {"127.0.0.1"}
                assert {line["level"] for line in served.log} <= {"info"} and not upstream.requests

    run(story())
    assert "Traceback" not in "".join(capfd.readouterr())


def test_sockets_pass_too(run: Run, authority: Authority) -> None:
    async def story() -> None:
        async with (
            sockets(echo) as url,
            serve(config(url, server=secured(authority.pair("127.0.0.1")))) as served,
            ClientSession() as session,
            session.ws_connect(f"wss://127.0.0.1:{served.port}/v1/realtime", ssl=authority.client()) as client,
        ):
            await client.send_str("h\u00e9")
            assert (await client.receive()).data == "h\u00e9"
            await client.send_bytes(b"x" * MB)
            assert (await client.receive()).data == b"x" * MB
            await client.close()
            assert client.close_code == 1000

    run(story())
