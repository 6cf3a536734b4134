"""What a plugin that judges requests is promised, socket to socket: it reads what upstream reads, or nobody does.

The plugin here stands for moderation: it asks `operation` and forwards. What is refused one by one stands in
test_operation_refused.py; here each kind of it meets the whole server once, whole and in chunks.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from proxy.api import Exchange, Forward, Operation, Request, Response, operation
from proxy.testkit import Answer, RawClient, ScriptedUpstream, serve

from ..wire.telling import config

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
CHAT, RESPOND = "/v1/chat/completions", "/v1/responses"
JSON, FORM = "application/json", "multipart/form-data; boundary=B"
GOOD = b'{"model":"m","prompt":"a fox"}'


def form(*parts: str) -> bytes:
    return "".join(f"--B\r\nContent-Disposition: form-data; {part}\r\n" for part in parts).encode() + b"--B--\r\n"


class House:
    """A server whose one layer looks into each request; what it saw, and what came through."""

    def __init__(self) -> None:
        self.seen: list[Operation] = []
        self.upstream = ScriptedUpstream()

    async def judge(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        self.seen.append(await operation(request))
        return await forward(request)

    async def ask(
        self, target: str, kind: str | None, body: bytes, *headers: str, chunked: bool = False
    ) -> tuple[Answer, dict[str, Any]]:
        """The answer to a POST, and its JSON."""
        lines = [f"POST {target} HTTP/1.1", "Host: a", *headers, *([f"Content-Type: {kind}"] if kind else [])]
        lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}")
        sent = "\r\n".join([*lines, "", ""]).encode() + body
        if chunked:
            pieces = [body[at : at + 5] for at in range(0, len(body), 5)]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            sent = sent[: len(sent) - len(body)] + chunks + b"0\r\n\r\n"
        async with self.upstream, serve(config(self.upstream, self.judge)) as served, RawClient(served.port) as client:
            answer = await client.ask(sent)
        return answer, json.loads(answer.body)


REFUSED: dict[str, tuple[str, str | None, bytes, tuple[str, ...], int]] = {
    "a key given twice": (GENERATE, JSON, b'{"prompt":"a fox","prompt":"a gun"}', (), 400),
    "a key given twice, once in escapes": (GENERATE, JSON, b'{"prompt":"a fox","pr\\u006fmpt":"a gun"}', (), 400),
    "a key given twice far inside": (
        CHAT,
        JSON,
        b'{"messages":[{"role":"user","content":"a fox","content":"a gun"}]}',
        (),
        400,
    ),
    "a key in other letters": (GENERATE, JSON, b'{"prompt":"a fox","Prompt":"a gun"}', (), 400),
    "a form field given twice": (
        EDIT,
        FORM,
        form('name="prompt"\r\n\r\na fox', 'name="prompt"\r\n\r\na gun'),
        (),
        400,
    ),
    "what is not UTF-8": (GENERATE, JSON, b'{"prompt":"a \xff"}', (), 400),
    "an overlong slash": (GENERATE, JSON, b'{"prompt":"a \xc0\xaf"}', (), 400),
    "half a surrogate pair": (GENERATE, JSON, b'{"prompt":"a \\ud800"}', (), 400),
    "a byte order mark": (GENERATE, JSON, b"\xef\xbb\xbf" + GOOD, (), 400),
    "UTF-16": (GENERATE, JSON, GOOD.decode().encode("utf-16"), (), 400),
    "UTF-16 that says so": (GENERATE, JSON + "; charset=utf-16", GOOD.decode().encode("utf-16"), (), 415),
    "UTF-16 without a mark": (GENERATE, JSON, GOOD.decode().encode("utf-16-le"), (), 400),
    "no number": (GENERATE, JSON, b'{"prompt":"a fox","n":NaN}', (), 400),
    "infinity": (GENERATE, JSON, b'{"prompt":"a fox","seed":-Infinity}', (), 400),
    "a body in gzip": (GENERATE, JSON, gzip.compress(GOOD), ("Content-Encoding: gzip",), 415),
    "a body that says it is in gzip": (GENERATE, JSON, GOOD, ("Content-Encoding: gzip",), 415),
    "a body in brotli": (GENERATE, JSON, GOOD, ("Content-Encoding: br",), 415),
    "no content type": (GENERATE, None, GOOD, (), 415),
    "a text": (GENERATE, "text/plain", GOOD, (), 415),
    "a form of another kind": (GENERATE, "application/x-www-form-urlencoded", b"prompt=a+gun", (), 415),
    "a form that says it is JSON": (EDIT, JSON, form('name="prompt"\r\n\r\na fox'), (), 400),
    "JSON that says it is a form": (EDIT, FORM, GOOD, (), 400),
    "two content types": (GENERATE, JSON, GOOD, ("Content-Type: text/plain",), 400),
    "a form without a boundary": (EDIT, "multipart/form-data", form('name="a"\r\n\r\nb'), (), 400),
    "a form with two boundaries": (EDIT, FORM + "; boundary=C", form('name="a"\r\n\r\nb'), (), 400),
    "a form with bare line feeds": (EDIT, FORM, form('name="a"\r\n\r\nb').replace(b"\r\n", b"\n"), (), 400),
    "a boundary behind a line feed": (
        EDIT,
        FORM,
        form('name="a"\r\n\r\nb\n--B\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na gun'),
        (),
        400,
    ),
    "a form that is cut off": (EDIT, FORM, form('name="prompt"\r\n\r\na fox')[:-6], (), 400),
    "a part with two names": (EDIT, FORM, form('name="prompt"; name="x"\r\n\r\na gun'), (), 400),
    "a part in base64": (
        EDIT,
        FORM,
        form('name="prompt"\r\nContent-Transfer-Encoding: base64\r\n\r\nYSBndW4='),
        (),
        415,
    ),
    "a prompt as a file": (EDIT, FORM, form('name="prompt"; filename="a"\r\n\r\na gun'), (), 400),
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("target", "kind", "body", "headers", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_two_readers_could_read_differently_goes_nowhere(
    target: str, kind: str | None, body: bytes, headers: tuple[str, ...], status: int, chunked: bool
) -> None:
    house = House()
    answer, said = await house.ask(target, kind, body, *headers, chunked=chunked)
    assert answer.status == status
    assert said["error"]["type"] == "invalid_request_error" and said["error"]["message"]
    assert house.seen == [] and house.upstream.requests == []


def _parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


SAID: dict[str, tuple[str, str, Any]] = {
    "a prompt": (GENERATE, JSON, {"prompt": "gun 1"}),
    "a prompt of a stream": (GENERATE, JSON, {"stream": True, "partial_images": 2, "prompt": "gun 1"}),
    "an edit as JSON": (EDIT, JSON, {"prompt": "gun 1", "images": [{"file_id": "f"}]}),
    "a form": (
        EDIT,
        FORM,
        form('name="image"; filename="a"\r\n\r\nx', 'name="prompt"\r\n\r\ngun 1', 'name="new"\r\n\r\ngun 2'),
    ),
    "every turn of a chat": (
        CHAT,
        JSON,
        {
            "messages": [
                {"role": "system", "content": "gun 1"},
                {"role": "developer", "content": _parts("gun 2")},
                {"role": "user", "content": "gun 3"},
                {"role": "assistant", "content": "gun 4", "refusal": "gun 5"},
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "gun 6"}}]},
                {"role": "tool", "content": _parts("gun 7", "gun 8"), "name": "gun 9"},
                {"role": "user", "content": _parts("gun 10")},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "description": "gun 11"}}],
        },
    ),
    "a response's input": (RESPOND, JSON, {"stream": True, "input": "gun 1", "instructions": "gun 2"}),
    "a response's items": (
        RESPOND,
        JSON,
        {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "gun 1"}]},
                {"role": "developer", "content": "gun 2"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "gun 3"}]},
                {"type": "function_call_output", "call_id": "c", "output": "gun 4"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "gun 5"}]},
            ],
            "instructions": "gun 6",
        },
    ),
    "an array of inputs": ("/v1/embeddings", JSON, {"input": ["gun 1", "gun 2"]}),
    "prompts of the old kind": ("/v1/completions", JSON, {"prompt": ["gun 1"], "suffix": "gun 2"}),
    "fields that nobody knows yet": (GENERATE, JSON, {"prompt": "gun 1", "negative": {"more": ["gun 2"]}}),
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("target", "kind", "body"), SAID.values(), ids=SAID)
async def test_every_text_is_shown_and_arrives_as_it_was_shown(
    target: str, kind: str, body: Any, chunked: bool
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    house = House()
    answer, _ = await house.ask(target, kind, data, chunked=chunked)
    assert answer.status == 200
    texts = {text.text for text in house.seen[0].texts}
    assert {f"gun {number + 1}" for number in range(data.count(b"gun "))} <= texts
    assert [request.body for request in house.upstream.requests] == [data]


@pytest.mark.parametrize(
    "target",
    [
        "/v1//images/generations",
        "/v1/./images/generations",
        "/v1/x/../images/generations",
        "/v1/images/generations/",
        "/v1/images/Generations",
        "/v1/images%2fgenerations",
        "/v1/images/gener%61tions",
        "/v1/images/generations;x",
        "/v1/images\\generations",
        "/v1/images/generations?model=a&model=b",
        "/V1/images/generations",
        "/v1",
        "//v1/images/generations",
        "http://a/v1/images/generations",
        "http://elsewhere/v1/images/generations",
    ],
)
async def test_no_way_of_writing_a_path_passes_the_plugin_by(target: str) -> None:
    house = House()
    answer, _ = await house.ask(target, JSON, GOOD)
    if answer.status == 200:
        assert house.seen[0].kind == "generate" and house.upstream.requests[0].target == b"/v1/images/generations"
    else:
        assert answer.status in (400, 404) and house.upstream.requests == []
