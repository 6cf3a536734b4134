"""The same for chat and Responses, and for Azure."""

from __future__ import annotations

from typing import Any

from .asking import LONG
from .record_calls import (
    ELSEWHERE,
    PROMPT,
    REMOTE,
    STORED,
    URL,
    Case,
    drawn,
    given,
    inline,
    picture,
    said,
    text,
    upload,
)

TURNS: list[tuple[list[dict[str, Any]], list[list[str]], dict[str, Any]]] = [
    ([{"role": "user", "content": PROMPT}], [text("messages[0].content", PROMPT)], {}),
    (
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": PROMPT}]}],
        [text("messages[0].content", "Be brief.", "system"), text("messages[1].content[0].text", PROMPT)],
        {},
    ),
    (
        [
            {"role": "developer", "content": [{"type": "text", "text": "Draw."}]},
            {"role": "assistant", "content": "Earlier.", "refusal": "No."},
            {"role": "tool", "tool_call_id": "call_1", "content": "42 degrees"},
        ],
        [
            text("messages[0].content[0].text", "Draw.", "developer"),
            text("messages[1].content", "Earlier.", "assistant"),
            text("messages[1].refusal", "No.", "assistant"),
            text("messages[2].content", "42 degrees", "tool"),
        ],
        {},
    ),
    (
        [
            {
                "role": "user",
                "name": "Ann",
                "content": [{"type": "image_url", "image_url": {"url": URL, "detail": "low"}}],
            }
        ],
        [text("messages[0].name", "Ann")],
        {"images": [inline("messages[0].content[0].image_url.url")]},
    ),
    (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": REMOTE}}]}],
        [],
        {
            "images": [["messages[0].content[0].image_url.url", "url", REMOTE, None]],
            "unseen": [["messages[0].content[0].image_url.url", ELSEWHERE]],
        },
    ),
    (
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}],
        [],
        {"unseen": [["messages[0].content[0].input_audio", "speech"]]},
    ),
    (
        [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}, {"type": "text", "text": "?"}]}],
        [text("messages[0].content[1].text", "?")],
        {
            "images": [["messages[0].content[0].file.file_id", "file", "file-1", None]],
            "unseen": [["messages[0].content[0].file.file_id", STORED]],
        },
    ),
    (
        [
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}}
                ],
            }
        ],
        [
            text("messages[0].tool_calls[0].function.name", "f", "assistant"),
            text("messages[0].tool_calls[0].function.arguments", '{"a": "b"}', "assistant"),
        ],
        {},
    ),
]
FUNCTION = {"name": "weather", "description": "Tells it.", "parameters": {"type": "object", "properties": {}}}
TOLD = [
    text("tools[0].function.name", "weather", "system"),
    text("tools[0].function.description", "Tells it.", "system"),
    text("tools[0].function.parameters", '{"type":"object","properties":{}}', "system"),
]


def chats() -> list[Case]:
    cases: list[Case] = []
    extras: list[dict[str, Any]] = [
        {},
        {"n": 2, "stream": True, "user": "u-3"},
        {"response_format": {"type": "json_object"}, "stop": ["x y"], "metadata": {"a": "b c"}},
    ]
    for messages, texts, more in TURNS:
        for extra in extras:
            cases.append(
                (
                    "chat",
                    lambda c, m=messages, e=extra: c.chat.completions.create(model="gpt-5.5", messages=m, **e),
                    said("chat", texts, model="gpt-5.5", **more, **given(extra)),
                )
            )
    plain = TURNS[0][0]
    cases.append(
        (
            "chat tools",
            lambda c: c.chat.completions.create(
                model="gpt-5.5", messages=plain, tools=[{"type": "function", "function": FUNCTION}], tool_choice="auto"
            ),
            said("chat", TURNS[0][1] + TOLD, model="gpt-5.5", tools=[["tools[0]", "function"]]),
        )
    )
    cases.append(
        (
            "chat aloud",
            lambda c: c.chat.completions.create(
                model="gpt-audio",
                messages=plain,
                modalities=["text", "audio"],
                audio={"voice": "alloy", "format": "wav"},
            ),
            said("chat", TURNS[0][1], model="gpt-audio", paid=True),
        )
    )
    return cases


