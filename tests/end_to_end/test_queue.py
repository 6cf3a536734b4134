"""The queue before an upstream, over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from aiohttp import ClientSession, web

from proxy.core.waiting import Waiting
from proxy.model.quota import Bound, Bounds, Line
from proxy.testkit import Call, RawClient, ScriptedUpstream, Served, serve

ASK = b"GET /v1/%b HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 2**20


def config(url: str, limits: str) -> str:
    return f'[upstreams.only]\nbase_url = "{url}"\nlimits = {{ {limits} }}\n[[routes]]\nmatch = "* /v1/*"\nchain = []\n'


def waiting(served: Served) -> Waiting:
    return served.house.state.waiting("only")


async def held(served: Served) -> int:
    """How many slots are taken."""
    quotas: Any = served.house.state.quotas(served.house.config, None)  # type: ignore[arg-type]
    line = Bound(Line("upstream:only|concurrent", 99), "concurrent", "upstream", "", 0.0)
    return int((await quotas.claim("", Bounds([line]), (0,))).levels[0])


async def stand(served: Served, count: int) -> None:
    """Wait until that many stand in line."""
    while len(waiting(served).line) != count:
        await asyncio.sleep(0.002)


async def test_a_large_answer_goes_from_socket_to_socket_and_holds_its_slot_to_the_last_byte() -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        await call.send(bytes(LARGE // 2))
        await go.wait()
        await call.send(bytes(LARGE // 2))

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream.url, "concurrent = 1")) as served:
        async with RawClient(served.port) as first, RawClient(served.port) as second:
            asked = [asyncio.ensure_future(client.ask(ASK % b"x")) for client in (first, second)]
            await stand(served, 1)
            while not upstream.requests:
                await asyncio.sleep(0.002)
            assert (len(upstream.requests), await held(served)) == (1, 1)
            go.set()
            answers = await asyncio.gather(*asked)
        assert [len(answer.body) for answer in answers] == [LARGE, LARGE]
        told = [answer.get(b"x-framegate-queue") for answer in answers]
        assert told.count(None) == 1 and any(one is not None and one.startswith(b"2; waited=") for one in told)
        assert await held(served) == 0


async def test_a_client_that_leaves_gives_its_slot_and_its_place_back() -> None:
    never = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        if call.received.target == b"/v1/last":
            await call.send(b"123456789")
        else:
            await call.send(b"1")
            await call.gone()
        never.set()

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream.url, "concurrent = 1")) as served:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RawClient(served.port)) for _ in range(3)]
            last = []
            for count, (client, path) in enumerate(zip(clients, (b"a", b"b", b"last"), strict=True)):
                last.append(asyncio.ensure_future(client.ask(ASK % path)))
                await stand(served, count)
                while not upstream.requests:
                    await asyncio.sleep(0.002)
            for one, client in zip(last[:2], clients, strict=False):
                one.cancel()
                client.writer.close()
            assert (await last[2]).body == b"123456789"
        await served.ended(3)
        assert (len(waiting(served).line), await held(served)) == (0, 0)


async def test_a_web_socket_holds_its_slot_as_long_as_it_lasts() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/x":
            return web.Response(text="x")
        end = web.WebSocketResponse()
        await end.prepare(request)
        async for message in end:
            await end.send_str(message.data)
        return end

    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        async with serve(config(url, "concurrent = 1")) as served, ClientSession() as session:
            async with session.ws_connect(f"{served.url}/v1/realtime?model=x") as client:
                await client.send_str("hi")
                assert (await client.receive()).data == "hi"
                assert await held(served) == 1
                plain = asyncio.ensure_future(session.get(f"{served.url}/v1/x"))
                await stand(served, 1)
            assert await (await plain).text() == "x"
            await served.ended(2)
            assert await held(served) == 0
    finally:
        await runner.cleanup()


async def test_who_waits_keeps_the_place_when_the_config_is_read_again() -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        if call.received.target == b"/v1/a":
            await go.wait()
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream.url, "concurrent = 1")) as served:
        async with AsyncExitStack() as stack:
            asked = []
            for count, path in enumerate((b"a", b"b", b"c")):
                client = await stack.enter_async_context(RawClient(served.port))
                asked.append(asyncio.ensure_future(client.ask(ASK % path)))
                while not upstream.requests:
                    await asyncio.sleep(0.002)
                await stand(served, count)
                await served.house.reload(replace(served.house.config))
            assert len(upstream.requests) == 1
            go.set()
            assert {(await one).body for one in asked} == {b"hi"}
        assert [request.target for request in upstream.requests] == [b"/v1/a", b"/v1/b", b"/v1/c"]
