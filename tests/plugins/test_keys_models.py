"""A key that may use some models: what it may, what it may not, and every way round that was thought of."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web
from multidict import CIMultiDict

from plugins.keys_models import may
from proxy.api import Body, Caller
from proxy.testkit import Answer, RawClient, ScriptedUpstream, Served, serve

from ..openai.test_operation_refused import FORM, field, form
from ..wire.sockets import upstream as socket_upstream

MINE, ALL = "mine-key-0123456789-0123456789-012345678", "all-key-0123456789-0123456789-0123456789"
OTHERS = "somebody-elses-model"
ENVIRON = {"MINE": MINE, "ALL": ALL, "OTHER": "other-key-0123456789-0123456789-01234567"}
IMAGES = "POST /v1/images/generations"
RESPONSES = "POST /v1/responses"
JSON = {"Content-Type": "application/json"}
MULTI = {"Content-Type": FORM}
LIST = b'{"object":"list","data":[{"id":"gpt-image-2"},{"id":"gpt-5"},{"id":"omni-moderation-latest"}]}'


def config(url: str) -> str:
    return f"""
[upstreams.only]
base_url = "{url}"
[keys.mine]
secret = "env:MINE"
models = ["gpt-image-*", "gpt-5-mini"]
endpoints = ["*"]
[keys.other]
secret = "env:OTHER"
models = ["{OTHERS}"]
[keys.all]
secret = "env:ALL"
endpoints = ["*"]
[[routes]]
match = "* /v1/*"
chain = ["keys"]
"""


@asynccontextmanager
async def house() -> AsyncIterator[tuple[ScriptedUpstream, Served]]:
    async with ScriptedUpstream() as upstream, serve(config(upstream.url), environ=ENVIRON) as served:
        yield upstream, served


async def ask(
    served: Served, line: str, body: bytes = b"", headers: dict[str, str] | None = None, key: str = MINE
) -> Answer:
    told = {"Host": "a", "x-api-key": key, "Content-Length": str(len(body)), **(headers or {})}
    head = "".join([f"{name}: {value}\r\n" for name, value in told.items()])
    async with RawClient(served.port) as client:
        return await client.ask(f"{line} HTTP/1.1\r\n{head}\r\n".encode() + body)


def error(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(answer.body)["error"]
    return found


# --- What it may


@pytest.mark.parametrize(
    ("line", "body", "headers"),
    [
        (IMAGES, b'{ "model" : "gpt-image-2", "prompt":"x"}', JSON),
        (IMAGES + "?model=gpt-image-2", b'{"model":"gpt-image-2"}', JSON),
        (IMAGES, b'{"mod\\u0065l":"gpt\\u002dimage-2"}', JSON),
        (RESPONSES, b'{"model":"gpt-5-mini","tools":[{"type":"image_generation","model":"gpt-image-2"}]}', JSON),
        (RESPONSES, b'{"model":"gpt-5-mini","tool_choice":{"type":"image_generation"},"input":"x"}', JSON),
        (RESPONSES, b'{"model":"gpt-5-mini","metadata":{"model":"o9"},"input":[{"role":"user"}]}', JSON),
        (IMAGES, b'{"model":"gpt-image-2","output_format":"svg","svg":{"model":"gpt-5-mini"}}', JSON),
        ("POST /v1/images/edits", form(field("image", "x", '; filename="a"'), field("model", "gpt-image-2")), MULTI),
        ("POST /v1/videos", b'{"model":"gpt-image-2"}', JSON),
        ("POST /v1/moderations", b'{"input":"x"}', JSON),
        ("GET /v1/models/gpt-image-2", b"", {}),
        ("GET /v1/models/gpt-image-2%3Aft", b"", {}),
    ],
)  # fmt: skip
async def test_what_names_its_models_goes_through_untouched(line: str, body: bytes, headers: dict[str, str]) -> None:
    async with house() as (upstream, served):
        assert (await ask(served, line, body, headers)).status == 200
    (received,) = upstream.requests
    assert received.line == f"{line} HTTP/1.1".encode()
    assert (received.body or b"") == body


@pytest.mark.parametrize(
    ("name", "may_use"),
    [
        ("gpt-image-2", True),
        ("gpt-image-", True),
        ("gpt-5-mini", True),
        ("GPT-image-2", False),
        (" gpt-5-mini", True),  # the name is the same, and so is the model where blanks are cut off
        ("gpt-5-mini\n", True),
        ("gpt-5", False),
        ("xgpt-image-2", False),
        ("gpt-image-2,gpt-5-mini", True),
        ("gpt-image-2,o9", False),
        ("gpt-image-2,", False),
        ("gpt-5-mini\x00o9", False),
    ],
)
def test_globs_are_held_against_whole_names(name: str, may_use: bool) -> None:
    assert may(Caller("a", models=("gpt-image-*", "gpt-5-mini")), name) is may_use


# --- What it may not


NO = [
    # Another model, wherever it is named.
    (IMAGES, b'{"model":"o9"}', JSON),
    (IMAGES, b'{"mod\\u0065l":"o9"}', JSON),
    (IMAGES, b'{"model":"gpt-image-2,o9"}', JSON),
    (IMAGES, b'{"model":"gpt-image-2","models":["gpt-image-2","o9"]}', JSON),
    (IMAGES, b'{"model":"gpt-image-2","fallbacks":["o9"]}', JSON),
    (IMAGES, b'{"model":"gpt-image-2","fallbacks":[{"gpt-image-2":["o9"]}]}', JSON),
    (IMAGES, b'{"model":"gpt-image-2","extra_body":{"model":"o9"}}', JSON),
    (IMAGES, b'{"model":"gpt-image-2","output_format":"svg","svg":{"model":"o9"}}', JSON),
    (RESPONSES, b'{"model":"gpt-5-mini","tools":[{"type":"image_generation","model":"o9"}]}', JSON),
    (RESPONSES, b'{"model":"gpt-5-mini","moderation":{"model":"o9"}}', JSON),
    ("POST /v1/images/edits", form(field("image", "x", '; filename="a"'), field("model", "o9")), MULTI),
    ("POST /v1/images/edits", form(field("model", "gpt-image-2"), field("svg[model]", "o9")), MULTI),
    ("POST /v1/images/edits", form(field("model", "gpt-image-2"), field("models[]", "o9")), MULTI),
    ("POST /v1/images/edits", form(field("model", "gpt-image-2"), field("x", '{"model":"o9"}')), MULTI),
    ("POST /v1/moderations", b'{"model":"o9"}', JSON),
    ("GET /v1/models/o9", b"", {}),
    ("HEAD /v1/models/o9", b"", {}),
    (IMAGES, b'{"model":"gpt-image-2"}', {**JSON, "x-ms-oai-image-generation-deployment": "o9"}),
    # None, so that the upstream would choose.
    (IMAGES, b"", {}),
    (IMAGES, b"{}", JSON),
    (IMAGES, b'{"model":null}', JSON),
    (IMAGES, b'{"model":""}', JSON),
    (IMAGES + "?model=gpt-image-2", b"{}", JSON),
    ("POST /v1/videos", b"{}", JSON),
    (RESPONSES, b'{"model":"gpt-5-mini","tools":[{"type":"image_generation"}]}', JSON),
    (RESPONSES, b'{"model":"gpt-5-mini","prompt":{"id":"pmpt_1"}}', JSON),
    (IMAGES, b'{"model":"gpt-image-2","output_format":"svg"}', JSON),
    ("POST /v1/images/edits", form(field("prompt", "x")), MULTI),
    # Where it can't be seen.
    ("POST /v1/videos", b"gpt-image-2", {"Content-Type": "text/plain"}),
    ("POST /v1/realtime/calls?model=gpt-image-2", b"v=0", {"Content-Type": "application/sdp"}),
    ("POST /v1/batches", b'{"model":"gpt-image-2"}', JSON),
    ("POST /v1/files", b"{}", JSON),
    ("GET /v1/responses/resp_1", b"", {}),
    ("POST /v1/fine_tuning/jobs", b'{"model":"gpt-image-2"}', JSON),
    ("POST /v1/realtime/client_secrets", b'{"session":{"model":"gpt-image-2"}}', JSON),
    ("POST /v1/deployments/gpt-image-2/images/generations", b'{"model":"gpt-image-2"}', JSON),
    ("POST /v1/Images/generations", b'{"model":"gpt-image-2"}', JSON),
]  # fmt: skip


@pytest.mark.parametrize(("line", "body", "headers"), NO, ids=range(len(NO)))
async def test_what_is_not_its_own_or_cant_be_seen_is_refused(line: str, body: bytes, headers: dict[str, str]) -> None:
    async with house() as (upstream, served):
        if line.startswith("HEAD"):
            async with RawClient(served.port) as client:
                head = f"{line} HTTP/1.1\r\nHost: a\r\nx-api-key: {MINE}\r\n\r\n".encode()
                assert (await client.ask(head, bodiless=True)).status == 403
        else:
            answer = await ask(served, line, body, headers)
            told = error(answer)
            assert (answer.status, told["code"], told["type"]) == (403, "permission_denied", "permission_error")
            assert told["param"] == "model" and told["message"].endswith("This key may use: gpt-image-*, gpt-5-mini.")
            assert OTHERS not in told["message"] and "omni" not in told["message"]
        assert upstream.connections == 0


GOOD = b'{"model":"gpt-image-2"}'


@pytest.mark.parametrize(
    ("line", "body", "headers", "status"),
    [
        (IMAGES, b'{"model":"gpt-image-2","model":"o9"}', JSON, 400),
        (IMAGES, b'{"model":"gpt-image-2","mod\\u0065l":"o9"}', JSON, 400),
        (IMAGES, b'{"model":"gpt-image-2","Model":"o9"}', JSON, 400),
        (IMAGES, b'{"model":["gpt-image-2","o9"]}', JSON, 400),
        (IMAGES, b'\xef\xbb\xbf{"model":"gpt-image-2"}', JSON, 400),
        (IMAGES, '{"model":"gpt-image-2"}'.encode("utf-16"), JSON, 400),
        (IMAGES, GOOD, {"Content-Type": "application/json; charset=utf-16"}, 415),
        (IMAGES, gzip.compress(b'{"model":"o9"}', mtime=0), {**JSON, "Content-Encoding": "gzip"}, 415),
        (IMAGES, GOOD, {"Content-Type": "text/plain"}, 415),
        (IMAGES, b"model=gpt-image-2", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (IMAGES + "?model=o9", GOOD, JSON, 400),
        (IMAGES + "?model=gpt-image-2&mod%65l=o9", GOOD, JSON, 400),
        (IMAGES + "/", GOOD, JSON, 400),
        ("POST /v1//images/generations", GOOD, JSON, 400),
        ("POST /v1/images/gener%61tions", GOOD, JSON, 400),
        ("POST /v1/images%2Fgenerations", GOOD, JSON, 400),
        ("POST /v1/images/../images/generations", GOOD, JSON, 400),
        ("GET /v1/models/gpt-image-2%2Fo9", b"", {}, 400),
        ("POST /v1/images/edits", form(field("model", "gpt-image-2"), field("model", "o9")), MULTI, 400),
        ("POST /v1/images/edits", form(field("model", "gpt-image-2"), field("model[]", "o9")), MULTI, 400),
        ("POST /v1/images/edits", form(field("model", "gpt-image-2"), field("MODEL", "o9")), MULTI, 400),
        ("POST /v1/images/edits", form(field("model", "gpt-image-2"), field("x", "y", "; name=model")), MULTI, 400),
        ("POST /v1/images/edits", form(field("model", "o9", '; filename="a"')), MULTI, 400),
        ("POST /v1/images/edits", form(field("model", "gpt-image-2")) + b"--B\r\n", MULTI, 400),
    ],
)  # fmt: skip
async def test_no_way_leads_round(line: str, body: bytes, headers: dict[str, str], status: int) -> None:
    async with house() as (upstream, served):
        assert (await ask(served, line, body, headers)).status == status
        assert upstream.connections == 0


async def test_a_refusal_names_the_place_and_not_more_of_the_word_than_is_needed() -> None:
    tools = [{"type": "function", "name": "a"}, {"type": "image_generation", "model": "x" * 500}]
    async with house() as (_, served):
        body = orjson.dumps({"model": "gpt-5-mini", "tools": tools})
        told = error(await ask(served, RESPONSES, body, JSON))["message"]
    assert told == (
        f"This key may not use the model {'x' * 64!r}, named in 'tools[1].model'. "
        "This key may use: gpt-image-*, gpt-5-mini."
    )


async def test_a_document_that_is_too_long_to_be_read_is_refused_before_it_is_sent() -> None:
    async with house() as (upstream, served):
        told = await ask(served, IMAGES, b"{", {**JSON, "Content-Length": str(65 * 2**20)})
    assert (told.status, error(told)["param"], upstream.connections) == (403, "model", 0)


async def test_the_list_is_narrowed_and_a_key_without_models_sees_all() -> None:
    async with house() as (upstream, served):
        upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(LIST),
            LIST,
        )
        assert [one["id"] for one in orjson.loads((await ask(served, "GET /v1/models")).body)["data"]] == [
            "gpt-image-2"
        ]
        assert (await ask(served, "GET /v1/models", key=ALL)).body == LIST
        upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
        async with RawClient(served.port) as client:  # seen when its body, which never comes, was to be narrowed
            head = f"HEAD /v1/models HTTP/1.1\r\nHost: a\r\nx-api-key: {MINE}\r\n\r\n".encode()
            assert (await client.ask(head, bodiless=True)).status == 200


async def test_a_key_without_models_pays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(*_: object, **__: object) -> Body:
        raise AssertionError("somebody looked into the body")

    monkeypatch.setattr(Body, "keep", kept)
    odd = b'{"model":"a","model":"b"}'
    async with house() as (upstream, served):
        assert (await ask(served, IMAGES, odd, JSON, ALL)).status == 200
        assert (await ask(served, IMAGES, gzip.compress(odd), {**JSON, "Content-Encoding": "gzip"}, ALL)).status == 200
    assert upstream.requests[0].body == odd


async def test_a_form_is_forwarded_whole_when_its_model_follows_a_long_file() -> None:
    picture = b"\0\xff\r\n-" * (4 * 2**20)
    body = form(field("image", "%", '; filename="a.png"'), field("model", "gpt-image-2")).replace(b"%", picture)
    worse = body.replace(b"gpt-image-2", b"o9")
    async with house() as (upstream, served):
        assert (await ask(served, "POST /v1/images/edits", body, MULTI)).status == 200
        assert (await ask(served, "POST /v1/images/edits", worse, MULTI)).status == 403
    (received,) = upstream.requests
    assert received.body == body


# --- Sockets


@asynccontextmanager
async def talking(target: str) -> AsyncIterator[tuple[list[str], ClientWebSocketResponse]]:
    """A socket at that target, and what upstream hears of it; it says each thing again."""
    heard: list[str] = []

    async def listen(request: web.Request) -> web.WebSocketResponse:
        end = web.WebSocketResponse()
        await end.prepare(request)
        async for message in end:
            heard.append(message.data)
            await end.send_str(message.data)
        return end

    async with socket_upstream(listen) as url, serve(config(url), environ=ENVIRON) as served, asyncio.timeout(10):
        async with ClientSession(headers=CIMultiDict({"x-api-key": MINE})) as session:
            async with session.ws_connect(f"ws://127.0.0.1:{served.port}{target}") as client:
                yield heard, client


REALTIME = "/v1/realtime?model=gpt-image-2"
SHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/realtime", 403),
        ("/v1/realtime?model=o9", 403),
        ("/v1/realtime?model=", 403),
        ("/v1/realtime?deployment=o9", 403),
        ("/v1/realtime?intent=transcription", 403),
        (REALTIME + "&call_id=rtc_1", 403),
        (REALTIME + "&c%61ll_id=rtc_1", 403),
        (REALTIME + "&model=o9", 400),
        ("/v1/responses?model=o9", 403),
    ],
)
async def test_a_socket_names_its_model_in_the_query(target: str, status: int) -> None:
    async with house() as (upstream, served):
        answer = await ask(served, f"GET {target}", headers=SHAKE)
        assert answer.status == status and upstream.connections == 0
        assert status == 400 or error(answer)["param"] == "model"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (REALTIME, b'{"type":"session.update","session":{"model":"o9"}}'),
        (REALTIME, b'{"type":"session.update","session":{"mod\\u0065l":"o9"}}'),
        (REALTIME, b'{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"o9"}}}}}'),
        (REALTIME, b'{"type":"session.update","session":{"model":"gpt-image-2","model":"o9"}}'),
        (REALTIME, b"no JSON, model o9"),
        ("/v1/responses", b'{"type":"response.create","model":"o9","input":"x"}'),
        ("/v1/responses", b'{"type":"response.create","input":"x"}'),
        ("/v1/responses", b'{"model":null}'),
        ("/v1/responses", b'{"type":"response.create","model":"gpt-5-mini","tools":[{"type":"image_generation"}]}'),
    ],
)
@pytest.mark.parametrize("how", ["text", "binary"])
async def test_a_message_with_another_model_ends_the_socket(target: str, message: bytes, how: str) -> None:
    good = b'{"type":"response.create","model":"gpt-5-mini"}'.decode()
    async with talking(target) as (heard, client):
        await client.send_str(good)
        assert (await client.receive()).data == good
        await (client.send_str(message.decode()) if how == "text" else client.send_bytes(message))
        await client.send_str(good)
        told = await client.receive()
        last = await client.receive()
    assert orjson.loads(told.data)["type"] == "error" and orjson.loads(told.data)["status"] in (400, 403)
    assert (last.type, client.close_code) == (WSMsgType.CLOSE, 1008)
    assert heard == [good]


async def test_a_watched_socket_carries_all_else_as_it_is() -> None:
    said = [
        '{"type": "session.update", "session": {"model" : "gpt-image-2"}}',
        '{"type":"response.create"}',
        '{"type":"input_audio_buffer.append","audio":"' + "UklG" * 100_000 + '"}',
        '{"model":"gpt-5-mini"}',
    ]
    async with talking(REALTIME) as (heard, client):
        for message in said:
            await client.send_str(message)
            assert (await client.receive()).data == message
        await client.ping(b"x")
        await client.close(code=1000)
    assert heard == said
