"""The sandbox's chat, as the official client and as a careless caller see it."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion
from PIL import Image
from pydantic import BaseModel

from .asking import ask, data_url, post_all, refusals

PATH = "/chat/completions"
MODEL = "gpt-5-mini"
PICTURE = data_url(Image.new("RGB", (64, 48), "teal"), "WEBP")
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather somewhere",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
FORCED: Any = {"type": "function", "function": {"name": "get_weather"}}


def said(content: Any = "Say this is a test", **more: Any) -> ChatCompletion:
    messages: Any = [{"role": "user", "content": content}]
    return ask(lambda client: client.chat.completions.create(**{"model": MODEL, "messages": messages, **more}))


def content(answer: ChatCompletion) -> str:
    return answer.choices[0].message.content or ""


def test_the_readme_example() -> None:
    async def main(client: AsyncOpenAI) -> ChatCompletion:
        return await client.chat.completions.create(
            model="gpt-5.5",
            messages=[
                {"role": "developer", "content": "Talk like a pirate."},
                {"role": "user", "content": "How do I check if a Python object is an instance of a class?"},
            ],
        )

    answer = ask(main)
    assert content(answer).endswith("How do I check if a Python object is an instance of a class?")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.prompt_tokens == 5 + 15


def test_looks_at_pictures() -> None:
    answer = said([{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": PICTURE}}])
    assert content(answer).endswith("what is this? [image 64x48 webp]")
    assert answer.usage is not None and answer.usage.prompt_tokens > 2 * 2


def test_gives_several_answers() -> None:
    answer = said(n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3


@pytest.mark.parametrize(
    ("wanted", "end", "finish"),
    [
        ({"max_completion_tokens": 4}, "This is the sand", "length"),
        ({"max_tokens": 4}, "This is the sand", "length"),
        ({"max_completion_tokens": 4000}, "Say this is a test", "stop"),
        ({"stop": " said"}, "You", "stop"),
        ({"stop": ["test", "this"]}, "Say ", "stop"),
        ({"stop": "absent"}, "Say this is a test", "stop"),
    ],
)
def test_ends_where_it_is_told(wanted: dict[str, Any], end: str, finish: str) -> None:
    answer = said(**wanted)
    assert content(answer).endswith(end)
    assert answer.choices[0].finish_reason == finish


def test_a_stream_holds_each_answer_and_the_same_words() -> None:
    async def main(client: AsyncOpenAI) -> list[str | None]:
        wanted: Any = {"model": MODEL, "messages": [{"role": "user", "content": "one two three four"}], "n": 2}
        whole = await client.chat.completions.create(**wanted)
        async with client.chat.completions.stream(**wanted, stream_options={"include_usage": True}) as stream:
            final = await stream.get_final_completion()
        assert final.usage == whole.usage
        return [choice.message.content for answer in (whole, final) for choice in answer.choices]

    one, two, *streamed = ask(main)
    assert streamed == [one, two] and one != two


def test_calls_the_tool_that_is_forced_and_hears_its_answer() -> None:
    async def main(client: AsyncOpenAI) -> None:
        messages: list[Any] = [{"role": "user", "content": "Weather in Oslo?"}]
        wanted: Any = {"model": MODEL, "tools": [WEATHER]}
        answer = await client.chat.completions.create(messages=messages, tool_choice=FORCED, **wanted)
        message = answer.choices[0].message
        (call,) = message.tool_calls or []
        assert call.type == "function" and call.function.name == "get_weather"
        assert json.loads(call.function.arguments) == {"city": "Weather in Oslo?", "unit": "celsius"}
        assert (message.content, answer.choices[0].finish_reason) == (None, "stop")
        messages += [message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "It rains."}]
        answer = await client.chat.completions.create(messages=messages, **wanted)
        assert content(answer) == "This is the sandbox. The tool said: It rains."

    ask(main)


def test_takes_to_no_tool_unless_it_must() -> None:
    assert said(tools=[WEATHER]).choices[0].message.tool_calls is None
    assert said(tools=[WEATHER], tool_choice="none").choices[0].message.tool_calls is None
    must = said(tools=[WEATHER], tool_choice="required").choices[0]
    assert (must.finish_reason, len(must.message.tool_calls or [])) == ("tool_calls", 1)
    allowed: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [FORCED]}}
    assert said(tools=[WEATHER], tool_choice=allowed).choices[0].message.tool_calls


def test_a_custom_tool_takes_plain_text() -> None:
    tool: Any = {"type": "custom", "custom": {"name": "shell"}}
    (call,) = said("ls", tools=[tool], tool_choice=tool).choices[0].message.tool_calls or []
    assert call.type == "custom" and (call.custom.name, call.custom.input) == ("shell", "ls")


def test_a_streamed_call_is_put_together_by_the_client() -> None:
    async def main(client: AsyncOpenAI) -> Any:
        messages: Any = [{"role": "user", "content": "Oslo"}]
        stream = client.chat.completions.stream(model=MODEL, messages=messages, tools=[WEATHER], tool_choice="required")
        async with stream as events:
            return (await events.get_final_completion()).choices[0]

    choice = ask(main)
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.parsed_arguments == {"city": "Oslo", "unit": "celsius"}


class Step(BaseModel):
    explanation: str
    output: float
    next: Step | None


class Solution(BaseModel):
    steps: list[Step]
    done: bool


def test_answers_in_the_shape_that_was_asked_for() -> None:
    async def main(client: AsyncOpenAI) -> Solution | None:
        answer = await client.chat.completions.parse(
            model=MODEL, messages=[{"role": "user", "content": "solve 8x = 2"}], response_format=Solution
        )
        return answer.choices[0].message.parsed

    solution = ask(main)
    assert solution is not None
    assert solution.steps[0].explanation == "solve 8x = 2"
    assert json.loads(content(said("some JSON please", response_format={"type": "json_object"})))["message"]


def test_says_what_it_thinks_of_a_conversation_when_asked() -> None:
    answer = said("flag:violence", moderation={"model": "omni-moderation-latest"})
    assert answer.moderation is not None
    assert answer.moderation.input.type == answer.moderation.output.type == "moderation_results"
    assert answer.moderation.input.results[0].categories["violence"]
    # Not asked, it answers and says nothing of it, as OpenAI's does.
    assert said("flag:violence").moderation is None


def test_a_file_of_before_can_be_named() -> None:
    async def main(client: AsyncOpenAI) -> str:
        file = await client.files.create(file=("plan.pdf", b"%PDF"), purpose="user_data")
        parts: Any = [{"type": "file", "file": {"file_id": file.id}}, {"type": "text", "text": "sum it up"}]
        answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
        await client.files.delete(file.id)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
        return content(answer)

    assert ask(main).endswith("[file plan.pdf] sum it up")


def one(part: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


def picture(url: str) -> dict[str, Any]:
    return one({"type": "image_url", "image_url": {"url": url}})


TOOL = {"role": "tool", "tool_call_id": "call_1", "content": "x"}
PART = "messages[0].content[0]"
URL = f"{PART}.image_url.url"
# A change to a request that is right, and what is said to it.
REFUSED: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({"colour": 1}, "colour", "unknown_parameter"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"temperature": 3}, "temperature", "decimal_above_max_value"),
    ({"top_p": -1}, "top_p", "decimal_below_min_value"),
    ({"n": 0}, "n", "integer_below_min_value"),
    ({"n": 2.5}, "n", "invalid_type"),
    ({"n": True}, "n", "invalid_type"),
    ({"max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
    ({"stop": 7}, "stop", "invalid_type"),
    ({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
    ({"stop": [7]}, "stop[0]", "invalid_type"),
    ({"stream_options": {"include_usage": True}}, "stream_options", None),
    ({"stream": True, "stream_options": {"more": 1}}, "stream_options.more", "unknown_parameter"),
    ({"logprobs": True}, "logprobs", "unsupported_parameter"),
    ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
    ({"audio": {}}, "audio", "unsupported_parameter"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "json_object"}}, "messages", None),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "response_format.json_schema.name",
        "missing_required_parameter",
    ),
    ({"tool_choice": "required"}, "tool_choice", None),
    ({"tools": [WEATHER], "tool_choice": "always"}, "tool_choice", "invalid_value"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", None),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function"}},
        "tool_choice.function.name",
        "missing_required_parameter",
    ),
    ({"tools": ["x"]}, "tools[0]", "invalid_type"),
    ({"tools": [{"type": "image_generation"}]}, "tools[0].type", "invalid_value"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "empty_array"),
    ({"messages": [{"role": "user", "content": "x", "mood": "good"}]}, "messages[0].mood", "unknown_parameter"),
    ({"messages": [TOOL]}, "messages[0].role", None),
    (one("x"), PART, "invalid_type"),
    (one({"text": "x"}), f"{PART}.type", "missing_required_parameter"),
    (one({"type": "input_text", "text": "x"}), f"{PART}.type", "invalid_value"),
    (one({"type": "input_audio", "input_audio": {}}), f"{PART}.type", "invalid_value"),
    (one({"type": "image_url", "image_url": PICTURE}), f"{PART}.image_url", "invalid_type"),
    (
        one({"type": "image_url", "image_url": {"url": PICTURE, "detail": "some"}}),
        f"{PART}.image_url.detail",
        "invalid_value",
    ),
    (picture("https://example.com/a.png"), "url", "invalid_image_url"),
    (picture("data:image/png;base64,AA"), URL, "invalid_base64"),
    (picture("data:text/plain;base64,AAAA"), URL, "invalid_value"),
    (picture("data:image/png;base64,"), URL, "empty_image_file"),
    ({"moderation": {}}, "moderation.model", "missing_required_parameter"),
]


def test_refuses_what_openai_refuses() -> None:
    fine = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    found = refusals(PATH, [{**fine, **change} for change, *_ in REFUSED])
    assert found == [(400, *rest) for _, *rest in REFUSED]


def test_null_counts_as_absent() -> None:
    fields = ("temperature", "n", "stop", "tools", "tool_choice", "response_format", "stream", "max_tokens", "user")
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], **dict.fromkeys(fields)}
    ((status, answer),) = post_all(PATH, [body])
    assert status == 200, answer
