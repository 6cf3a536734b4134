"""The sandbox's Responses API: words, pictures, tools, and the next turn."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response
from PIL import Image, ImageChops
from pydantic import BaseModel

from proxy.sandbox import stored

from .asking import ask, data_url, encoded, refusals

PATH = "/responses"
MODEL = "gpt-5.5"
RED = Image.new("RGB", (64, 64), (255, 0, 0))
DRAW: Any = {"type": "image_generation", "size": "128x128", "quality": "low"}
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def said(wanted: Any = "Tell a story", **more: Any) -> Response:
    return ask(lambda client: client.responses.create(**{"model": MODEL, "input": wanted, **more}))


def drawn(response: Response) -> Any:
    found = [item for item in response.output if item.type == "image_generation_call"]
    return found[0] if found else None


def opened(result: str | None) -> Image.Image:
    assert result is not None
    image = Image.open(io.BytesIO(base64.b64decode(result, validate=True)))
    image.load()
    return image


def red(image: Image.Image) -> int:
    """How many pixels are as red as the picture that was shown."""
    data = image.convert("RGB").tobytes()
    return sum(data[at : at + 3] == b"\xff\x00\x00" for at in range(0, len(data), 3))


def test_the_readme_example() -> None:
    question = "How do I check if a Python object is an instance of a class?"
    answer = said(question, instructions="You are a coding assistant that talks like a pirate.")
    assert answer.output_text == f"This is the sandbox. You said: {question}"
    assert answer.status == "completed" and answer.completed_at is not None and answer.incomplete_details is None
    assert answer.instructions == "You are a coding assistant that talks like a pirate."
    assert answer.tool_usage is None
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (28, 23, 51)


def test_looks_at_pictures_in_the_request_and_uploaded() -> None:
    async def main(client: AsyncOpenAI) -> str:
        file = await client.files.create(file=("red.png", encoded(RED)), purpose="vision")
        parts: Any = [
            {"type": "input_text", "text": "What is in this?"},
            {"type": "input_image", "image_url": data_url(RED, "JPEG"), "detail": "low"},
            {"type": "input_image", "file_id": file.id, "detail": "auto"},
        ]
        return (await client.responses.create(model=MODEL, input=[{"role": "user", "content": parts}])).output_text

    assert ask(main).endswith("What is in this? [image 64x64 jpeg] [image 64x64 png]")


def test_a_stream_of_words_has_every_event_in_order() -> None:
    async def main(client: AsyncOpenAI) -> list[Any]:
        stream = await client.responses.create(model=MODEL, input="Tell a story", stream=True)
        return [event async for event in stream]

    events = ask(main)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    names = [event.type.removeprefix("response.") for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert names == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * len(deltas),
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert len(deltas) > 2 and "".join(deltas) == events[-1].response.output_text
    assert events[0].response.output == [] and events[0].response.usage is None
    assert events[-1].response.usage is not None


def test_the_image_tool_draws_what_it_is_asked_to() -> None:
    answer = said("Draw a fox", tools=[{**DRAW, "size": "256x128", "output_format": "webp", "background": "opaque"}])
    item = drawn(answer)
    picture = opened(item.result)
    assert (picture.format, picture.size) == ("WEBP", (256, 128))
    assert (item.status, item.size, item.output_format, item.quality) == ("completed", "256x128", "webp", "low")
    assert (item.background, item.revised_prompt, item.action, item.error) == ("opaque", "Draw a fox", "generate", None)
    assert [one.type for one in answer.output] == ["image_generation_call", "message"]
    assert answer.output_text == "Here is the picture."
    assert answer.usage is not None and answer.usage.output_tokens < 10
    assert answer.tool_usage is not None
    spent = answer.tool_usage.image_gen
    assert spent.total_tokens == spent.input_tokens + spent.output_tokens
    assert spent.input_tokens_details.image_tokens == 0 < spent.output_tokens


@pytest.mark.parametrize(
    ("words", "more", "draws"),
    [
        ("Draw a fox", {}, True),
        ("paint it", {}, True),
        ("make me a Picture of it", {}, True),
        ("withdraw the claim", {}, False),
        ("hello", {}, False),
        ("hello", {"tool_choice": {"type": "image_generation"}}, True),
        ("hello", {"tool_choice": "required"}, True),
        ("hello", {"tool_choice": "required", "tools": [WEATHER, DRAW]}, False),
        ("Draw a fox", {"tool_choice": "none"}, False),
        ("Draw a fox", {"tool_choice": {"type": "function", "name": "get_weather"}, "tools": [WEATHER, DRAW]}, False),
        ("hello", {"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [DRAW]}}, True),
        ("Draw a fox", {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, False),
        ("Draw a fox", {"tools": []}, False),
    ],
)
def test_takes_to_the_image_tool_when_it_must_or_the_words_ask(words: str, more: dict[str, Any], draws: bool) -> None:
    answer = said(words, **{"tools": [DRAW], **more})
    assert (drawn(answer) is not None) is draws


def test_a_stream_of_a_picture_has_every_event_in_order() -> None:
    async def main(client: AsyncOpenAI) -> list[Any]:
        tool: Any = {**DRAW, "partial_images": 3}
        stream = await client.responses.create(model=MODEL, input="Draw a fox", tools=[tool], stream=True)
        return [event async for event in stream]

    events = ask(main)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    names = [event.type.removeprefix("response.") for event in events]
    assert names[:10] == [
        "created",
        "in_progress",
        "output_item.added",
        "image_generation_call.in_progress",
        "image_generation_call.generating",
        *["image_generation_call.partial_image"] * 3,
        "image_generation_call.completed",
        "output_item.done",
    ]
    assert names[10:12] == ["output_item.added", "content_part.added"]
    assert names[-3:] == ["content_part.done", "output_item.done", "completed"]
    partials = [event for event in events if event.type == "response.image_generation_call.partial_image"]
    assert [event.partial_image_index for event in partials] == [0, 1, 2]
    shown = [event.partial_image_b64 for event in partials]
    assert {opened(one).size for one in shown} == {(128, 128)} and partials[0].size == "128x128"
    begun, done, last = events[2].item, events[9].item, events[-1].response.output[0]
    assert (begun.status, begun.result) == ("in_progress", None)
    assert done.result == last.result and begun.id == done.id
    assert len({*shown, done.result}) == 4
    spent = events[-1].response.tool_usage.image_gen.output_tokens
    assert spent == drawn_tokens() + 3 * 100


def drawn_tokens() -> int:
    usage = said("Draw a fox", tools=[{**DRAW, "partial_images": 3}]).tool_usage
    assert usage is not None
    return usage.image_gen.output_tokens


@pytest.mark.parametrize("way", ["previous_response_id", "id", "result", "item_reference"])
def test_the_next_turn_changes_the_picture_of_the_last(way: str) -> None:
    async def main(client: AsyncOpenAI) -> tuple[Response, Response, Response]:
        first = await client.responses.create(model=MODEL, input="Draw a fox", tools=[DRAW])
        item = drawn(first)
        if way == "previous_response_id":
            more: Any = {"previous_response_id": first.id, "input": "Now make it look realistic"}
        else:
            sent = {
                "id": {"type": "image_generation_call", "id": item.id},
                "result": item.model_dump(),
                "item_reference": {"type": "item_reference", "id": item.id},
            }[way]
            more = {"input": [{"role": "user", "content": "Now make it look realistic"}, sent]}
        second = await client.responses.create(model=MODEL, tools=[DRAW], **more)
        alone = await client.responses.create(model=MODEL, tools=[DRAW], input="Draw: Now make it look realistic")
        return first, second, alone

    first, second, alone = ask(main)
    assert (drawn(first).action, drawn(second).action) == ("generate", "edit")
    assert drawn(second).revised_prompt == "Now make it look realistic"
    assert second.tool_usage is not None and second.tool_usage.image_gen.input_tokens_details.image_tokens == 16
    # Where the earlier picture hangs, one drawn alone has the bare gate.
    upper = (0, 0, 128, 64)
    hung, bare = (opened(drawn(one).result).convert("RGB").crop(upper) for one in (second, alone))
    assert ImageChops.difference(hung, bare).getbbox() is not None


def test_an_edit_shows_the_picture_that_was_shown_to_it() -> None:
    parts: Any = [
        {"type": "input_text", "text": "a hat in this picture"},
        {"type": "input_image", "image_url": data_url(RED), "detail": "auto"},
    ]
    item = drawn(said([{"role": "user", "content": parts}], tools=[DRAW]))
    assert item.action == "edit" and red(opened(item.result)) > 500
    fresh = drawn(said([{"role": "user", "content": parts}], tools=[{**DRAW, "action": "generate"}]))
    assert fresh.action == "generate" and red(opened(fresh.result)) == 0


def test_a_mask_shows_what_it_leaves_open() -> None:
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (32, 0, 64, 64))
    plain = opened(drawn(said("Draw a fox", tools=[DRAW])).result).convert("RGB")
    tool = {**DRAW, "input_image_mask": {"image_url": data_url(mask)}}
    tinted = opened(drawn(said("Draw a fox", tools=[tool])).result).convert("RGB")
    changed = ImageChops.difference(plain, tinted).getbbox()
    assert changed is not None and 56 <= changed[0] <= 72 and changed[2] == 128


@pytest.mark.parametrize("stream", [False, True])
def test_a_picture_that_is_rotten_inside_is_refused_before_the_first_event(stream: bool) -> None:
    head, _, data = data_url(Image.effect_noise((96, 96), 90)).partition(",")
    parts = [{"type": "input_image", "image_url": f"{head},{data[: len(data) // 2 // 4 * 4]}"}]
    message = {"role": "user", "content": [{"type": "input_text", "text": "a picture"}, *parts]}
    body = {"model": MODEL, "input": [message], "tools": [DRAW], "stream": stream}
    assert refusals(PATH, [body]) == [(400, "input", "invalid_value")]


def test_calls_the_function_that_is_forced_and_hears_its_answer() -> None:
    async def main(client: AsyncOpenAI) -> None:
        wanted: Any = {"model": MODEL, "tools": [WEATHER]}
        first = await client.responses.create(input="Oslo", tool_choice="required", **wanted)
        (call,) = first.output
        assert call.type == "function_call" and json.loads(call.arguments) == {"city": "Oslo"}
        output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "It rains."}]
        second = await client.responses.create(input=output, previous_response_id=first.id, **wanted)
        assert second.output_text == "This is the sandbox. The tool said: It rains."
        stream = client.responses.stream(input="Oslo", tool_choice="required", **wanted)
        async with stream as events:
            names = [event.type async for event in events]
            final = await events.get_final_response()
        assert "response.function_call_arguments.delta" in names
        assert final.output[0].type == "function_call" and final.output[0].parsed_arguments == {"city": "Oslo"}

    ask(main)


def test_a_custom_tool_takes_plain_text() -> None:
    async def main(client: AsyncOpenAI) -> tuple[Response, list[str]]:
        tool: Any = {"type": "custom", "name": "shell"}
        wanted: Any = {"model": MODEL, "input": "ls -l", "tools": [tool], "tool_choice": tool}
        stream = await client.responses.create(stream=True, **wanted)
        return await client.responses.create(**wanted), [event.type async for event in stream]

    answer, names = ask(main)
    (call,) = answer.output
    assert call.type == "custom_tool_call" and (call.name, call.input) == ("shell", "ls -l")
    assert "response.custom_tool_call_input.done" in names


class Event(BaseModel):
    name: str
    participants: list[str]


def test_answers_in_the_shape_that_was_asked_for() -> None:
    async def main(client: AsyncOpenAI) -> tuple[Event | None, Event | None]:
        wanted: Any = {"model": MODEL, "input": "Alice and Bob go to a fair", "text_format": Event}
        whole = await client.responses.parse(**wanted)
        async with client.responses.stream(**wanted) as stream:
            streamed = await stream.get_final_response()
        return whole.output_parsed, streamed.output_parsed

    whole, streamed = ask(main)
    assert whole == streamed == Event(name="Alice and Bob go to a fair", participants=["Alice and Bob go to a fair"])
    loose = said("How much? In JSON.", text={"format": {"type": "json_object"}, "verbosity": "low"})
    assert json.loads(loose.output_text)["message"].endswith("How much? In JSON.")
    assert loose.text is not None and loose.text.verbosity == "low"


def test_ends_where_it_is_told() -> None:
    async def main(client: AsyncOpenAI) -> tuple[Response, str]:
        wanted: Any = {"model": MODEL, "input": "a story " * 20, "max_output_tokens": 16}
        events = [event async for event in await client.responses.create(stream=True, **wanted)]
        return await client.responses.create(**wanted), events[-1].type

    answer, last = ask(main)
    assert (answer.status, len(answer.output_text), last) == ("incomplete", 64, "response.incomplete")
    assert answer.incomplete_details is not None and answer.incomplete_details.reason == "max_output_tokens"


def test_an_answer_is_remembered_listed_and_forgotten() -> None:
    async def main(client: AsyncOpenAI) -> None:
        first = await client.responses.create(model=MODEL, input="one")
        parts: Any = [{"type": "input_image", "image_url": data_url(RED), "detail": "auto"}]
        message: Any = {"role": "user", "content": parts}
        second = await client.responses.create(model=MODEL, input=[message], previous_response_id=first.id)
        assert await client.responses.retrieve(second.id) == second
        assert second.previous_response_id == first.id
        assert first.usage is not None and second.usage is not None
        assert second.usage.input_tokens == first.usage.total_tokens + 4
        items: Any = [item async for item in client.responses.input_items.list(second.id, order="asc", limit=1)]
        assert [item.role for item in items] == ["user", "assistant", "user"]
        assert items[2].content[0].image_url is None
        shown: Any = await client.responses.input_items.list(second.id, include=["message.input_image.image_url"])
        assert shown.data[0].content[0].image_url == data_url(RED)
        with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
            await client.responses.cancel(second.id)
        await client.responses.delete(second.id)
        for call in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                await call(second.id)

    ask(main)


def test_what_is_not_stored_can_not_be_named() -> None:
    async def main(client: AsyncOpenAI) -> None:
        answer = await client.responses.create(model=MODEL, input="Draw a fox", tools=[DRAW], store=False)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(answer.id)
        with pytest.raises(openai.BadRequestError) as previous:
            await client.responses.create(model=MODEL, input="more", previous_response_id=answer.id)
        assert previous.value.code == "previous_response_not_found"
        item: Any = {"type": "image_generation_call", "id": drawn(answer).id}
        with pytest.raises(openai.NotFoundError, match="Items are not persisted when `store` is set to false"):
            await client.responses.create(model=MODEL, input=[item, {"role": "user", "content": "more"}])

    ask(main)


def test_forgets_the_oldest_answers_when_they_weigh_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_MOST_IN_RESPONSES", 10_000)

    async def main(client: AsyncOpenAI) -> list[bool]:
        ids = [(await client.responses.create(model=MODEL, input="x" * 1000)).id for _ in range(6)]
        found = []
        for name in ids:
            try:
                found.append((await client.responses.retrieve(name)).id == name)
            except openai.NotFoundError:
                found.append(False)
        return found

    found = ask(main)
    assert found == sorted(found) and not found[0] and found[-1]


def test_says_what_it_thinks_of_a_turn_when_asked() -> None:
    answer = said("flag:violence", moderation={"model": "omni-moderation-latest"})
    assert answer.moderation is not None and answer.moderation.input.type == "moderation_result"
    assert answer.moderation.input.flagged and answer.moderation.input.categories["violence"]
    assert said("flag:violence").moderation is None
