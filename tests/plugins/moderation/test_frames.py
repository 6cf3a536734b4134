"""What a client says on a socket is judged frame by frame: a marked one is not heard upstream, and the talk goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import ClientWebSocketResponse, web

from tests.wire.sockets import upstream

from .house import ANN, Moderating, moderating
from .pictures import picture, url

pytestmark = pytest.mark.asyncio(loop_scope="module")
BAD = "flag:violence."
MARKED = url(picture("PNG", "violence"))
FINE = {"type": "session.update", "session": {"instructions": "be kind"}}
REALTIME, RESPONSES = "/v1/realtime?model=gpt-realtime", "/v1/responses"


def said(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    """A turn of a talk."""
    return {"type": "conversation.item.create", "item": {"type": "message", "role": role, "content": list(parts)}}


JUDGED: dict[str, tuple[str, str | dict[str, Any]]] = {
    "a turn": (REALTIME, said({"type": "input_text", "text": BAD})),
    "the last part of a turn": (
        REALTIME,
        said({"type": "input_text", "text": "a"}, {"type": "input_text", "text": BAD}),
    ),
    "a word in two parts": (
        REALTIME,
        said({"type": "input_text", "text": "flag:vio"}, {"type": "input_text", "text": "lence."}),
    ),
    "a turn in the model's name": (REALTIME, said({"type": "output_text", "text": BAD}, role="assistant")),
    "a system's turn": (REALTIME, said({"type": "input_text", "text": BAD}, role="system")),
    "a tool's answer": (
        REALTIME,
        {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": BAD}},
    ),
    "a picture": (REALTIME, said({"type": "input_image", "image_url": MARKED})),
    "the session's instructions": (REALTIME, {"type": "session.update", "session": {"instructions": BAD}}),
    "a session's tool": (
        REALTIME,
        {"type": "session.update", "session": {"tools": [{"type": "function", "name": "f", "description": BAD}]}},
    ),
    "an answer's instructions": (REALTIME, {"type": "response.create", "response": {"instructions": BAD}}),
    "an answer's input": (
        REALTIME,
        {
            "type": "response.create",
            "response": {"input": [{"role": "user", "content": [{"type": "input_text", "text": BAD}]}]},
        },
    ),
    "an event that nobody knows yet": (REALTIME, {"type": "thought.create", "thought": {"words": BAD}}),
    "in escapes": (REALTIME, '{"type":"response.create","response":{"instructions":"\\u0066lag:violence."}}'),
    "a response": (RESPONSES, {"type": "response.create", "model": "m", "input": BAD}),
    "a response's instructions": (RESPONSES, {"type": "response.create", "input": "a", "instructions": BAD}),
    "a response's picture": (
        RESPONSES,
        {
            "type": "response.create",
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": MARKED}]}],
        },
    ),
}
REFUSED: dict[str, tuple[str, str | bytes | dict[str, Any]]] = {
    "a key given twice": (REALTIME, '{"type":"session.update","session":{"a":"x"},"session":{"instructions":"y"}}'),
    "a key given twice, once in escapes": (REALTIME, '{"type":"session.update","type":"x","t\\u0079pe":"y"}'),
    "what is no JSON": (REALTIME, "hello"),
    "an array": (REALTIME, '[{"type":"session.update"}]'),
    "no number": (REALTIME, '{"type":"session.update","session":{"a":NaN}}'),
    "bytes": (REALTIME, b'{"type":"session.update","session":{"instructions":"flag:violence."}}'),
    "speech": (REALTIME, {"type": "input_audio_buffer.append", "audio": "UklG"}),
    "speech in a turn": (REALTIME, said({"type": "input_audio", "audio": "UklG"})),
    "a stored prompt": (REALTIME, {"type": "session.update", "session": {"prompt": {"id": "pmpt_1"}}}),
    "a picture elsewhere": (REALTIME, said({"type": "input_image", "image_url": "https://example.com/a.png"})),
    "an earlier response": (RESPONSES, {"type": "response.create", "input": "a", "previous_response_id": "resp_1"}),
}


class Heard:
    """What the upstream has heard on its sockets."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Any] = asyncio.Queue()

    async def answer(self, request: web.Request) -> web.WebSocketResponse:
        """Takes down what comes."""
        end = web.WebSocketResponse()
        await end.prepare(request)
        async for message in end:
            self.frames.put_nowait(message.data)
        return end


