"""WebSockets through the house: messages and endings both ways."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession, WSMsgType, web

from proxy.model.message import Response
from proxy.model.socket import Answer, Message
from proxy.testkit import RawClient, serve

from .sockets import SHAKE, connected, echo, upstream
from .telling import config


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
