"""What the sandbox refuses, asked with a plain HTTP client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from .running import running

IMAGES = "/images/generations"
CHAT = "/chat/completions"
JSON = {"Content-Type": "application/json"}
FOX = {"prompt": "a fox", "model": "gpt-image-2", "size": "64x64"}
HELLO = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}]}


def send(
    method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
    async def main() -> tuple[int, Any, dict[str, str]]:
        async with running() as base_url, aiohttp.ClientSession() as session:
            async with session.request(method, base_url + path, data=body, headers=headers) as response:
                return response.status, await response.json(), {k.lower(): v for k, v in response.headers.items()}

    return asyncio.run(main())


def post(path: str, body: object) -> tuple[int, Any, dict[str, str]]:
    return send("POST", path, json.dumps(body).encode(), JSON)


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"response_format": "url"}, 400, "response_format", "unknown_parameter"),
        ({"response_format": "b64_json"}, 400, "response_format", "unknown_parameter"),
        ({"style": "vivid"}, 400, "style", "unknown_parameter"),
        ({"colour": "red"}, 400, "colour", "unknown_parameter"),
        ({"prompt": None}, 400, "prompt", "missing_required_parameter"),
        ({"prompt": ""}, 400, "prompt", "empty_string"),
        ({"prompt": 7}, 400, "prompt", "invalid_type"),
        ({"prompt": "a" * 32_001}, 400, "prompt", "string_above_max_length"),
        ({"model": "dall-e-3"}, 404, "model", "model_not_found"),
        ({"model": "gpt-5-mini"}, 404, "model", "model_not_found"),
        ({"n": 0}, 400, "n", "integer_below_min_value"),
        ({"n": 11}, 400, "n", "integer_above_max_value"),
        ({"n": "2"}, 400, "n", "invalid_type"),
        ({"n": True}, 400, "n", "invalid_type"),
        ({"n": 1.5}, 400, "n", "invalid_type"),
        ({"size": "big"}, 400, "size", "invalid_value"),
        ({"size": "1000x1000"}, 400, "size", "invalid_value"),
        ({"size": "1024x320"}, 400, "size", "invalid_value"),
        ({"size": "3856x2160"}, 400, "size", "invalid_value"),
        ({"size": "3840x2176"}, 400, "size", "invalid_value"),
        ({"size": "0x0"}, 400, "size", "invalid_value"),
        ({"size": "1024x1024\n"}, 400, "size", "invalid_value"),
        ({"size": "\uff11024x1024"}, 400, "size", "invalid_value"),
        ({"quality": "hd"}, 400, "quality", "invalid_value"),
        ({"quality": "max"}, 400, "quality", "invalid_value"),
        ({"output_format": "bmp"}, 400, "output_format", "invalid_value"),
        ({"model": "gpt-image-1"}, 404, "model", "model_not_found"),
        ({"model": "gpt-image-1.5"}, 400, "size", "invalid_value"),
        ({"model": "gpt-image-2.5-flare", "quality": "hd"}, 400, "quality", "invalid_value"),
        ({"output_format": "gif", "stream": True}, 400, "stream", "invalid_value"),
        ({"output_format": "gif", "partial_images": 1}, 400, "partial_images", "invalid_value"),
        ({"output_format": "gif", "output_compression": 5}, 400, "output_compression", "invalid_value"),
        ({"output_format": "gif", "frame_count": 1}, 400, "frame_count", "integer_below_min_value"),
        ({"output_format": "gif", "background": "transparent"}, 400, "background", "invalid_value"),
        ({"output_format": "svg", "n": 2}, 400, "n", "invalid_value"),
        ({"output_format": "svg", "stream": True}, 400, "stream", "invalid_value"),
        ({"svg": {"model": "gpt-5"}}, 400, "svg", "invalid_value"),
        ({"svg": "gpt-5", "output_format": "svg"}, 400, "svg", "invalid_type"),
        ({"input_fidelity": "high"}, 400, "input_fidelity", "unknown_parameter"),
        ({"image": "x"}, 400, "image", "unknown_parameter"),
        ({"output_compression": 101, "output_format": "jpeg"}, 400, "output_compression", "integer_above_max_value"),
        ({"output_compression": 50}, 400, "output_compression", "invalid_png_output_compression"),
        ({"background": "blue"}, 400, "background", "invalid_value"),
        ({"background": "transparent", "output_format": "jpeg"}, 400, "background", "invalid_value"),
        ({"frame_count": 4}, 400, "frame_count", "invalid_value"),
        ({"moderation": "none"}, 400, "moderation", "invalid_value"),
        ({"partial_images": 4}, 400, "partial_images", "integer_above_max_value"),
        ({"user": 5}, 400, "user", "invalid_type"),
        ({"stream": "yes"}, 400, "stream", "invalid_type"),
    ],
)
def test_refuses_an_image_request(change: dict[str, Any], status: int, param: str, code: str) -> None:
    got, answer, headers = post(IMAGES, {**FOX, **change})
    error = answer["error"]
    assert (got, error["param"], error["code"]) == (status, param, code)
    assert error["type"] == "invalid_request_error"
    assert error["message"] and len(error["message"]) < 300
    assert set(answer) == {"error"} and set(error) == {"message", "type", "param", "code"}
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "change",
    [
        {"n": None, "quality": None, "stream": None, "size": "64x64", "background": None},
        {"stream": False, "moderation": "low", "complexity": "high", "user": "u1", "partial_images": 0},
        {"model": "gpt-image-2.5-flare", "quality": "max"},
        {"prompt": "a" * 32_000},
        {"prompt": "\u0000\u200d\u202e\ue000"},
        {"size": "16x16"},
    ],
)
def test_takes_what_openai_takes(change: dict[str, Any]) -> None:
    status, answer, _ = post(IMAGES, {**FOX, **change})
    assert status == 200, answer
    assert len(answer["data"]) == 1


def test_hands_the_safety_identifier_back() -> None:
    _, answer, _ = post(IMAGES, {**FOX, "user": "u1", "safety_identifier": "s1"})
    assert answer["safety_identifier"] == "s1"


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"model": None}, 400, "model", "missing_required_parameter"),
        ({"model": "gpt-image-2"}, 404, "model", "model_not_found"),
        ({"messages": None}, 400, "messages", "missing_required_parameter"),
        ({"messages": "hello"}, 400, "messages", "invalid_type"),
        ({"messages": []}, 400, "messages", "empty_array"),
        ({"messages": ["hello"]}, 400, "messages[0]", "invalid_type"),
        ({"messages": [{"content": "hello"}]}, 400, "messages[0].role", "missing_required_parameter"),
        ({"stream": 1}, 400, "stream", "invalid_type"),
    ],
)
def test_refuses_a_chat_request(change: dict[str, Any], status: int, param: str, code: str) -> None:
    got, answer, _ = post(CHAT, {**HELLO, **change})
    assert (got, answer["error"]["param"], answer["error"]["code"]) == (status, param, code)


@pytest.mark.parametrize("path", [IMAGES, CHAT])
@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b"[" * 5000, b"[]", b"null"]
)
def test_refuses_a_body_that_is_not_a_json_object(path: str, body: bytes) -> None:
    status, answer, _ = send("POST", path, body, JSON)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_refuses_a_body_that_is_not_what_its_encoding_says() -> None:
    status, answer, _ = send("POST", IMAGES, b"this is no gzip", {**JSON, "Content-Encoding": "gzip"})
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_refuses_a_body_whose_content_type_was_lost() -> None:
    status, answer, _ = send("POST", IMAGES, json.dumps(FOX).encode(), {"Content-Type": "text/plain"})
    assert status == 400
    assert "Content-Type" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/x"),
        ("GET", "/"),
        ("GET", "/models/"),
        ("POST", "/images/dreams"),
        ("GET", "/caf%C3%A9/%FF%22?a=b"),
    ],
)
def test_an_unknown_path_is_not_found(method: str, path: str) -> None:
    status, answer, _ = send(method, path)
    assert (status, answer["error"]["code"]) == (404, "unknown_url")
    shown = path.partition("?")[0].replace("%22", '"')  # the client itself unescapes the quote
    assert answer["error"]["message"].replace("%22", '"').startswith(f"Unknown request URL: {method} /v1{shown}.")


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", IMAGES, "POST"), ("PUT", CHAT, "POST"), ("DELETE", "/models/a", "GET,HEAD")]
)
def test_a_wrong_method_is_not_allowed(method: str, path: str, allowed: str) -> None:
    status, answer, headers = send(method, path)
    assert (status, headers["allow"]) == (405, allowed)
    assert answer["error"]["message"].startswith(f"Not allowed to {method} on /v1{path}.")


def test_an_unknown_model_is_not_found() -> None:
    status, answer, _ = send("GET", "/models/ft%3Agpt-5%3Aacme")
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize("key", [None, "Bearer nonsense", "anything at all"])
def test_any_key_will_do_and_so_will_none(key: str | None) -> None:
    status, _, _ = send("GET", "/models", None, {"Authorization": key} if key else {})
    assert status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/models", None),
        ("GET", "/nothing", None),
        ("PUT", "/models", None),
        ("POST", IMAGES, b"{"),
        ("POST", IMAGES, json.dumps(FOX).encode()),
        ("POST", CHAT, json.dumps(HELLO).encode()),
    ],
)
def test_every_answer_is_signed_as_openai_signs(method: str, path: str, body: bytes | None) -> None:
    _, _, headers = send(method, path, body, JSON)
    assert headers["x-request-id"].startswith("req_") and len(headers["x-request-id"]) == 36
    assert int(headers["openai-processing-ms"]) >= 0
    assert headers["openai-version"] == "2020-10-01"
