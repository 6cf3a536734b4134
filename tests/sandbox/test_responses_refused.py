"""What the Responses API refuses, and in which words."""

from __future__ import annotations

from typing import Any

from openai import AsyncOpenAI

from proxy.sandbox import markers

from .asking import ask, data_url, post_all, refusals
from .test_responses import DRAW, MODEL, PATH, RED, WEATHER, drawn, said


def test_a_forbidden_picture_fails_and_says_why() -> None:
    marked = data_url(markers.mark(RED, "sexual"))
    parts: Any = [{"type": "input_text", "text": "a picture"}, {"type": "input_image", "image_url": marked}]
    for wanted, categories in (
        ("Draw flag:violence flag:hate", ["hate", "violence"]),
        ([{"role": "user", "content": parts}], ["sexual"]),
    ):
        answer = said(wanted, tools=[DRAW])
        item = drawn(answer)
        assert (answer.status, item.status, item.result) == ("completed", "failed", None)
        assert (item.error.code, item.error.type) == ("moderation_blocked", "image_generation_user_error")
        assert item.error.moderation_details.categories == categories
        assert item.error.moderation_details.moderation_stage == "input"
        assert answer.id in item.error.message
        assert answer.tool_usage is not None and answer.tool_usage.image_gen.total_tokens == 0


def test_moderation_low_lets_the_milder_through() -> None:
    assert drawn(said("Draw flag:violence", tools=[{**DRAW, "moderation": "low"}])).status == "completed"
    assert drawn(said("Draw flag:violence/graphic", tools=[{**DRAW, "moderation": "low"}])).status == "failed"


def test_a_stream_of_a_forbidden_picture_never_completes_it() -> None:
    async def main(client: AsyncOpenAI) -> list[Any]:
        stream = await client.responses.create(model=MODEL, input="Draw flag:sexual", tools=[DRAW], stream=True)
        return [event async for event in stream]

    events = ask(main)
    names = [event.type for event in events]
    assert "response.image_generation_call.completed" not in names
    assert next(event.item.status for event in events if event.type == "response.output_item.done") == "failed"
    assert names[-1] == "response.completed"


def item(**members: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": "a picture"}, members]}


def call(result: Any, **more: Any) -> dict[str, Any]:
    return item(type="image_generation_call", id="ig_1", status="completed", result=result, **more)


def tool(**members: Any) -> dict[str, Any]:
    return {"tools": [{"type": "image_generation", **members}]}


CONTENT = "input[1].content[0]"


def shown(**members: Any) -> dict[str, Any]:
    return item(role="user", content=[{"type": "input_image", **members}])


OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "x"}
# A change to a request that is right, and what is said to it.
REFUSED: list[tuple[dict[str, Any], int, str | None, str | None]] = [
    ({"model": None}, 400, "model", "missing_required_parameter"),
    ({"model": "gpt-image-2"}, 404, "model", "model_not_found"),
    ({"colour": 1}, 400, "colour", "unknown_parameter"),
    ({"input": None}, 400, None, "missing_required_parameter"),
    ({"input": 7}, 400, "input", "invalid_type"),
    ({"input": []}, 400, "input", "empty_array"),
    ({"input": ["x"]}, 400, "input[0]", "invalid_type"),
    ({"input": [{"role": "robot", "content": "x"}]}, 400, "input[0].role", "invalid_value"),
    (
        {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        400,
        "input[0].content[0].type",
        "invalid_value",
    ),
    (item(type="poem"), 400, "input[1].type", "invalid_value"),
    (item(**OUTPUT), 400, "input", None),
    # What a proxy must put back before the next turn: a URL in place of the picture, or beside it.
    (call("https://img.example.com/files/abc.png"), 400, "input[1].result", "invalid_base64"),
    (call("aGVsbG8="), 400, "input[1].result", "invalid_value"),
    (call(7), 400, "input[1].result", "invalid_type"),
    (call(None, url="https://img.example.com/files/abc.png"), 400, "input[1].url", "unknown_parameter"),
    (call(None), 404, "input", None),
    (item(type="image_generation_call"), 400, "input[1].id", "missing_required_parameter"),
    (item(type="item_reference", id="msg_1"), 404, "input", None),
    (shown(image_url="https://example.com/a.png"), 400, "url", "invalid_image_url"),
    (shown(image_url="a.png"), 400, f"{CONTENT}.image_url", "invalid_value"),
    (shown(file_id="file-1"), 404, f"{CONTENT}.file_id", None),
    (shown(), 400, CONTENT, "missing_required_parameter"),
    (shown(image_url=data_url(RED), detail="much"), 400, f"{CONTENT}.detail", "invalid_value"),
    ({"previous_response_id": "resp_1"}, 400, "previous_response_id", "previous_response_not_found"),
    ({"conversation": "conv_1"}, 404, "conversation", None),
    ({"prompt": {"id": "pmpt_1"}}, 404, "prompt", None),
    ({"background": True}, 400, "background", "unsupported_value"),
    ({"max_output_tokens": 15}, 400, "max_output_tokens", "integer_below_min_value"),
    ({"text": {"format": {"type": "json_object"}}}, 400, "input", None),
    ({"text": {"format": {"type": "json_schema"}}}, 400, "text.format.name", "missing_required_parameter"),
    ({"text": {"format": {"type": "xml"}}}, 400, "text.format.type", "invalid_value"),
    ({"tools": [{}]}, 400, "tools[0].type", "missing_required_parameter"),
    ({"tools": [{"type": "crystal_ball"}]}, 400, "tools[0].type", "invalid_value"),
    ({"tools": [{"type": "function"}]}, 400, "tools[0].name", "missing_required_parameter"),
    ({"tool_choice": {"type": "image_generation"}, "tools": [WEATHER]}, 400, "tool_choice", None),
    ({"tool_choice": {"type": "file_search"}, "tools": [WEATHER]}, 400, "tool_choice.type", "unsupported_value"),
    (tool(colour="red"), 400, "tools[0].colour", "unknown_parameter"),
    (tool(size="100x100"), 400, "tools[0].size", "invalid_value"),
    (tool(partial_images=4), 400, "tools[0].partial_images", "integer_above_max_value"),
    (tool(quality=7), 400, "tools[0].quality", "invalid_type"),
    (tool(action="erase"), 400, "tools[0].action", "invalid_value"),
    (tool(action="edit"), 400, "tools[0].action", "invalid_value"),
    (tool(model="dall-e-3"), 404, "tools[0].model", "model_not_found"),
    (tool(input_image_mask="x"), 400, "tools[0].input_image_mask", "invalid_type"),
    (
        tool(input_image_mask={"file_id": "file-1"}),
        404,
        "tools[0].input_image_mask.file_id",
        None,
    ),
    ({"moderation": {"model": "gpt-5"}}, 404, "model", "model_not_found"),
]


def test_refuses_what_openai_refuses() -> None:
    fine = {"model": MODEL, "input": "Draw a fox"}
    found = refusals(PATH, [{**fine, **change} for change, *_ in REFUSED])
    assert found == [tuple(rest) for _, *rest in REFUSED]


def test_null_counts_as_absent() -> None:
    fields = ("instructions", "tools", "tool_choice", "text", "stream", "store", "previous_response_id", "truncation")
    ((status, answer),) = post_all(PATH, [{"model": MODEL, "input": "x", **dict.fromkeys(fields)}])
    assert status == 200, answer
