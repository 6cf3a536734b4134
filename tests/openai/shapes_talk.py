"""Answers of the Responses endpoint and of chat, in which pictures stand among other things."""

from __future__ import annotations

from typing import Any

from .shape import DRAWING, ERROR, LINK, SVG, USAGE, Drawn, Seen, Shape, stream, told


def _call(picture: str | None, **more: Any) -> dict[str, Any]:
    return {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": picture, **more}


def _response(*output: Any, **more: Any) -> dict[str, Any]:
    whole = {"id": "resp_1", "object": "response", "status": "completed", "error": None, "model": "gpt-5.5"}
    return {**whole, "output": list(output), "tool_usage": DRAWING, "usage": USAGE, **more}


def _message(**message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": USAGE}


def _delta(**delta: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta}]}


def _wordy(picture: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}


def responses(size: int) -> dict[str, Shape]:
    one, two = Drawn(1, size), Drawn(2, size)
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": []}
    words = {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "result"}]}
    usage = {"usage": USAGE, "tool_usage": DRAWING, "status": "completed", "id": "resp_1"}
    second = _call(two.text, id="ig_2", svg_usage=SVG)
    return {
        "a response": Shape(
            "json",
            told(_response(reasoning, _call(one.text), words)),
            "image",
            one.begun('"result":"'),
            [one.seen(index=1, item="ig_1")],
            usage,
        ),
        "a response with two calls": Shape(
            "json",
            told(_response(_call(one.text), second)),
            "image",
            one.begun('"result":"'),
            [one.seen(item="ig_1"), two.seen(index=1, item="ig_2")],
            usage,
        ),
        "a response that says last what it is": Shape(
            "json",
            told(_response({"result": one.text, "type": "image_generation_call", "id": "ig_1"})),
            "image",
            b'"id":"ig_1"}',
            [one.seen(item="ig_1")],
            usage,
        ),
        "a response without a call": Shape("json", told(_response(words)), "none", None, [], usage),
        "a response that failed": Shape(
            "json",
            told(_response(status="failed", error=ERROR, usage=None, tool_usage=None)),
            "error",
            b'"status":"failed"',
            [],
            {"error": ERROR, "status": "failed"},
        ),
        "a call that failed": Shape(
            "json",
            told(_response(_call(None, status="failed", error=ERROR))),
            "error",
            None,
            [],
            {"error": ERROR, "usage": USAGE, "tool_usage": DRAWING},
        ),
        "a call without a result": Shape("json", told(_response(_call(None))), "none", None, [], usage),
    }


def response_streams(size: int) -> dict[str, Shape]:
    early, one = Drawn(7, size), Drawn(1, size)
    kind = "response.image_generation_call"
    place = {"item_id": "ig_1", "output_index": 1}
    going = {"type": "response.in_progress", "response": _response(status="in_progress", usage=None, tool_usage=None)}
    events = [
        going,
        {"type": f"{kind}.generating", **place},
        {"type": f"{kind}.partial_image", **place, "partial_image_b64": early.text, "partial_image_index": 0},
        {"type": "response.output_item.done", "output_index": 1, "item": _call(one.text)},
    ]
    last = {"type": "response.completed", "response": _response({"type": "reasoning"}, _call(one.text))}
    images = [
        early.seen(kind="partial", index=1, partial=0, item="ig_1"),
        one.seen(index=1, item="ig_1"),
        one.seen(kind="repeated", index=1, item="ig_1"),
    ]
    usage = {"usage": USAGE, "tool_usage": DRAWING, "status": "completed"}
    here = one.begun('"result":"')
    failed = _call(None, status="failed", error=ERROR)
    broken = {
        "type": "response.failed",
        "response": _response(status="failed", error={"code": "server_error"}, usage=None, tool_usage=None),
    }
    return {
        "a response's stream": Shape("sse", stream(*events, last), "image", here, images, usage),
        "a response's stream that only completes": Shape(
            "sse", stream(going, last), "image", here, [one.seen(index=1, item="ig_1")], usage
        ),
        "a response's stream that fails": Shape(
            "sse",
            stream(going, broken),
            "error",
            b'{"type":"response.failed"',
            [],
            {"error": {"code": "server_error"}, "status": "failed"},
        ),
        "a response's stream whose call fails": Shape(
            "sse",
            stream({"type": "response.output_item.done", "output_index": 0, "item": failed}),
            "error",
            None,
            [],
            {"error": ERROR},
        ),
    }


def chats(size: int) -> dict[str, Shape]:
    one, two = Drawn(1, size), Drawn(2, size)
    seen = one.seen()
    here = one.begun("base64,")
    plain = {"type": "image_url", "image_url": LINK}
    stop = {"finish": ["stop"], "usage": USAGE}
    refused = {**_message(content=None, refusal="I can't."), "usage": USAGE}
    return {
        "chat with images": Shape(
            "json",
            told(_message(content="Here:", images=[_wordy(one.text), _wordy(two.text)])),
            "image",
            here,
            [seen, two.seen(index=1)],
            stop,
        ),
        "chat with an image among its parts": Shape(
            "json",
            told(_message(content=[{"type": "text", "text": "x"}, _wordy(one.text)])),
            "image",
            here,
            [one.seen(index=1)],
            stop,
        ),
        "chat with a link": Shape(
            "json",
            told(_message(images=[plain])),
            "image",
            f'"{LINK}"'.encode(),
            [Seen(LINK, form="url", sniffed=None)],
            stop,
        ),
        "chat's stream": Shape(
            "sse",
            stream(_delta(role="assistant", content=""), _delta(images=[_wordy(one.text)]), done=True),
            "image",
            here,
            [seen],
        ),
        "chat of words": Shape("json", told(_message(content="b64_json")), "none", None, [], stop),
        "chat's stream of words": Shape("sse", stream(_delta(content="b64"), done=True), "none", b"[DONE]\n\n"),
        "chat that refuses": Shape("json", told(refused), "none", None, [], stop),
        "chat that was filtered": Shape(
            "json",
            told({"choices": [{"index": 0, "finish_reason": "content_filter"}]}),
            "none",
            None,
            [],
            {"finish": ["content_filter"]},
        ),
    }
