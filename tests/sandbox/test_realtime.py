"""Talking to the sandbox over a WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from .asking import ask
from .running import running

ANSWER = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]
Socket = aiohttp.ClientWebSocketResponse


def talk(story: Callable[[Socket], Awaitable[None]], query: str = "?model=gpt-realtime", **options: Any) -> None:
    """One conversation by a plain WebSocket."""

    async def main() -> None:
        async with running() as base_url, aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{base_url}/realtime{query}", **options) as socket:
                await story(socket)

    asyncio.run(main())


def message(text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content, **more}
    return {"type": "conversation.item.create", "item": item}


async def until(socket: Socket, last: str) -> list[dict[str, Any]]:
    found = []
    while not found or found[-1]["type"] != last:
        found.append(await socket.receive_json())
    return found


def names(events: list[dict[str, Any]]) -> list[str]:
    """The types, one for all deltas in a row."""
    kinds = [event["type"] for event in events]
    return [kind for at, kind in enumerate(kinds) if at == 0 or kind != kinds[at - 1]]


def test_the_official_client_talks_and_understands_every_event() -> None:
    pytest.importorskip("websockets", reason="the official client's realtime needs websockets")

    async def main(client: Any) -> None:
        async with client.realtime.connect(model="gpt-realtime") as connection:
            await connection.session.update(session={"type": "realtime", "instructions": "Be brief."})
            await connection.conversation.item.create(item=message("the tide is high")["item"])
            await connection.response.create()
            events = []
            async for event in connection:
                events.append(event)
                if event.type == "response.done":
                    break
        opening = ["session.created", "session.updated", "conversation.item.added", "conversation.item.done"]
        assert names([event.model_dump() for event in events]) == [*opening, *ANSWER]
        assert events[0].session.model == "gpt-realtime" and events[1].session.instructions == "Be brief."
        said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        done = events[-1].response
        assert said == done.output[0].content[0].text == "This is the sandbox. You said: the tide is high"
        assert (done.status, done.usage.input_tokens, done.usage.total_tokens) == ("completed", 4 + 3, 7 + 12)

    ask(main)


def test_answers_within_the_conversation() -> None:
    async def story(socket: Socket) -> None:
        await until(socket, "session.created")
        await socket.send_json(message("one", id="item_1"))
        added, _ = await until(socket, "conversation.item.done")
        assert (added["previous_item_id"], added["item"]["id"]) == (None, "item_1")
        await socket.send_json({"type": "response.create", "response": {"max_output_tokens": 4}})
        events = await until(socket, "response.done")
        assert names(events) == ANSWER
        assert len({event["event_id"] for event in events}) == len(events)
        response = events[-1]["response"]
        assert (response["status"], response["status_details"]["reason"]) == ("incomplete", "max_output_tokens")
        answered = response["output"][0]["id"]
        await socket.send_json({"type": "conversation.item.retrieve", "item_id": answered})
        assert (await socket.receive_json())["item"] == response["output"][0]
        await socket.send_json(message("first", id="item_0") | {"previous_item_id": "root"})
        await until(socket, "conversation.item.done")
        await socket.send_json({"type": "conversation.item.delete", "item_id": "item_1"})
        assert (await socket.receive_json())["type"] == "conversation.item.deleted"
        await socket.send_json({"type": "response.create"})
        text = (await until(socket, "response.done"))[-1]["response"]["output"][0]["content"][0]["text"]
        assert text.endswith("You said: first")

    talk(story)


def test_answers_outside_of_the_conversation() -> None:
    async def story(socket: Socket) -> None:
        await until(socket, "session.created")
        wanted = {"conversation": "none", "input": [message("aside")["item"]]}
        await socket.send_json({"type": "response.create", "response": wanted})
        events = await until(socket, "response.done")
        assert "conversation.item.added" not in names(events)
        response = events[-1]["response"]
        assert response["conversation_id"] is None
        assert response["output"][0]["content"][0]["text"].endswith("You said: aside")
        await socket.send_json({"type": "conversation.item.retrieve", "item_id": response["output"][0]["id"]})
        assert (await socket.receive_json())["error"]["code"] == "item_retrieve_invalid_item_id"

    talk(story)


WRONG: list[tuple[Any, str | None, str | None]] = [
    ("{", None, "invalid_json"),
    ("[]", None, "invalid_event"),
    ({"event_id": "mine"}, "type", "missing_required_parameter"),
    ({"type": "poem", "event_id": "mine"}, "type", "invalid_value"),
    ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "type", "unsupported"),
    ({"type": "response.cancel"}, None, "response_cancel_not_active"),
    ({"type": "session.update"}, "session", "missing_required_parameter"),
    ({"type": "session.update", "session": {}}, "session.type", "missing_required_parameter"),
    (
        {"type": "session.update", "session": {"type": "realtime", "colour": 1}},
        "session.colour",
        "unknown_parameter",
    ),
    (
        {"type": "session.update", "session": {"type": "realtime", "model": "gpt-5"}},
        "session.model",
        "cannot_update_model",
    ),
    (
        {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["audio"]}},
        "session.output_modalities",
        "unsupported_value",
    ),
    ({"type": "conversation.item.create"}, "item", "missing_required_parameter"),
    ({"type": "conversation.item.create", "item": {"type": "mcp_call"}}, "item.type", "invalid_value"),
    (
        message("x") | {"previous_item_id": "item_9"},
        "previous_item_id",
        "item_create_invalid_previous_item_id",
    ),
    (
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [{"type": "a"}]}},
        "item.content[0].type",
        "invalid_value",
    ),
    ({"type": "conversation.item.delete", "item_id": "item_9"}, "item_id", "item_delete_invalid_item_id"),
    ({"type": "response.create", "response": 7}, "response", "invalid_type"),
    ({"type": "response.create", "response": {"colour": 1}}, "response.colour", "unknown_parameter"),
]


def test_says_what_was_wrong_and_goes_on() -> None:
    async def story(socket: Socket) -> None:
        await until(socket, "session.created")
        found = []
        for sent, _, _ in WRONG:
            await (socket.send_str(sent) if isinstance(sent, str) else socket.send_json(sent))
            answer = await socket.receive_json()
            assert answer["type"] == "error" and answer["error"]["type"] == "invalid_request_error"
            assert answer["error"]["event_id"] == (sent.get("event_id") if isinstance(sent, dict) else None)
            found.append((answer["error"]["param"], answer["error"]["code"]))
        assert found == [(param, code) for _, param, code in WRONG]
        await socket.send_bytes(b'{"type": "session.update", "session": {"type": "realtime"}}')
        assert (await socket.receive_json())["type"] == "session.updated"

    talk(story)


@pytest.mark.parametrize(("query", "code"), [("", "missing_model"), ("?model=gpt-5", "model_not_found")])
def test_hangs_up_on_who_names_no_model_of_its(query: str, code: str) -> None:
    async def story(socket: Socket) -> None:
        assert (await socket.receive_json())["error"]["code"] == code
        assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4000

    talk(story, query)


def test_takes_a_browsers_key_and_does_not_echo_it() -> None:
    async def story(socket: Socket) -> None:
        await until(socket, "session.created")
        assert socket.protocol == "realtime"
        assert socket._response.headers.getall("Sec-WebSocket-Protocol") == ["realtime"]

    talk(story, protocols=("openai-insecure-api-key.hush", "realtime"))


@pytest.mark.parametrize("headers", [{}, {"Sec-WebSocket-Protocol": "openai-insecure-api-key.hush"}])
def test_refuses_who_does_not_speak_its_protocol(headers: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> tuple[int, Any]:
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", **headers} if headers else {}
        async with running() as base_url, aiohttp.ClientSession() as session:
            async with session.get(f"{base_url}/realtime?model=gpt-realtime", headers=upgrade) as response:
                return response.status, await response.json()

    caplog.set_level(logging.DEBUG)
    status, answer = asyncio.run(main())
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert "hush" not in caplog.text and "hush" not in str(answer)


def test_a_sandbox_that_stops_hangs_up_at_once() -> None:
    async def main() -> tuple[aiohttp.WSMsgType, int]:
        async with aiohttp.ClientSession() as session:
            async with running() as base_url:
                socket = await session.ws_connect(f"{base_url}/realtime?model=gpt-realtime")
                await until(socket, "session.created")
            goodbye = await socket.receive()
            await socket.close()
            return goodbye.type, goodbye.data

    assert asyncio.run(main()) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.GOING_AWAY)
