"""On a socket each message is judged before it goes on; what is refused is dropped, and the talk goes on."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web
from PIL import Image

from plugins.moderation.sockets import watched
from plugins.moderation.verdict import Matter
from proxy.api import Exchange, Forward, Message, Rejected, Request, Response, Services, operation
from proxy.sandbox import Sandbox
from proxy.sandbox.markers import flagged_image, mark
from proxy.testkit import serve
from tests.images.drawn import encoded
from tests.plugins_for_tests import told
from tests.wire.telling import config

DETAILS = {"moderation_stage": "input", "categories": ["violence"]}


class Judge:
    """Refuses by a word, by a picture's marks, or what it can't see; remembers what it was shown."""

    def __init__(self, *, blind: bool = False) -> None:
        self.shown: list[Matter] = []
        self.blind = blind  # whether what can't be seen may pass
        self.hold: dict[str, asyncio.Event] = {}
        self.services: Services

    async def running(self, services: Services) -> AsyncIterator[None]:
        self.services = services
        yield

    async def layer(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        kind = (await operation(request)).kind
        return watched(await forward(request), kind, self, self.services, None)

    async def __call__(self, matter: Matter) -> None:
        self.shown.append(matter)
        for text in matter.texts:
            if text.text in self.hold:
                await self.hold[text.text].wait()
        if matter.unseen and not self.blind:
            raise Rejected(f"It can't be seen: {matter.unseen[0]}.")
        found = any("flag" in text.text for text in matter.texts)
        for sight in matter.pictures:
            for view in await sight.views():
                found = found or bool(flagged_image(Image.open(io.BytesIO(view.data))))
        if found:
            more: Any = {"moderation_details": DETAILS}
            raise Rejected("Refused.", type="image_generation_user_error", code="content_policy_violation", more=more)

    @property
    def texts(self) -> list[str]:
        return [text.text for matter in self.shown for text in matter.texts]


class Upstream:
    """Echoes what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def __call__(self, request: web.Request) -> web.WebSocketResponse:
        end = web.WebSocketResponse(autoping=False, max_msg_size=0)
        await end.prepare(request)
        async for message in end:
            self.heard.append(message.data)
            if message.type is WSMsgType.TEXT:
                asked = json.loads(message.data)
                if asked.get("type") == "response.create" and "model" in asked:
                    began = {"type": "response.created", "response": {"id": f"resp_{len(self.heard)}"}}
                    await end.send_str(json.dumps(began))
                else:
                    await end.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await end.send_bytes(message.data)
            elif message.type is WSMsgType.PING:
                await end.pong(message.data)
        return end


@asynccontextmanager
async def talking(
    judge: Judge, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], target: str = "realtime?model=m"
) -> AsyncIterator[ClientWebSocketResponse]:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        async with through(judge, url, target) as client:
            yield client
    finally:
        await runner.cleanup()


@asynccontextmanager
async def through(judge: Judge, url: str, target: str, *outside: str) -> AsyncIterator[ClientWebSocketResponse]:
    words = [*outside, told(judge.layer, judge.running)]
    async with serve(config(url, *words)) as served, ClientSession() as session:
        at = f"ws://127.0.0.1:{served.port}/v1/{target}"
        async with session.ws_connect(at, autoping=False, max_msg_size=0) as client:
            yield client


def item(text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}, **more}


async def test_what_is_refused_is_dropped_and_the_talk_goes_on() -> None:
    judge, upstream = Judge(), Upstream()
    async with talking(judge, upstream) as client:
        await client.send_json(item("a fox"))
        assert await client.receive_json() == item("a fox")
        await client.send_json(item("flag", event_id="e7"))
        refused = await client.receive_json()
        assert refused.pop("event_id").startswith("event_")
        assert refused == {
            "type": "error",
            "error": {
                "type": "image_generation_user_error",
                "code": "content_policy_violation",
                "message": "Refused.",
                "param": None,
                "event_id": "e7",
                "moderation_details": DETAILS,
            },
        }
        await client.send_json(item("a hare"))
        assert await client.receive_json() == item("a hare")
    assert [json.loads(heard) for heard in upstream.heard] == [item("a fox"), item("a hare")]
    assert judge.texts == ["a fox", "flag", "a hare"]


async def test_the_bytes_that_go_on_are_those_that_came() -> None:
    judge, upstream = Judge(), Upstream()
    said = '{ "item":{"content":[{"text":"f\\u006fx"}] } , "type" :"conversation.item.create"}'
    async with talking(judge, upstream) as client:
        await client.send_str(said)
        assert await client.receive_str() == said
    assert upstream.heard == [said] and judge.texts == ["fox"]


async def test_messages_go_on_in_their_order() -> None:
    judge, upstream = Judge(), Upstream()
    judge.hold = {"slow": asyncio.Event(), "flag slow": asyncio.Event()}
    async with talking(judge, upstream) as client:
        for word in ("slow", "fast", "flag slow", "last"):
            await client.send_json(item(word))
        while not judge.shown:
            await asyncio.sleep(0)
        assert not upstream.heard
        judge.hold["slow"].set()
        assert [await client.receive_json() for _ in range(2)] == [item("slow"), item("fast")]
        judge.hold["flag slow"].set()
        assert (await client.receive_json())["type"] == "error"
        assert await client.receive_json() == item("last")
    assert judge.texts == ["slow", "fast", "flag slow", "last"]


