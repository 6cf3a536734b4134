"""Records what the official SDK and other clients send, with what it asks: `python -m tests.openai.record`.

What is expected stands beside each request, as somebody reads it who knows the API, and not as our code reads it.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import Any

import httpx2
import openai
import orjson

from .asking import LONG, MARK, RECORDED
from .record_calls import (
    ELSEWHERE,
    PNG,
    PROMPT,
    REMOTE,
    STORED,
    URL,
    Case,
    Client,
    drawn,
    images,
    inline,
    others,
    text,
    upload,
)
from .record_talk import azure, chats, responses

JSON = "application/json"


def raw(by: str, target: str, kind: str | None, body: bytes, expected: dict[str, Any], method: str = "POST") -> Any:
    as_text = body.decode("latin-1")
    return {"by": by, "method": method, "target": target, "type": kind, "body": as_text, "expected": expected}


def form(boundary: str, *fields: tuple[str, str, bytes]) -> bytes:
    """A form as its client writes it: each field with the rest of its headers."""
    said = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"
        for name, more, value in fields
    ]
    return b"".join(said) + f"--{boundary}--\r\n".encode()


def by_hand() -> list[dict[str, Any]]:
    node, curl = "----formdata-undici-012345678901", "------------------------0123456789abcdef"
    file = '; filename="a.png"\r\nContent-Type: image/png'
    blob = '; filename="blob"\r\nContent-Type: application/octet-stream'
    fields = [("prompt", "", PROMPT.encode()), ("model", "", b"gpt-image-2"), ("n", "", b"2")]
    two = {"model": "gpt-image-2", "n": 2}
    multipart = "multipart/form-data; boundary="
    edits = "/v1/images/edits"
    shapes = [
        (
            "node",
            multipart + node,
            form(node, *fields, ("mask", file, PNG), ("image[]", file, PNG), ("image[]", file, PNG)),
            drawn("edit", **two, images=[upload("mask"), upload("image[]"), upload("image[]")]),
        ),
        (
            "node",
            multipart + node,
            form(node, ("image", blob, PNG), *fields),
            drawn("edit", **two, images=[upload("image", "application/octet-stream", "blob")]),
        ),
        (
            "node",
            multipart + node,
            form(node, *fields, ("svg[model]", "", b"gpt-5"), ("svg[reasoning][effort]", "", b"low")),
            drawn("edit", **two),
        ),
        (
            "curl",
            multipart + curl,
            form(curl, ("image[]", file, PNG), ("stream", "", b"true"), *fields),
            drawn("edit", **two, stream=True, images=[upload("image[]")]),
        ),
        ("curl", f'{multipart}"{curl}"', form(curl, *fields), drawn("edit", **two)),
        ("curl", f"Multipart/Form-Data; charset=utf-8; boundary={curl}", form(curl, *fields), drawn("edit", **two)),
        (
            "curl",
            multipart + curl,
            form(curl, *fields, ("image", "", REMOTE.encode())),
            drawn("edit", **two, images=[["image", "url", REMOTE, None]], unseen=[["image", ELSEWHERE]]),
        ),
        (
            "curl",
            multipart + curl,
            form(curl, *fields, ("something_new", "", b"a word")),
            drawn("edit", **two, texts=[text("prompt", PROMPT), text("something_new", "a word")]),
        ),
        (
            "browser",
            multipart + "----WebKitFormBoundaryAbCdEfGhIjKlMnOp",
            form(
                "----WebKitFormBoundaryAbCdEfGhIjKlMnOp",
                *fields,
                ("mask", '; filename=""\r\nContent-Type: image/png', PNG),
            ),
            drawn("edit", **two, images=[upload("mask", name="")]),
        ),
    ]
    found = [raw(by, edits, kind, body, expected) for by, kind, body, expected in shapes]
    refs: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"images": [{"image_url": URL}]}, {"images": [inline("images[0].image_url")]}),
        (
            {"images": [{"image_url": LONG}, {"image_url": URL}], "mask": {"image_url": LONG}},
            {
                "images": [
                    ["images[0].image_url", "inline", "", "image/webp", LONG[23:]],
                    inline("images[1].image_url"),
                    ["mask.image_url", "inline", "", "image/webp", LONG[23:]],
                ]
            },
        ),
        (
            {"images": [{"file_id": "file-4"}]},
            {"images": [["images[0].file_id", "file", "file-4", None]], "unseen": [["images[0].file_id", STORED]]},
        ),
        (
            {"images": [{"image_url": REMOTE}]},
            {"images": [["images[0].image_url", "url", REMOTE, None]], "unseen": [["images[0].image_url", ELSEWHERE]]},
        ),
        ({"image": URL, "stream": True}, {"images": [inline("image")], "stream": True}),
        ({"images": [URL, URL]}, {"images": [inline("images[0]"), inline("images[1]")]}),
    ]
    for more, expected in refs:
        body = {"model": "gpt-image-2", "prompt": PROMPT, "n": 2, **more}
        for dump in (orjson.dumps(body), orjson.dumps(body, option=orjson.OPT_INDENT_2)):
            found.append(raw("curl", edits, "application/json; charset=utf-8", dump, drawn("edit", **two, **expected)))
    body = orjson.dumps({"model": "gpt-image-2", "prompt": PROMPT, "n": 2})
    for target, model in (
        ("/openai/deployments/my%20draw/images/generations?api-version=2025-04-01-preview", "my draw"),
        ("/openai/v1/images/generations", "gpt-image-2"),
        ("/openai/v1/images/generations?api-version=preview", "gpt-image-2"),
        ("/v1/images/generations?model=gpt-image-2", "gpt-image-2"),
        ("/other/prefix/v1/images/generations", "gpt-image-2"),
    ):
        found.append(raw("curl", target, JSON, body, drawn("generate", n=2, model=model)))
    escaped = b'{"prompt":"\\u0041 \\ud83e\\udd8a","mod\\u0065l":"gpt-image-2" , "n" : 2}'
    asks = drawn("generate", **two, texts=[text("prompt", "A 🦊")])
    found.append(raw("curl", "/v1/images/generations", JSON, escaped, asks))
    socket = {"capability": "audio", "paid": True, "unseen": [["", "what is said on the socket"]]}
    for target, expected in (
        ("/v1/realtime?model=gpt-realtime", {"kind": "realtime", "model": "gpt-realtime", **socket}),
        ("/openai/realtime?api-version=1&deployment=r", {"kind": "realtime", "model": "r", **socket}),
        ("/v1/responses", {"kind": "response", **socket, "capability": "text"}),
    ):
        found.append(raw("browser", target, None, b"", expected, "GET"))
    sdp = {"kind": "realtime", "capability": "audio", "paid": True}
    sdp["unseen"] = [["", "the body: it is neither JSON nor a form"], ["", "a conversation that does not pass here"]]
    found.append(raw("browser", "/v1/realtime/calls?model=m", "application/sdp", b"v=0", {**sdp, "model": "m"}))
    return found


def main() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        request.read()
        seen.append(request)
        return httpx2.Response(400, json={"error": {"message": "recorded"}})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    plain = openai.OpenAI(api_key="k", base_url="http://localhost/v1", http_client=http, max_retries=0)
    dated = openai.AzureOpenAI(
        api_key="k",
        azure_endpoint="http://localhost",
        api_version="2025-04-01-preview",
        http_client=http,
        max_retries=0,
    )
    warnings.simplefilter("ignore", DeprecationWarning)  # retired endpoints are still called
    lines = []
    groups: list[tuple[str, Client, list[Case]]] = [
        ("openai", plain, [*images(), *chats(), *responses(), *others()]),
        ("azure", dated, azure()),
    ]
    for by, client, cases in groups:
        for name, call, expected in cases:
            with contextlib.suppress(openai.APIStatusError):
                call(client)
            request = seen.pop()
            assert not seen, name
            target = request.url.raw_path.decode()
            kind = request.headers.get("content-type")
            lines.append(raw(f"{by}: {name}", target, kind, request.content, expected, request.method))
    lines += by_hand()
    RECORDED.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines).replace(LONG[23:].encode(), MARK))
    sys.stdout.write(f"{len(lines)} requests recorded with openai {openai.__version__}\n")


if __name__ == "__main__":
    main()
