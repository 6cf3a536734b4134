"""All that a model will read is there to be judged, and what is not is named."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from plugins.moderation.matter import together
from proxy.api import Request, Services, Text, operation
from proxy.testkit import Stage
from tests.openai.asking import ask

from .matters import GENERATE, RESPOND, of, read, unseen


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    async with Stage() as stage:
        yield stage.services


# --- texts


def test_the_parts_of_a_message_are_read_as_one() -> None:
    def user(path: str, text: str) -> Text:
        return Text(path, text, "user")

    parts = [user(f"messages[1].content[{at}].text", text) for at, text in enumerate(("mur", "der", " him"))]
    assert together(parts) == [user("messages[1]", "murder him"), user("messages[1]", "mur\nder\n him")]
    spaced = [user("input[0].content[0].text", "a fox "), user("input[0].content[1].text", "runs")]
    assert together(spaced) == [user("input[0]", "a fox runs")]
    apart = [
        user("messages[0].content", "a"),
        user("messages[1].content", "b"),
        user("prompt", "c"),
        user("tools[0].name", "d"),
        user("tools[0].description", "e"),
        user("input[0]", "f"),
        user("input[1]", "g"),
    ]
    assert together(apart) == apart
    framed = [user("item.content[0].text", "mur"), user("item.content[1].text", "der")]
    assert together(framed)[0] == user("item", "murder")
    within = [user("response.input[2].content[0].text", "mur"), user("response.input[2].content[1].text", "der")]
    assert together(within)[0] == user("response.input[2]", "murder")
    keyed = [user("messages[0].x", ""), user("messages[0].x", "a"), user("messages[0].y", "b")]
    assert [text.text for text in together(keyed)] == ["ab", "a\nb"]


async def test_all_texts_of_a_request_are_there(services: Services) -> None:
    body = {
        "model": "gpt",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "mur"}, {"type": "text", "text": "der"}]},
            {"role": "assistant", "content": "no"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "does it"}}],
    }
    found = await of(services, body)
    assert [(text.path, text.text, text.role) for text in found.texts] == [
        ("messages[0].content", "be brief", "system"),
        ("messages[1]", "murder", "user"),
        ("messages[1]", "mur\nder", "user"),
        ("messages[2].content", "no", "assistant"),
        ("tools[0].function.name", "f", "system"),
        ("tools[0].function.description", "does it", "system"),
    ]
    assert found.stage == "input" and not found.pictures and not found.unseen
    assert "murder" not in repr(found)
    long = "a fox " * 20_000
    assert [text.text for text in (await of(services, {"prompt": long}, GENERATE)).texts] == [long]
    assert not await read(services, Request("GET", "/v1/models", ask().headers))


# --- what is not there


async def test_what_is_elsewhere_stays_unseen(services: Services) -> None:
    body = {
        "input": [
            {"role": "user", "content": [{"type": "input_image", "image_url": "https://a.test/b.png"}]},
            {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]},
        ],
        "previous_response_id": "resp_1",
        "prompt": {"id": "pmpt_1"},
    }
    found = await of(services, body, RESPOND)
    assert not found.pictures and unseen(found) == [
        "input[0].content[0].image_url: a picture elsewhere, fetched by the upstream",
        "input[1].content[0].file_id: a file, kept upstream",
        "previous_response_id: an earlier response, kept upstream",
        "prompt: a prompt, kept upstream",
    ]
    assert unseen(await of(services, b"{" + b" " * (64 * 2**20) + b"}"))[0].startswith("the body: it is larger")


async def test_what_will_be_said_on_a_socket_is_left_to_its_messages(services: Services) -> None:
    for target in ("/v1/realtime?model=r", "/v1/responses"):
        request = ask(b"", target, None, method="GET")
        assert [one.spoken for one in (await operation(request)).unseen] == [True]
        assert not await read(services, request)
    for method, target in (("GET", "/v1/realtime?call_id=c"), ("POST", "/v1/realtime/client_secrets")):
        found = await read(services, ask(b"", target, None, method=method))
        assert unseen(found) == ["a conversation that does not pass here"]
