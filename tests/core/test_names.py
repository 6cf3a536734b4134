"""Names of models at an upstream's door: one field changes and no other byte; what is not served never leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, WSMsgType, web

from proxy.api import Exchange, Headers, Operation, Rejected, Request, Response, operation
from proxy.core.model_names import ModelNames
from proxy.model.body import EMPTY, Body, Bytes
from proxy.model.exchange import Attempt, Client
from proxy.testkit import RawClient, ScriptedUpstream, Stage, answer, serve

from ..openai.asking import Pieces, ask, whole
from ..openai.test_operation_refused import FORM, field, form
from ..wire.sockets import upstream as socket_upstream

IMAGES = "POST /v1/images/generations"
DEPLOYED = {"gpt-image-2": "my-image-deployment", "gpt-5": "five"}


def settings(lines: str, name: str = "azure") -> str:
    return f'[upstreams.{name}]\nbase_url = "http://upstream.invalid/v1"\n{lines}\n'


async def asked(names: ModelNames, request: Request) -> tuple[Request, bytes, Attempt]:
    """What goes in behind the layer, for a request behind the prefix."""
    passed: list[tuple[Request, bytes]] = []

    async def forward(request: Request) -> Response:
        passed.append((request, await whole(request.body)))
        return Response(200)

    attempt = Attempt("azure")
    request = Request(request.method, request.target, request.headers, request.body, "azure", attempt)
    await names(Exchange("", request, Client("test")), request, forward)
    ((passing, body),) = passed
    assert passing.attempt is attempt
    return passing, body, attempt


# --- One field changes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{ "prompt":"gpt-5" ,"model" : "gpt-image-2"}\n', '{ "prompt":"gpt-5" ,"model" : "my-image-deployment"}\n'),
        ('{"mod\\u0065l":"gpt\\u002dimage-2"}', '{"mod\\u0065l":"my-image-deployment"}'),
        ('{"models":["gpt-5","x","gpt-image-2"]}', '{"models":["five","x","my-image-deployment"]}'),
        ('{"model":"gpt-5","tools":[{"type":"image_generation","model":"gpt-image-2"}]}',
         '{"model":"five","tools":[{"type":"image_generation","model":"my-image-deployment"}]}'),
        ('{"model":"gpt-5","user":"gpt-5","metadata":{"model":"gpt-5"}}',
         '{"model":"five","user":"gpt-5","metadata":{"model":"gpt-5"}}'),
        ('{"models":["gpt-image-2-2026-04-21","GPT-5","gpt-5 "],"x_model":"gpt-5"}',
         '{"models":["gpt-image-2-2026-04-21","GPT-5","gpt-5 "],"x_model":"five"}'),
    ],
)  # fmt: skip
async def test_json_keeps_every_other_byte(before: str, after: str) -> None:
    names = ModelNames(DEPLOYED)
    for body in (Bytes(before.encode()), Pieces(before.encode(), 5)):
        passing, got, _ = await asked(names, ask(body, "/responses"))
        assert got.decode() == after
        assert passing.headers.get("Content-Length") == str(len(after))


async def test_what_names_nothing_new_goes_on_as_the_same_value() -> None:
    for request in (ask(b'{"model":"other"}', "/responses"), ask(b"", "/models/gpt-5", None, method="GET")):
        passing, _, attempt = await asked(ModelNames(DEPLOYED), request)
        assert passing.body is request.body and passing.headers is request.headers and attempt.changed == ()


async def test_objects_that_may_name_any_model_are_not_read() -> None:
    body = Pieces(b'{"model":"gpt-5","model":"gpt-5"}', 5)
    passing, got, _ = await asked(ModelNames(DEPLOYED), ask(body, "/files"))
    assert passing.body is body and got == b'{"model":"gpt-5","model":"gpt-5"}'


async def test_a_form_is_changed_behind_a_long_file_that_is_spooled() -> None:
    picture = bytes(range(256)) * (20 * 2**20 // 256)
    head = form(field("prompt", "gpt-image-2"), field("image", "%", '; filename="a.png"'))[: -len(b"--B--\r\n")]
    before, after = head.split(b"%")
    tail = form(field("model", "gpt-image-2"), field("quality", "high"))
    names = ModelNames({"gpt-image-2": "gpt-image-2.5-flare"})
    body = before + picture + after + tail
    source = Pieces(body, 2**18)
    passing, got, attempt = await asked(names, ask(source, "/images/edits", FORM))
    wanted = before + picture + after
    wanted += form(field("model", "gpt-image-2.5-flare"), field("quality", "max"))
    assert got == wanted and passing.headers.get("Content-Length") == str(len(wanted))
    assert attempt.changed == ("model: gpt-image-2 -> gpt-image-2.5-flare", "quality: high -> max")
    assert source.passes == 1
    await passing.body.aclose()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/realtime?model=gpt-5", "/realtime?model=five"),
        ("/realtime?a=%20b&mod%65l=gpt%2D5&b=c+d", "/realtime?a=%20b&mod%65l=five&b=c+d"),
        ("/realtime?deployment=gpt-5&api-version=1", "/realtime?deployment=five&api-version=1"),
        ("/realtime?model=other", "/realtime?model=other"),
        ("/realtime?intent=transcription", "/realtime?intent=transcription"),
    ],
)
async def test_a_sockets_query_keeps_all_else(before: str, after: str) -> None:
    request = Request("GET", before, Headers.of(upgrade="websocket", connection="Upgrade"), EMPTY)
    passing, _, _ = await asked(ModelNames(DEPLOYED), request)
    assert passing.target == after


async def test_the_query_of_a_form_or_a_document_follows_its_body() -> None:
    passing, got, _ = await asked(ModelNames(DEPLOYED), ask(b'{"model":"gpt-5"}', "/responses?model=gpt-5&x=1"))
    assert (passing.target, got) == ("/responses?model=five&x=1", b'{"model":"five"}')


async def test_quality_follows_beside_each_model_by_itself() -> None:
    document = {
        "model": "gpt-image-2",
        "quality": "high",
        "tools": [
            {"type": "image_generation", "model": "dall-e-3", "quality": "hd"},
            {"type": "image_generation", "model": "other", "quality": "high"},
        ],
    }
    names = ModelNames({"gpt-image-2": "gpt-image-2.5-flare", "dall-e-3": "gpt-image-2"})
    _, got, attempt = await asked(names, ask(orjson.dumps(document), "/responses"))
    document["model"], document["quality"] = "gpt-image-2.5-flare", "max"
    document["tools"][0] |= {"model": "gpt-image-2", "quality": "high"}  # type: ignore[index]
    assert got == orjson.dumps(document)
    assert attempt.changed == (
        "model: gpt-image-2 -> gpt-image-2.5-flare",
        "quality: high -> max",
        "tools[0].model: dall-e-3 -> gpt-image-2",
        "tools[0].quality: hd -> high",
    )


@pytest.mark.parametrize(
    ("body", "kind", "headers", "status"),
    [
        (b'{"model":"a","model":"gpt-5"}', "application/json", {}, 400),
        (b'{"model":"gpt-5"}', "application/json", {"content_encoding": "gzip"}, 415),
        (b'{"model":"gpt-5"}', "application/json; charset=utf-16", {}, 415),
        (b"model=gpt-5", "application/x-www-form-urlencoded", {}, 415),
    ],
)
async def test_what_cant_be_read_does_not_pass(body: bytes, kind: str, headers: dict[str, str], status: int) -> None:
    attempt = Attempt("azure")
    made = ask(body, "/responses", kind, **headers)
    request = Request("POST", made.target, made.headers, made.body, "azure", attempt)
    with pytest.raises(Rejected) as caught:
        await ModelNames(DEPLOYED)(Exchange("", request, Client("test")), request, no_forward)
    assert (caught.value.status, attempt.outcome) == (status, caught.value.code)


async def no_forward(request: Request) -> Response:
    raise AssertionError(f"{request} went on")


class _Endless(Body):
    """More JSON than anybody reads."""

    length = 65 * 2**20

    def now(self) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise AssertionError("nobody reads it")
        yield b""


async def test_a_document_that_is_too_long_to_be_read_does_not_pass() -> None:
    with pytest.raises(Rejected) as caught:
        await asked(ModelNames(DEPLOYED), ask(_Endless(), "/responses"))
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")


# --- Through the house


async def test_a_change_is_told_in_the_answer_and_in_the_log() -> None:
    upstream = answer(json={"model": "gpt-image-2.5-flare", "created": 1})
    lines = settings('models = { "gpt-image-2" = "gpt-image-2.5-flare" }')
    async with Stage(upstream={"azure": upstream}, settings=lines) as stage:
        changed = await stage.play(IMAGES, json={"model": "gpt-image-2", "quality": "high", "prompt": "x"})
        same = await stage.play(IMAGES, json={"model": "gpt-image-2.5-flare", "quality": "high"})
    assert [one.json() for one in stage.asked] == [
        {"model": "gpt-image-2.5-flare", "quality": "max", "prompt": "x"},
        {"model": "gpt-image-2.5-flare", "quality": "high"},
    ]
    told = "model: gpt-image-2 -> gpt-image-2.5-flare; quality: high -> max"
    assert changed.headers.get("x-framegate-changed") == told and "x-framegate-changed" not in same.headers
    assert changed.json() == {"model": "gpt-image-2.5-flare", "created": 1}


CONFIG = """
[server]
listen = "127.0.0.1:0"
expose = "{expose}"
[upstreams.azure]
base_url = "{url}"
models = {{ "gpt-image-2" = "my-image-deployment" }}
[[routes]]
match = "* /v1/*"
chain = []
"""


@pytest.mark.parametrize("expose", ["all", "id"])
async def test_end_to_end_only_the_name_is_another(expose: str) -> None:
    body = b'{"prompt": "caf\xc3\xa9 \\u00e9", "model": "gpt-image-2"}'
    async with ScriptedUpstream() as upstream:
        async with serve(CONFIG.format(url=upstream.url, expose=expose)) as served:
            async with RawClient(served.port) as client:
                head = b"POST /v1/images/generations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                heard = await client.ask(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            (line,) = await served.ended(1)
    (received,) = upstream.requests
    assert received.body == body.replace(b"gpt-image-2", b"my-image-deployment")
    assert heard.body == b"{}"
    told = b"model: gpt-image-2 -> my-image-deployment"
    assert heard.get(b"x-framegate-changed") == (told if expose == "all" else None)
    assert line["changed"] == {"azure": [told.decode()]} and "model names" in line["spans"]


async def test_a_sockets_messages_are_in_the_upstreams_words() -> None:
    heard: list[str] = []

    async def listen(request: web.Request) -> web.WebSocketResponse:
        heard.append(request.raw_path)
        end = web.WebSocketResponse()
        await end.prepare(request)
        async for message in end:
            heard.append(message.data)
            await end.send_str("heard")
        return end

    said = ['{"type":"session.update", "session":{"model":"gpt-image-2"}}', '{"model":"x"}', "gpt-image-2 model?", "{}"]
    async with socket_upstream(listen) as url, serve(CONFIG.format(url=url, expose="id")) as served:
        async with ClientSession() as session, asyncio.timeout(10):
            address = f"ws://127.0.0.1:{served.port}/v1/realtime?model=gpt-image-2"
            async with session.ws_connect(address) as client:
                for message in said:
                    await client.send_str(message)
                    assert (await client.receive()).type is WSMsgType.TEXT
    assert heard == [
        "/v1/realtime?model=my-image-deployment",
        said[0].replace("gpt-image-2", "my-image-deployment"),
        *said[1:],
    ]


# --- What is served


async def operated(document: dict[str, Any], target: str = "/v1/images/generations") -> Operation:
    return await operation(ask(orjson.dumps(document), target))


@pytest.mark.parametrize(
    ("only", "document", "target", "served"),
    [
        ([], {"model": "a"}, "/v1/chat/completions", True),
        (["gpt-image-*"], {"model": "gpt-image-2"}, "/v1/images/generations", True),
        (["gpt-image-*"], {"model": "GPT-image-2"}, "/v1/images/generations", "model_not_served"),
        (["gpt-image-*"], {"model": "gpt-5"}, "/v1/responses", "model_not_served"),
        (["gpt-*"], {"model": "gpt-5", "tools": [{"type": "image_generation", "model": "f"}]}, "/v1/responses",
         "model_not_served"),
        (["gpt-*"], {}, "/v1/moderations", True),
        (["kind:image"], {"model": "whatever"}, "/v1/images/generations", True),
        (["kind:image"], {"model": "gpt-5"}, "/v1/chat/completions", "kind_not_served"),
        (["kind:image"], {}, "/v1/moderations", "kind_not_served"),
        (["kind:image", "gpt-5"], {"model": "gpt-5"}, "/v1/chat/completions", True),
        (["kind:image", "gpt-5"], {"model": "o9"}, "/v1/chat/completions", "model_not_served"),
        (["kind:embeddings"], {"model": "e"}, "/v1/embeddings", True),
    ],
)  # fmt: skip
async def test_only_says_what_is_served(
    only: list[str], document: dict[str, Any], target: str, served: bool | str
) -> None:
    lines = settings(f"only = {orjson.dumps(only).decode()}")
    async with Stage(upstream={"azure": answer(), "other": answer()}, settings=lines) as stage:
        asks = await operated(document, target)
        assert stage.services.upstreams.serves("azure", asks) == served
        assert stage.services.upstreams.serves("other", asks) is True
        played = await stage.play(f"POST {target}", json=document)
    assert played.status == (200 if served is True else 404)
    if served is not True:
        assert played.error["code"] == "model_not_available" and not stage.asked
        assert played.headers.get("x-framegate-attempts") == f"azure={served}"


async def test_what_is_not_served_is_told_by_its_name_and_not_by_the_upstreams() -> None:
    async with Stage(upstream={"azure": answer()}, settings=settings('only = ["gpt-image-*"]')) as stage:
        played = await stage.play("POST /v1/responses", json={"model": "m" * 100})
        listed = await stage.play("GET /v1/models")
    error = played.error
    assert error["param"] == "model" and "m" * 64 + "..." in error["message"]
    assert "azure" not in error["message"] and listed.status == 200


async def test_an_upstream_without_either_has_no_such_layer() -> None:
    async with Stage(upstream={"azure": answer()}, settings=settings("")) as stage:
        odd = b'{"model":"a","model":"b"}'
        played = await stage.play(IMAGES, body=odd, headers={"Content-Type": "application/json"})
    assert played.status == 200 and stage.asked[0].body == odd
