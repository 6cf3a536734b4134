"""A plugin looks into a request, and the same request goes on, byte for byte, from a socket to a socket."""

from __future__ import annotations

import orjson
import pytest

from proxy.api import Exchange, Forward, Plugin, Request, Response, operation, with_field
from proxy.testkit import RawClient, ScriptedUpstream, serve

from .asking import LONG

FORM = b'--B\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + b"\0\xff\r" * 700_000
FORM += b'\r\n--B\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--B--\r\n'
BODIES = {
    "short": (b"application/json", b'{"model":"a"}'),
    "long": (b"application/json", orjson.dumps({"image": LONG * 30, "model": "a", "prompt": "x"})),
    "form": (b"multipart/form-data; boundary=B", FORM),
}


class Looks(Plugin):
    """Looks twice, says what it saw, and forwards; where it is told to, with another model."""

    rename: bool = False

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        found = await operation(request)
        assert await operation(request) is found
        if self.rename:
            request = await with_field(request, "model", "other")
        response = await forward(request)
        return response.with_headers(x_saw=f"{found.kind} {found.model} {len(found.images)}")


def config(upstream: ScriptedUpstream, rename: bool) -> str:
    return f"""
        [upstreams.openai]
        base_url = "{upstream.url}"
        [plugins.looks]
        use = "{__name__}:Looks"
        rename = {"true" if rename else "false"}
        [[routes]]
        match = "* /v1/*"
        chain = ["looks"]
    """


@pytest.mark.parametrize("rename", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("kind", "body"), BODIES.values(), ids=BODIES)
async def test_what_was_looked_at_arrives(kind: bytes, body: bytes, chunked: bool, rename: bool) -> None:
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    head = b"POST /v1/images/edits HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\n%b\r\n\r\n" % (kind, framing)
    async with (
        ScriptedUpstream() as upstream,
        serve(config(upstream, rename)) as served,
        RawClient(served.port) as client,
    ):
        answer = await client.ask(head + sent)
    pictures = int(b"image" in body)
    assert (answer.status, answer.get(b"x-saw")) == (200, f"edit a {pictures}".encode())
    old, new = (b'"a"', b'"other"') if kind == b"application/json" else (b"\r\na\r\n", b"\r\nother\r\n")
    expected = body.replace(old, new) if rename else body
    assert upstream.requests[0].body == expected