async def test_what_says_nothing_is_not_judged_and_passes() -> None:
    judge, upstream = Judge(), Upstream()
    async with talking(judge, upstream) as client:
        for said in ({"type": "input_audio_buffer.commit"}, {"type": "response.create", "event_id": "e"}):
            await client.send_json(said)
            assert await client.receive_json() == said
        await client.ping(b"1")
        heard = await client.receive()
        assert (heard.type, heard.data) == (WSMsgType.PONG, b"1")
        await client.close(code=4001)
    assert judge.shown == [] and len(upstream.heard) == 3


async def test_pictures_are_judged_by_their_pixels() -> None:
    clean = Image.effect_noise((200, 200), 90).convert("RGB")
    judge, upstream = Judge(), Upstream()
    async with talking(judge, upstream) as client:
        for image, sort in ((clean, "conversation.item.create"), (mark(clean, "violence"), "error")):
            said = item("what is this?")
            url = f"data:image/png;base64,{base64.b64encode(encoded(image)).decode()}"
            said["item"]["content"].append({"type": "input_image", "image_url": url})
            await client.send_json(said)
            assert (await client.receive_json())["type"] == sort
    assert len(upstream.heard) == 1 and [len(matter.pictures) for matter in judge.shown] == [1, 1]


@pytest.mark.parametrize("blind", [False, True])
async def test_what_can_not_be_seen_is_for_the_judge_to_say(blind: bool) -> None:
    judge, upstream = Judge(blind=blind), Upstream()
    said = [
        {"type": "input_audio_buffer.append", "audio": "AAAA"},
        {"type": "session.update", "session": {"prompt": {"id": "pmpt_1"}}},
    ]
    async with talking(judge, upstream) as client:
        for one in said:
            await client.send_json(one)
            heard = await client.receive_json()
            assert heard == one if blind else heard["error"]["code"] == "invalid_request"
        await client.send_bytes(b"\0\1")
        message = await client.receive()
        assert message.type is (WSMsgType.BINARY if blind else WSMsgType.TEXT)
    assert len(upstream.heard) == (3 if blind else 0)
    assert [str(matter.unseen[0]) for matter in judge.shown] == [
        "audio: speech",
        "session.prompt: a prompt, kept upstream",
        "a binary message",
    ]


async def test_what_can_be_read_in_two_ways_never_goes_on() -> None:
    judge, upstream = Judge(), Upstream()
    async with talking(judge, upstream) as client:
        for said in ('{"type":"a","text":"x","text":"flag"}', "[]", "flag", '{"type":"a","x":NaN}'):
            await client.send_str(said)
            heard = await client.receive_json()
            assert heard["error"]["code"] == "invalid_request" and heard["error"]["event_id"] is None
        await client.send_json(item("a fox"))
        assert await client.receive_json() == item("a fox")
    assert len(upstream.heard) == 1


async def test_a_socket_of_responses_speaks_of_what_came_on_it() -> None:
    judge, upstream = Judge(), Upstream()
    async with talking(judge, upstream, "responses") as client:
        ask: dict[str, Any] = {"type": "response.create", "model": "gpt", "input": "a fox", "stream_id": "one"}
        await client.send_json(ask)
        began = await client.receive_json()
        assert began["type"] == "response.created"
        await client.send_json({**ask, "input": "and?", "previous_response_id": began["response"]["id"]})
        assert (await client.receive_json())["type"] == "response.created"
        await client.send_json({**ask, "input": "and?", "previous_response_id": "resp_of_another"})
        heard = await client.receive_json()
        assert "an earlier response, kept upstream" in heard["error"].pop("message")
        error = {"type": "invalid_request_error", "code": "invalid_request", "param": None}
        assert heard == {"type": "error", "status": 400, "error": error, "stream_id": "one"}
        await client.send_json({"type": "response.steer", "input": "flag", "previous_response_id": "resp_2"})
        assert (await client.receive_json())["error"]["moderation_details"] == DETAILS
    assert len(upstream.heard) == 2 and judge.texts == ["a fox", "and?", "and?", "flag"]


async def test_what_the_client_hears_passes_those_outside() -> None:
    async def layer(exchange: Exchange, request: Request, forward: Forward) -> Response:
        async def outward(message: Message) -> Message | None:
            return None if b"secret" in message.data else Message(message.kind, message.data + b" ")

        return (await forward(request)).through(outward=outward)

    judge = Judge()
    async with Sandbox() as sandbox:
        async with through(judge, sandbox.url, "realtime?model=gpt-realtime", told(layer)) as client:
            assert (await client.receive_str()).startswith('{"type":"session.created"')
            await client.send_json(item("flag", event_id="secret"))
            await client.send_json(item("flag"))
            heard = await client.receive_str()
            assert json.loads(heard)["error"]["code"] == "content_policy_violation" and heard.endswith(" ")


async def test_a_crash_of_the_judge_ends_the_socket() -> None:
    class Broken(Judge):
        async def __call__(self, matter: Matter) -> None:
            raise ZeroDivisionError

    upstream = Upstream()
    async with talking(Broken(), upstream) as client:
        await client.send_json(item("a fox"))
        heard = await client.receive()
        assert heard.type is WSMsgType.CLOSE and heard.data == 1011
    assert not upstream.heard