class Talks:
    """Houses with other settings before one upstream, and a client of them."""

    def __init__(self, heard: Heard, houses: Mapping[str, Moderating], client: aiohttp.ClientSession) -> None:
        self._heard, self._houses, self._client = heard, houses, client

    @asynccontextmanager
    async def talking(self, target: str, settings: str = "") -> AsyncIterator[tuple[Heard, ClientWebSocketResponse]]:
        """A socket of its own."""
        async with self._client.ws_connect(self._houses[settings].served.url + target) as socket:
            yield self._heard, socket
        assert self._heard.frames.empty()


PARALLEL, LENIENT = 'timing = "parallel"', 'on_unseen = "allow"'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def talks() -> AsyncIterator[Talks]:
    heard = Heard()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(upstream(heard.answer))
        houses = {
            settings: await stack.enter_async_context(moderating(settings, url=url))
            for settings in ("", PARALLEL, LENIENT)
        }
        headers = {"Authorization": f"Bearer {ANN}"}
        yield Talks(heard, houses, await stack.enter_async_context(aiohttp.ClientSession(headers=headers)))


async def sent(socket: ClientWebSocketResponse, frame: str | bytes | dict[str, Any]) -> dict[str, Any]:
    """Say it, and what is answered at once."""
    if isinstance(frame, bytes):
        await socket.send_bytes(frame)
    else:
        await socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))
    answer: dict[str, Any] = await socket.receive_json(timeout=10)
    return answer


async def only_the_fine_one(heard: Heard, socket: ClientWebSocketResponse) -> bool:
    """Whether the talk goes on, and upstream has heard nothing before."""
    await socket.send_json(FINE)
    return json.loads(await heard.frames.get()) == FINE and heard.frames.empty()


@pytest.mark.parametrize("settings", ["", PARALLEL], ids=["before", "parallel"])
@pytest.mark.parametrize(("target", "frame"), JUDGED.values(), ids=JUDGED)
async def test_a_marked_frame_is_dropped_and_the_talk_goes_on(
    talks: Talks, target: str, frame: str | dict[str, Any], settings: str
) -> None:
    async with talks.talking(target, settings) as (heard, socket):
        said = await sent(socket, frame)
        assert said["type"] == "error"
        assert said["error"]["code"] == "content_policy_violation"
        assert said["error"]["moderation_details"] == {"moderation_stage": "input", "categories": ["violence"]}
        assert await only_the_fine_one(heard, socket)


@pytest.mark.parametrize(("target", "frame"), REFUSED.values(), ids=REFUSED)
async def test_a_frame_that_cant_be_read_is_dropped(
    talks: Talks, target: str, frame: str | bytes | dict[str, Any]
) -> None:
    async with talks.talking(target) as (heard, socket):
        said = await sent(socket, frame)
        assert said["type"] == "error" and said["error"]["type"] == "invalid_request_error"
        assert said["error"]["code"] != "content_policy_violation"
        assert await only_the_fine_one(heard, socket)


async def test_frames_arrive_to_the_byte_and_in_order(talks: Talks) -> None:
    async with talks.talking(REALTIME) as (heard, socket):
        frames = [json.dumps(said({"type": "input_text", "text": f"fox {n}"}), indent=n % 3) for n in range(12)]
        for frame in frames:
            await socket.send_str(frame)
        assert [await heard.frames.get() for _ in frames] == frames


async def test_what_is_allowed_unseen_goes_on(talks: Talks) -> None:
    async with talks.talking(REALTIME, LENIENT) as (heard, socket):
        for frame in (REFUSED["speech"][1], REFUSED["a stored prompt"][1]):
            await socket.send_json(frame)
            assert json.loads(await heard.frames.get()) == frame
