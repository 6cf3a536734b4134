"""The same over sockets: connections closed, no byte of what was refused, and nothing that stays open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, WSServerHandshakeError, web

from proxy.api import Exchange, Forward, Request, Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, Served, serve

from ..plugins_for_tests import told
from ..wire.sockets import echo, upstream
from .test_holding import Court, refusal

ASK = b"POST /v1/x HTTP/1.1\r\nHost: me\r\nContent-Length: 2\r\n\r\n{}"
BODY = bytes(range(256)) * 4096
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@asynccontextmanager
async def holding(court: Court, url: str) -> AsyncIterator[Served]:
    """A house that holds what comes from there until the court has decided."""

    async def layer(exchange: Exchange, request: Request, forward: Forward) -> Response:
        response = await exchange.hold(forward, request, until=court())
        assert response.socket is not None or response.body.now() is not None or hasattr(response.body, "pour")
        return response  # which is spliced as any other is

    config = f"""
[upstreams.only]
base_url = "{url}"
[plugins.court]
use = "tests.plugins_for_tests:Told"
word = "{told(layer)}"
[[routes]]
match = "* /v1/*"
chain = ["court"]
"""
    async with serve(config) as served:
        yield served


class Slow:
    """An upstream that gives its head, half of its body, or nothing, and hears when it is hung up on."""

    def __init__(self, sends: bytes) -> None:
        self.sends = sends
        self.reached, self.left = asyncio.Event(), asyncio.Event()

    async def __call__(self, call: Call) -> None:
        await call.body()
        await call.send(self.sends)
        self.reached.set()
        await call.gone()
        self.left.set()


@pytest.mark.parametrize("sends", [b"", HEAD, HEAD + BODY[:70_000]], ids=["nothing", "a head", "half"])
async def test_refused_while_upstream_works_its_connection_is_closed(sends: bytes) -> None:
    court, slow = Court(refusal()), Slow(sends)
    async with (
        ScriptedUpstream(script=slow) as there,
        holding(court, there.url) as served,
        RawClient(served.port) as me,
    ):
        await me.send(ASK)
        await slow.reached.wait()
        court.decided.set()
        answer = await me.answer()
        assert answer.status == 400 and b"content_policy_violation" in answer.body
        async with asyncio.timeout(5):
            await slow.left.wait()
        line = (await served.ended(1))[0]
        assert line["calls"][0]["billed"] == "maybe" and len(there.requests) == 1
        assert bytes(range(64)) not in answer.body
        await me.send(ASK)  # the client's connection lives on
        assert (await me.answer()).status == 400


async def test_what_passes_is_every_byte_and_the_connection_is_used_again() -> None:
    court = Court()

    async def script(call: Call) -> None:
        await call.body()
        await call.send(HEAD + BODY)

    async with (
        ScriptedUpstream(script=script) as there,
        holding(court, there.url) as served,
        RawClient(served.port) as me,
    ):
        for _ in range(3):
            court.decided.clear()
            court.asked.clear()
            await me.send(ASK)
            await court.asked.wait()
            court.decided.set()
            answer = await me.answer()
            assert (answer.status, answer.body) == (200, BODY)
        assert there.connections == 1


async def test_a_client_that_leaves_hangs_up_on_upstream_too() -> None:
    court, slow = Court(refusal()), Slow(HEAD)
    async with ScriptedUpstream(script=slow) as there, holding(court, there.url) as served:
        async with RawClient(served.port) as me:
            await me.send(ASK)
            await slow.reached.wait()
        async with asyncio.timeout(5):
            await slow.left.wait()
        await served.ended(1)
        assert court.left and not served.house.engine.live


async def test_a_socket_opens_when_the_question_has_passed() -> None:
    for why, status in ((refusal(), 400), (None, 101)):
        court, connected = Court(why), asyncio.Event()

        async def listening(request: web.Request, connected: asyncio.Event = connected) -> web.WebSocketResponse:
            connected.set()
            return await echo(request)

        async with upstream(listening) as url, holding(court, url) as served, ClientSession() as session:
            opening = asyncio.ensure_future(session.ws_connect(f"ws://127.0.0.1:{served.port}/v1/realtime"))
            async with asyncio.timeout(5):
                await connected.wait()
            assert not opening.done()
            court.decided.set()
            if status == 400:
                with pytest.raises(WSServerHandshakeError) as refused:
                    await opening
                assert refused.value.status == 400
            else:
                client = await opening
                await client.send_str("hello")
                assert "hello" in await client.receive_str()
                await client.close()
