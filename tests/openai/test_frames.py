"""What a model reads of a message on a socket, and how a client hears that one was refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from proxy.api import ProxyError, Rejected, Said, refused, responded, said
from proxy.model.message import Request
from proxy.openai.operation import operation
from tests.openai.asking import LONG, ask

SPEECH = base64.b64encode(bytes(range(256)) * 40).decode()
PNG = "data:image/png;base64,iVBORw0KGgo="
TOOL = {
    "type": "function",
    "name": "look_up",
    "description": "Looks it up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
}
SCHEMA = '{"type":"object","properties":{"word":{"type":"string"}}}'
NOTHING: list[dict[str, Any]] = [
    {"type": "input_audio_buffer.commit", "event_id": "e1"},
    {"type": "input_audio_buffer.clear"},
    {"type": "output_audio_buffer.clear"},
    {"type": "input_audio_buffer.append", "audio": ""},
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 1500},
    {"type": "response.cancel", "response_id": "resp_1"},
    {"type": "response.create"},
    {"type": "response.create", "response": {"conversation": "none", "output_modalities": ["text"], "metadata": {}}},
    {"type": "session.close"},
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "id": "sess_1",
            "object": "realtime.session",
            "model": "gpt-realtime",
            "output_modalities": ["audio"],
            "modalities": ["text", "audio"],
            "include": ["item.input_audio_transcription.logprobs"],
            "voice": "marin",
            "max_output_tokens": "inf",
            "tool_choice": "auto",
            "tracing": {"workflow_name": "mine", "group_id": "g"},
            "truncation": {"type": "retention_ratio", "retention_ratio": 0.5},
            "reasoning": {"effort": "low"},
            "input_audio_format": "pcm16",
            "turn_detection": {"type": "server_vad", "eagerness": "low", "threshold": 0.5},
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"model": "whisper-1", "language": "de", "delay": "low"},
                    "turn_detection": {"type": "semantic_vad", "eagerness": "auto"},
                },
                "output": {"voice": "cedar", "speed": 1.1, "format": {"type": "audio/pcmu"}},
            },
        },
    },
]


async def told(event: Any, kind: str = "realtime") -> Said:
    return await said(json.dumps(event).encode(), kind)


def texts(one: Said) -> list[tuple[str, str, str]]:
    return [(text.path, text.text, text.role) for text in one.texts]


def unseen(one: Said) -> list[str]:
    return [str(what) for what in one.unseen]


@pytest.mark.parametrize("event", NOTHING, ids=[f"{at}-{event['type']}" for at, event in enumerate(NOTHING)])
async def test_some_messages_say_nothing(event: dict[str, Any]) -> None:
    one = await told(event)
    assert (one.texts, one.images, one.unseen) == ((), (), ())


async def test_what_is_put_into_a_conversation_is_read() -> None:
    content = [
        {"type": "input_text", "text": "a fox"},
        {"type": "input_image", "image_url": PNG, "detail": "high"},
        {"type": "input_audio", "audio": SPEECH, "transcript": "a hare"},
    ]
    item = {"id": "item_1", "type": "message", "object": "realtime.item", "role": "user", "content": content}
    one = await told({"type": "conversation.item.create", "event_id": "e7", "previous_item_id": "root", "item": item})
    assert texts(one) == [
        ("item.content[0].text", "a fox", "user"),
        ("item.content[2].transcript", "a hare", "user"),
    ]
    assert [(image.path, image.source, image.value) for image in one.images] == [
        ("item.content[1].image_url", "inline", PNG)
    ]
    assert unseen(one) == ["item.content[2].audio: speech"] and one.id == "e7"
    called = {"type": "function_call", "name": "look_up", "arguments": '{"word":"fox"}', "call_id": "c"}
    assert [text for _, text, _ in texts(await told({"type": "conversation.item.create", "item": called}))] == [
        "look_up",
        '{"word":"fox"}',
    ]
    output = {"type": "function_call_output", "call_id": "c", "output": "it is red"}
    one = await told({"type": "conversation.item.create", "item": output})
    assert texts(one) == [("item.output", "it is red", "tool")]


async def test_what_a_response_is_asked_for_is_read() -> None:
    item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "be brief"}]}
    response = {
        "instructions": "speak of foxes",
        "tools": [TOOL],
        "input": [item, {"type": "item_reference", "id": "item_1"}],
        "prompt": {"id": "pmpt_1", "variables": {"who": "ann"}},
        "conversation": "conv_1",
        "audio": {"output": {"voice": {"id": "voice_1"}}},
        "max_output_tokens": "inf",
    }
    one = await told({"type": "response.create", "response": response})
    assert texts(one) == [
        ("response.instructions", "speak of foxes", "system"),
        ("response.tools[0].name", "look_up", "system"),
        ("response.tools[0].description", "Looks it up.", "system"),
        ("response.tools[0].parameters", SCHEMA, "system"),
        ("response.input[0].content[0].text", "be brief", "system"),
        ("response.prompt.variables.who", "ann", "user"),
    ]
    # An earlier item of the session came on this very socket, and was looked at then.
    assert unseen(one) == [
        "response.prompt: a prompt, kept upstream",
        "response.conversation: a conversation, kept upstream",
    ]


async def test_what_a_session_is_told_is_read() -> None:
    session = {
        "type": "realtime",
        "instructions": "speak of foxes",
        "tools": [TOOL, {"type": "mcp", "server_label": "s", "server_url": "https://a.test/", "authorization": "x"}],
        "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe", "prompt": "expect foxes"}}},
        "input_audio_transcription": {"model": "whisper-1", "prompt": "and hares"},
        "newly": "invented",
    }
    one = await told({"type": "session.update", "session": session})
    assert [(path, text) for path, text, _ in texts(one)] == [
        ("session.instructions", "speak of foxes"),
        ("session.tools[0].name", "look_up"),
        ("session.tools[0].description", "Looks it up."),
        ("session.tools[0].parameters", SCHEMA),
        ("session.tools[1].server_label", "s"),
        ("session.audio.input.transcription.prompt", "expect foxes"),
        ("session.input_audio_transcription.prompt", "and hares"),
        ("session.newly", "invented"),
    ]
    assert unseen(one) == ["session.tools[1].server_url: tools of another server, fetched by the upstream"]


async def test_speech_can_not_be_seen_however_long() -> None:
    for audio in (SPEECH, "AAAA", "id", base64.b64encode(bytes(200_000)).decode()):
        for sort in ("input_audio_buffer.append", "session.input_audio_buffer.append", "unheard.of"):
            one = await told({"type": sort, "audio": audio})
            assert (one.texts, one.images, unseen(one)) == ((), (), ["audio: speech"])
    raw = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": LONG[23:]}]}
    assert unseen(await told({"type": "conversation.item.create", "item": raw})) == ["item.content[0].audio: speech"]


async def test_what_is_not_known_is_text() -> None:
    one = await told({"type": "unheard.of", "words": ["a", {"deep": "b"}], "event_id": {"no": "id"}, "response": "c"})
    assert [text for _, text, _ in texts(one)] == ["a", "b", "id", "c"]


BODIES: list[dict[str, Any]] = [
    {"input": "a fox"},
    {
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": PNG}],
            }
        ]
    },
    {"instructions": "be brief", "tools": [TOOL], "input": "x", "prompt": {"id": "pmpt_1"}},
    {"input": [{"type": "input_image", "image_url": "https://a.test/b.png"}], "conversation": "conv_1"},
    {"input": [{"type": "item_reference", "id": "i"}, {"type": "input_file", "file_id": "file_1"}], "text": {"x": "y"}},
    {"input": [{"type": "image_generation_call", "id": "ig", "result": LONG[23:]}], "previous_response_id": "resp_1"},
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": LONG}]}], "newly": "invented"},
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_a_response_is_asked_for_in_the_words_of_a_request(body: dict[str, Any]) -> None:
    request: Request = ask(json.dumps(body).encode(), "/v1/responses")
    asked = await operation(request)
    for envelope in (
        {"type": "response.create", "stream_id": "lane-1", "generate": False},
        {"type": "response.steer"},
        {"type": "unheard.of"},
    ):
        data = json.dumps({**envelope, **body}).encode()
        one = await said(data, "response")
        assert (one.texts, one.unseen) == (asked.texts, asked.unseen)
        assert [image._replace(start=-1) for image in one.images] == [
            image._replace(start=-1) for image in asked.images
        ]
        for image, same in zip(one.images, asked.images, strict=True):
            if same.start >= 0:
                place = data[image.start : image.start + image.length]
                assert place == json.dumps(body).encode()[same.start : same.start + same.length]
        assert one.lane == envelope.get("stream_id") and one.after == body.get("previous_response_id")


async def test_what_two_readers_could_read_differently_is_refused() -> None:
    for data in (
        b'{"type":"response.create","instructions":"a","instructions":"b"}',
        b'{"type":"session.update","session":{"instructions":"a","instru\\u0063tions":"b"}}',
        b'{"type":"response.create","x":NaN}',
        b'["response.create"]',
        b'"response.create"',
        b"\xef\xbb\xbf{}",
        b"",
        b"{",
    ):
        for kind in ("realtime", "response"):
            with pytest.raises(Rejected):
                await said(data, kind)


async def test_a_message_over_the_limit_is_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.openai.frames.LIMIT", 100)
    assert unseen(await told({"type": "response.create", "x": "y" * 100})) == ["a message: it is larger than 100 bytes"]


async def test_an_error_is_told_as_each_socket_has_it() -> None:
    error = ProxyError("No.", status=400, type="t", code="c", param="p")
    one = await told({"type": "session.update", "event_id": "e1"})
    heard = json.loads(refused(error, "realtime", one))
    assert heard.pop("event_id").startswith("event_")
    body = {"type": "t", "code": "c", "message": "No.", "param": "p"}
    assert heard == {"type": "error", "error": {**body, "event_id": "e1"}}
    assert json.loads(refused(error, "realtime"))["error"]["event_id"] is None
    assert json.loads(refused(error, "response")) == {"type": "error", "status": 400, "error": body}
    lane = await told({"type": "response.create", "stream_id": "two"}, "response")
    assert json.loads(refused(error, "response", lane))["stream_id"] == "two"
    endless = await told({"type": "response.create", "stream_id": "x" * 10_000, "event_id": 7}, "response")
    assert (endless.lane, endless.id) == (None, None)


def test_a_response_that_begins_says_its_id() -> None:
    assert responded(b'{"type":"response.created","response":{"id":"resp_1"}}') == "resp_1"
    for data in (
        b'{"type":"response.completed","response":{"id":"resp_1"}}',
        b'{"type":"x","y":"response.created","response":{"id":"resp_1"}}',
        b'{"type":"response.created","response":{"id":7}}',
        b'{"type":"response.created","response":"resp_1"}',
        b'{"type":"response.created"',
        b'["response.created"]',
    ):
        assert responded(data) is None
