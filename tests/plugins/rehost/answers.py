"""Answers with pictures of every shape, the base64 that stands for a picture, and the way back from URLs to base64."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

import orjson

from proxy.api import Services
from tests.images.pictures import png

ASK = "POST /v1/images/generations"
JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
LINK = re.compile(rb'"(?:\\.|[^"\\])*"(\s*:\s*)"http://[^"]*/files/([a-z2-7]{26}\.[a-z]+)"')
NAMES = {b'"url"': b'"b64_json"', b'"partial_image_url"': b'"partial_image_b64"'}


def b64(size: int = 100, seed: int = 0) -> str:
    return base64.b64encode(png(size, seed=seed)).decode()


def event(**fields: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(fields["type"]).encode(), orjson.dumps(fields))


def call(text: str, **more: object) -> dict[str, object]:
    return {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": text, **more}


def partial(number: int, text: str) -> bytes:
    return event(type="image_generation.partial_image", partial_image_index=number, b64_json=text, output_format="png")


# Each is what came, and how many pictures of it get URLs.
SHAPES: dict[str, tuple[dict[str, str], bytes, int]] = {
    "one": (JSON, orjson.dumps({"created": 1, "data": [{"b64_json": b64()}], "usage": {"total_tokens": 7}}), 1),
    "four": (JSON, orjson.dumps({"data": [{"b64_json": b64(80 + i, i), "revised_prompt": "x"} for i in range(4)]}), 4),
    "indented": (
        JSON,
        orjson.dumps({"data": [{"b64_json": b64()}, {"b64_json": b64(99)}]}, option=orjson.OPT_INDENT_2),
        2,
    ),
    "blanks": (JSON, b' {"data" :\n[ { "b64_json"\t:  "%b" } ]} \n' % b64().encode(), 1),
    "escaped-name": (JSON, b'{"data":[{"b64\\u005fjson":"%b"}]}' % b64().encode(), 1),
    "none": (JSON, b'{"created":1,"data":[],"note":"\\"b64_json\\""}', 0),
    "a-link": (JSON, b'{"data":[{"url":"https://example.com/a.png"}]}', 0),
    "no-picture": (JSON, orjson.dumps({"data": [{"b64_json": base64.b64encode(b"%PDF" * 40).decode()}]}), 0),
    "bad": (JSON, b'{"data":[{"b64_json":"%b*%b"}]}' % (b64().encode(), b"A" * 900), 0),
    "broken-off": (JSON, b'{"data":[{"b64_json":"%b' % b64(900).encode(), 0),
    "response": (JSON, orjson.dumps({"id": "r", "output": [call(b64()), {"type": "message", "content": []}]}), 1),
    "result-first": (
        JSON,
        orjson.dumps({"output": [{"result": b64(), "id": "i", "type": "image_generation_call"}]}),
        1,
    ),
    "other-result": (JSON, orjson.dumps({"output": [{"result": b64(), "id": "i", "type": "code_call"}]}), 0),
    "streamed": (
        SSE,
        partial(0, b64(70)) + partial(1, b64(75)) + event(type="image_generation.completed", b64_json=b64(), usage={}),
        1,
    ),
    "type-last": (SSE, event(b64_json=b64(), type="image_edit.completed") + b"data: [DONE]\n\n", 1),
    "twice": (
        SSE,
        event(type="response.output_item.done", output_index=0, item=call(b64(3000)))
        + event(type="response.completed", response={"id": "r", "output": [call(b64(3000))]}),
        2,
    ),
    "chat": (JSON, orjson.dumps({"choices": [{"message": {"content": "hello"}}]}), 0),
}
KEPT_BEFORE = {"response", "result-first", "twice", "other-result"}  # whose member keeps its name


async def back(
    document: bytes, services: Services, written: Mapping[bytes, bytes] | None = None
) -> tuple[bytes, list[str]]:
    """The document with base64 where URLs of ours stand, and the names of these, in order.

    `written` says in what text pictures came, where that was not plain base64.
    """
    found = []
    for match in LINK.finditer(document):
        body = await services.images.body(match[2].decode())
        assert body is not None
        data = await body.read(2**26)
        text = base64.b64encode(data) if written is None else written[data]
        await body.aclose()
        found.append((match, text))
    out, at = b"", 0
    for match, text in found:
        name = document[match.start() : match.start(1)]
        out += document[at : match.start()] + NAMES.get(name, name) + match[1] + b'"' + text + b'"'
        at = match.end()
    return out + document[at:], [match[2].decode() for match, _ in found]
