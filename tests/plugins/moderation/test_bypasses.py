"""Ways round a judge that have worked elsewhere: each is blocked or refused here, and nothing of it leaves."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from proxy.testkit import RawClient
from tests.openai.test_threats import REFUSED, SAID

from .asking import FORM, field, file, tool, uploaded, user
from .house import ANN, CHAT, EDIT, GENERATE, JSON, RESPOND, Moderating, blocked, error, moderating
from .pictures import LARGE, picture, url

pytestmark = pytest.mark.asyncio(loop_scope="module")
BAD = "flag:violence."
MARKED = picture("PNG", "violence")
CLEAN = picture()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[Moderating]:
    async with moderating() as house:
        yield house


# --- what two readers could read differently

JUDGED = re.compile(rb"a gun")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("target", "kind", "body", "headers", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_can_be_read_in_two_ways_is_refused(
    house: Moderating,
    target: str,
    kind: str | None,
    body: bytes,
    headers: tuple[str, ...],
    status: int,
    chunked: bool,
) -> None:
    before = len(house.upstream.records), len(house.judge.records)
    answer = await house.ask(target, JUDGED.sub(BAD.encode(), body), kind, *headers, chunked=chunked)
    assert (answer.status, error(answer)["type"]) == (status, "invalid_request_error")
    assert (len(await house.left()), len(house.judge.records)) == before


# --- texts


def _spoken() -> dict[str, tuple[str, str, bytes]]:
    """Every text of every request that is said to be judged, each once with the marker in its place."""
    found = {}
    for name, (target, kind, body) in SAID.items():
        data = body if isinstance(body, bytes) else json.dumps({**body, "images": None}).encode()
        data = data.replace(b"\r\n\r\nx\r\n", b"\r\n\r\n" + CLEAN + b"\r\n")  # a form's upload, to be a picture
        for number in range(data.count(b"gun ")):
            word = b"gun %d" % (number + 1)
            found[f"{name}, {word.decode()}"] = (target, kind, re.sub(word + rb"(?!\d)", BAD.encode(), data))
    return found


SPOKEN = _spoken()
TEXTS: dict[str, tuple[str, bytes | dict[str, Any]]] = {
    "a tool's description": (CHAT, tool(description=BAD)),
    "a key of a tool's schema": (CHAT, tool(parameters={"type": "object", "properties": {BAD: {"type": "string"}}})),
    "a choice of a tool's schema": (CHAT, tool(parameters={"properties": {"a": {"enum": ["x", BAD]}}})),
    "a schema of answers": (
        CHAT,
        {**user(), "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"title": BAD}}}},
    ),
    "a role that there is not": (CHAT, {"messages": [{"role": BAD, "content": "a fox"}]}),
    "a key of the caller's own": (CHAT, {**user(), BAD: {"a": 1}}),
    "a word split over parts": (CHAT, user({"type": "text", "text": "flag:vio"}, {"type": "text", "text": "lence."})),
    "a text in the place of a picture": (CHAT, user({"type": "image_url", "image_url": {"url": "", "note": BAD}})),
    "what a model is to begin with": (CHAT, {**user(), "prediction": {"type": "content", "content": BAD}}),
    "a model's name for a tool's call": (
        CHAT,
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": BAD, "arguments": "{}"}}]}]},
    ),
    "a tool's answer": (RESPOND, {"input": [{"type": "function_call_output", "call_id": "c", "output": BAD}]}),
    "an earlier turn": (
        RESPOND,
        {
            "input": [
                {"role": "assistant", "content": [{"type": "output_text", "text": BAD}]},
                {"role": "user", "content": "x"},
            ]
        },
    ),
    "a variable of a stored prompt": (RESPOND, {"input": "x", "prompt": {"id": "p", "variables": {"city": BAD}}}),
    "a file's name": (RESPOND, {"input": [{"role": "user", "content": [{"type": "input_file", "filename": BAD}]}]}),
    "a very long text": (GENERATE, {"prompt": "a fox " * 40_000 + BAD + " a fox" * 40_000}),
    "at a cut of a very long text": (GENERATE, {"prompt": "x" * 99_995 + " " + BAD + "x" * 100_000}),
    "the last of many texts": (
        CHAT,
        user(*[{"type": "text", "text": f"fox {n}"} for n in range(200)], {"type": "text", "text": BAD}),
    ),
    "the last of many turns": (
        CHAT,
        {
            "messages": [
                *[{"role": "user", "content": f"fox {n}"} for n in range(100)],
                {"role": "user", "content": BAD},
            ]
        },
    ),
    "escaped": (GENERATE, b'{"prompt":"\\u0066\\u006cag:violence."}'),
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("target", "kind", "body"), SPOKEN.values(), ids=SPOKEN)
async def test_no_text_is_passed_over(house: Moderating, target: str, kind: str, body: bytes, chunked: bool) -> None:
    before = len(house.upstream.records)
    assert blocked(await house.ask(target, body, kind, chunked=chunked))
    assert await house.left(before) == []


@pytest.mark.parametrize(("target", "body"), TEXTS.values(), ids=TEXTS)
async def test_no_place_of_a_text_is_passed_over(house: Moderating, target: str, body: bytes | dict[str, Any]) -> None:
    before = len(house.upstream.records)
    answer = await house.ask(target, body)
    assert await house.left(before) == []
    if isinstance(body, dict) and isinstance(
        body.get("prompt"), dict
    ):  # and of the stored prompt nobody knows what it says
        assert answer.status == 400
    else:
        assert blocked(answer)


PATHS = [
    "/v1//images/generations",
    "/v1/./images/generations",
    "/v1/%2e/images/generations",
    "/v1/x/../images/generations",
    "/v1/x/%2e%2e/images/generations",
    "/v1/images/generations/",
    "/v1/images/generations/.",
    "/v1/images/Generations",
    "/v1/IMAGES/GENERATIONS",
    "/v1/images%2fgenerations",
    "/v1/images%252fgenerations",
    "/v1/images/gener%61tions",
    "/v1/images/generations%00",
    "/v1/images/generations%20",
    "/v1/images/generations;x",
    "/v1/images/generations.json",
    "/v1/images\\generations",
    "/v1/images/generations?",
    "/v1/images/generations?model=a",
    "/v1/v1/images/generations",
    "/v1/beta/images/generations",
    "/V1/images/generations",
    "/v2/images/generations",
    "//v1/images/generations",
    "/openai/v1/images/generations",
    "/openai/deployments/d/images/generations?api-version=1",
    "/openai/deployments/d/images%2fgenerations?api-version=1",
    "/other/prefix/v1/images/generations",
    "/other/prefix/images/generations",
    "http://a/v1/images/generations",
    "http://elsewhere/v1/images/generations",
]


@pytest.mark.parametrize("target", PATHS)
async def test_no_way_of_writing_a_path_leads_past(house: Moderating, target: str) -> None:
    before = len(house.upstream.records)
    answer = await house.ask(target, {"prompt": f"a fox {BAD}"})
    assert await house.left(before) == []
    assert answer.status in (400, 404)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS"])
async def test_no_method_leads_past(house: Moderating, method: str) -> None:
    before = len(house.upstream.records)
    body = b'{"prompt":"flag:violence."}'
    async with RawClient(house.served.port) as client:
        head = f"{method} {GENERATE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ANN}\r\n"
        more = f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = await client.ask((head + more).encode() + body, bodiless=method == "HEAD")
    assert answer.status in (400, 404, 405, 501), answer
    assert await house.left(before) == []


async def test_what_is_too_large_to_be_read_does_not_leave(house: Moderating) -> None:
    before = len(house.upstream.records)
    answer = await house.ask(GENERATE, b'{"a":"%b","prompt":"flag:violence."}' % (b"x" * 65 * 2**20))
    assert (await house.left(before), answer.status in (400, 413)) == ([], True)


# --- forms

FORMS: dict[str, bytes] = {
    "the prompt behind the file": uploaded(file("image", CLEAN), field("prompt", BAD)),
    "the model and the prompt behind the file": uploaded(
        file("image", CLEAN), field("model", "gpt-image-2"), field("prompt", BAD)
    ),
    "behind a large file": uploaded(file("image", picture(side=LARGE)), field("prompt", BAD)),
    "the marker in a field of another name": uploaded(file("image", CLEAN), field("prompt", "a"), field("notes", BAD)),
    "the marker in a field's inner name": uploaded(file("image", CLEAN), field("prompt", "a"), field("a[b][c]", BAD)),
    "a picture among many": uploaded(
        *[file("image[]", picture(side=96 + n)) for n in range(6)], file("image[]", MARKED), field("prompt", "a")
    ),
    "a mask": uploaded(file("image", CLEAN), file("mask", MARKED), field("prompt", "a")),
    "a picture without a type": uploaded(('name="image"; filename="a"', MARKED), field("prompt", "a")),
    "a picture of the wrong type": uploaded(file("image", MARKED, "image/jpeg", "a.jpg"), field("prompt", "a")),
    "a picture of no picture's type": uploaded(file("image", MARKED, "text/css", "a.css"), field("prompt", "a")),
    "a picture as a text": uploaded(field("image", url(MARKED)), field("prompt", "a")),
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
async def test_no_part_of_a_form_is_passed_over(house: Moderating, body: bytes, chunked: bool) -> None:
    before = len(house.upstream.records)
    assert blocked(await house.ask(EDIT, body, FORM, chunked=chunked))
    assert await house.left(before) == []


# --- what is elsewhere

ELSEWHERE: dict[str, tuple[str, dict[str, Any], str]] = {
    "a picture elsewhere": (
        CHAT,
        user({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
        "messages[0].content[0].image_url.url",
    ),
    "a picture elsewhere, by another protocol": (
        RESPOND,
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://example.com/a.png"}]}]},
        "input[0].content[0].image_url",
    ),
    "one of ours by a host that is not ours": (
        EDIT,
        {"prompt": "a", "images": [{"image_url": "http://example.com/files/aaaaaaaaaaaaaaaaaaaaaaaaaa.png"}]},
        "images[0].image_url",
    ),
    "a file's id": (EDIT, {"prompt": "a", "images": [{"file_id": "file-1"}]}, "images[0].file_id"),
    "a file in a chat": (
        CHAT,
        user({"type": "file", "file": {"file_id": "file-1"}}),
        "messages[0].content[0].file.file_id",
    ),
    "a stored prompt": (RESPOND, {"input": "x", "prompt": {"id": "pmpt_1"}}, "prompt"),
    "an earlier response": (RESPOND, {"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
    "a conversation": (RESPOND, {"input": "x", "conversation": "conv_1"}, "conversation"),
    "an earlier item": (RESPOND, {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
    "encrypted thoughts": (
        RESPOND,
        {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}]},
        "input[0].encrypted_content",
    ),
    "stored documents": (
        RESPOND,
        {"input": "x", "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        "tools[0].vector_store_ids",
    ),
    "tools of another server": (
        RESPOND,
        {"input": "x", "tools": [{"type": "mcp", "server_label": "a", "server_url": "https://example.com"}]},
        "tools[0].server_url",
    ),
    "tokens": ("/v1/embeddings", {"input": [1, 2, 3]}, "input"),
    "speech": (
        CHAT,
        user({"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}),
        "messages[0].content[0].input_audio",
    ),
    "base64 in the place of a text": (GENERATE, {"prompt": base64.b64encode(bytes(99_000)).decode()}, "prompt"),
}


@pytest.mark.parametrize(("target", "body", "param"), ELSEWHERE.values(), ids=ELSEWHERE)
async def test_what_is_elsewhere_is_refused_by_its_place(
    house: Moderating, target: str, body: dict[str, Any], param: str
) -> None:
    before = len(house.upstream.records)
    answer = await house.ask(target, body)
    said = error(answer)
    assert (await house.left(before), answer.status) == ([], 400)
    assert (said["type"], said["param"]) == ("invalid_request_error", param)
    assert param in said["message"]