DRAW = {"type": "image_generation", "model": "gpt-image-2", "size": "1024x1024", "quality": "low"}
DRAWS = ["tools[0]", "image_generation", "gpt-image-2", "1024x1024", "low"]
INPUTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"input": PROMPT}, {"texts": [text("input", PROMPT)]}),
    (
        {"input": "x", "instructions": "Be kind."},
        {"texts": [text("input", "x"), text("instructions", "Be kind.", "system")]},
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": PROMPT}]}]},
        {"texts": [text("input[0].content[0].text", PROMPT)]},
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": LONG, "detail": "auto"}]}]},
        {"images": [["input[0].content[0].image_url", "inline", "", "image/webp", LONG[23:]]]},
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-2"}]}]},
        {
            "images": [["input[0].content[0].file_id", "file", "file-2", None]],
            "unseen": [["input[0].content[0].file_id", STORED]],
        },
    ),
    (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "it rains"}]},
        {"texts": [text("input[0].output", "it rains", "tool")]},
    ),
    (
        {"input": [{"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "iVBO"}]},
        {"images": [["input[0].result", "inline", "iVBO", None]]},
    ),
    (
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"unseen": [["input[0]", "an earlier item, kept upstream"]]},
    ),
    (
        {"input": "x", "previous_response_id": "resp_1"},
        {
            "texts": [text("input", "x")],
            "unseen": [["previous_response_id", "an earlier response, kept upstream"]],
        },
    ),
    (
        {"input": "x", "conversation": "conv_1"},
        {"texts": [text("input", "x")], "unseen": [["conversation", "a conversation, kept upstream"]]},
    ),
    (
        {"prompt": {"id": "pmpt_1", "version": "2", "variables": {"city": "Rome"}}},
        {
            "paid": True,
            "texts": [text("prompt.version", "2"), text("prompt.variables.city", "Rome")],
            "unseen": [["prompt", "a prompt, kept upstream"]],
        },
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "filename": "a.pdf", "file_data": "JVBE"}]}]},
        {
            "texts": [text("input[0].content[0].filename", "a.pdf")],
            "unseen": [["input[0].content[0].file_data", "a file's content"]],
        },
    ),
    (
        {"input": "x", "metadata": {"for": "nobody to read"}, "safety_identifier": "s", "user": "u"},
        {"texts": [text("input", "x")], "safety_identifier": "s", "user": "u"},
    ),
]


def responses() -> list[Case]:
    cases: list[Case] = []
    for fields, expected in INPUTS:
        body = {"model": "gpt-5.5", **fields}
        plain = {"kind": "response", "capability": "text", "model": "gpt-5.5", **expected}
        cases.append(("response", lambda c, b=body: c.responses.create(**b), plain))
        draws = {**plain, "capability": "image", "paid": True, "tools": [DRAWS], "stream": True}
        cases.append(("response draws", lambda c, b=body: c.responses.create(**b, tools=[DRAW], stream=True), draws))
    masked = {**DRAW, "input_image_mask": {"image_url": URL}}
    cases.append(
        (
            "response mask",
            lambda c: c.responses.create(model="gpt-5.5", input="x", tools=[masked]),
            {
                "kind": "response",
                "capability": "image",
                "paid": True,
                "model": "gpt-5.5",
                "texts": [text("input", "x")],
                "tools": [DRAWS],
                "images": [inline("tools[0].input_image_mask.image_url")],
            },
        )
    )
    return cases


def azure() -> list[Case]:
    draw = {"model": "drawer", "n": 2}
    return [
        ("generate", lambda c: c.images.generate(prompt=PROMPT, **draw), drawn("generate", **draw)),
        (
            "edit",
            lambda c: c.images.edit(image=picture(), prompt=PROMPT, **draw),
            drawn("edit", **draw, images=[upload("image")]),
        ),
        (
            "chat",
            lambda c: c.chat.completions.create(model="talker", messages=TURNS[0][0]),
            said("chat", TURNS[0][1], model="talker"),
        ),
        (
            "response",
            lambda c: c.responses.create(model="talker", input="x"),
            said("response", [text("input", "x")], model="talker"),
        ),
        ("moderate", lambda c: c.moderations.create(input="x"), {"kind": "moderation", "texts": [text("input", "x")]}),
    ]
