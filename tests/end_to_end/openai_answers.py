"""Answers such as OpenAI's edge gives, byte for byte: odd cases, repeated cookies, compression, streams, pictures."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Mapping

from proxy.testkit import Call

PICTURE = random.Random(1).randbytes(50_000)  # no test looks at it as a picture
EDGE = (
    b"Date: Sat, 21 Nov 2026 10:00:00 GMT\r\n"
    b"CF-RAY: 9a1-FRA\r\n"
    b"set-cookie: __cf_bm=one; path=/; HttpOnly\r\n"
    b"Set-Cookie: _cfuvid=two; path=/\r\n"
    b"openai-organization: org-x\r\n"
    b"x-request-id: req_0123\r\n"
    b"X-RateLimit-Remaining-Requests: 4999\r\n"
    b'alt-svc: h3=":443"; ma=86400\r\n'
)


def counted(body: bytes, kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    """An answer with a Content-Length."""
    head = b"HTTP/1.1 200 OK\r\n%bContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n" % (EDGE, kind, more, len(body))
    return head + body


def chunked(pieces: list[bytes], kind: bytes = b"text/event-stream; charset=utf-8", more: bytes = b"") -> bytes:
    """An answer in these chunks."""
    head = b"HTTP/1.1 200 OK\r\n%bContent-Type: %b\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (EDGE, kind, more)
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def told(answer: Mapping[str, object]) -> bytes:
    """Compact JSON that is not ASCII-escaped, as the service writes it."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


USAGE = {
    "input_tokens": 10,
    "output_tokens": 196,
    "total_tokens": 206,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 10},
}
ENCODED = base64.b64encode(PICTURE).decode()
IMAGES = counted(told({"created": 1, "data": [{"b64_json": ENCODED}], "size": "1024x1024", "usage": USAGE}))
COMPLETED = {
    "type": "image_generation.completed",
    "b64_json": ENCODED,
    "created_at": 1,
    "size": "1024x1024",
    "quality": "low",
    "background": "opaque",
    "output_format": "png",
    "usage": USAGE,
}
PARTIAL = {**COMPLETED, "type": "image_generation.partial_image", "partial_image_index": 0}
IMAGE_STREAM = chunked(
    [b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), told(event)) for event in (PARTIAL, COMPLETED)]
)
CHAT = counted(
    gzip.compress(
        told(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "gpt-5-mini",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": "Grüße"}, "finish_reason": "stop"}
                ],
            }
        ),
        mtime=0,
    ),
    more=b"content-encoding: gzip\r\nVary: Accept-Encoding\r\n",
)
DELTA = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini"}
DELTAS = [{**DELTA, "choices": [{"index": 0, "delta": {"content": word}}]} for word in ("mal ", "hören ", "…")]
CHAT_STREAM = chunked([b"data: %b\n\n" % told(delta) for delta in DELTAS] + [b": a comment\n\n", b"data: [DONE]\n\n"])
RESPONSE = counted(told({"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5", "output": []}))
EMBEDDING = counted(
    told({"object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": "AACAPw=="}]})
)
AUDIO = chunked([PICTURE[:7], PICTURE[7:30_000], PICTURE[30_000:]], b"audio/mpeg")
TRANSCRIPT = counted(told({"text": "hello"}))
FILE = counted(
    told({"id": "file-1", "object": "file", "bytes": 3, "created_at": 1, "filename": "a", "purpose": "batch"})
)
CONTENT = counted(PICTURE, b"application/octet-stream", b'content-disposition: attachment; filename="\xc3\xa4.bin"\r\n')
MODELS = counted(told({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "system"}]}))
DELETED = counted(told({"id": "ft:gpt-x:org::id", "object": "model", "deleted": True}))
MODERATION = counted(told({"id": "modr-1", "model": "omni-moderation-latest", "results": []}))
SLOW_DOWN = told({"error": {"message": "slow", "type": "requests", "param": None, "code": "rate_limit_exceeded"}})
LIMITED = counted(SLOW_DOWN, more=b"retry-after: 1\r\n").replace(b"200 OK", b"429 Too Many Requests", 1)


async def by_path(call: Call) -> None:
    """A script: the answer that belongs to what was asked for."""
    body = await call.body()
    path = call.received.target.partition(b"?")[0].removeprefix(b"/v1")
    stream = b'"stream":true' in body
    if path.startswith(b"/images/"):
        answer = IMAGE_STREAM if stream else IMAGES
    elif path == b"/chat/completions":
        answer = CHAT_STREAM if stream else CHAT
    elif path == b"/files":
        answer = FILE
    else:
        raise AssertionError(path)
    await call.send(answer)
