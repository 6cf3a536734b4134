"""What is asked and answered: bodies of one size each, the same on every machine."""

from __future__ import annotations

import base64
import json
import math
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import cache

MODEL = "gpt-image-2"
CHAT_MODEL = "gpt-4o-mini"
EVENT = b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini",'
SMALL_QUESTION = (
    b'{"model":"gpt-4o-mini","messages":[{"role":"system","content":"You answer in one short sentence."},'
    b'{"role":"user","content":"Which colour has a lychgate in the rain, and why?"}],"max_tokens":64}'
)
SMALL_ANSWER = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Dark brown, for wet oak drinks the light."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":31,"completion_tokens":12,"total_tokens":43}}'
)
IMAGE_QUESTION = b'{"model":"gpt-image-2","prompt":"a lychgate in the rain","size":"1024x1024","quality":"high"}'
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\4\0\0\0\4\0\x08\2\0\0\0"  # the head of one of 1024 x 1024
URL_QUESTION = IMAGE_QUESTION[:-1] + b',"response_format":"url"}'


@cache
def image_answer(size: int) -> bytes:
    """The answer to an image generation, exactly that many bytes of JSON, nearly all of it base64."""
    before = b'{"created":1700000000,"data":[{"b64_json":"'
    after = b'"}],"usage":{"total_tokens":4200,"input_tokens":40,"output_tokens":4160}}'
    room = size - len(before) - len(after)
    # Base64 comes in fours; blanks behind it make the size exact.
    text = picture(room // 4 * 4)
    return before + text + after[:-1] + b" " * (room % 4) + after[-1:]


def picture(characters: int) -> bytes:
    """So many characters of base64: a PNG's head, and noise."""
    return base64.b64encode(PNG + random.Random(characters).randbytes(characters // 4 * 3 - len(PNG)))


@cache
def png(size: int) -> bytes:
    """A picture's file: the head of a PNG, and noise up to so many bytes."""
    return PNG + random.Random(size).randbytes(size - len(PNG))


def chat_events(count: int) -> Iterator[bytes]:
    """The events of a streamed chat answer, and the one that ends it."""
    for number in range(count):
        yield EVENT + b'"choices":[{"index":0,"delta":{"content":" word%d"}}]}\n\n' % number
    yield b"data: [DONE]\n\n"


@cache
def _partial(size: int) -> bytes:
    return picture(size)


def picture_events(count: int, size: int) -> Iterator[bytes]:
    """Partial pictures as they are streamed, each of about that size."""
    for number in range(count):
        yield (
            b"event: image_generation.partial_image\n"
            b'data: {"type":"image_generation.partial_image","partial_image_index":%d,"b64_json":"%b"}\n\n'
            % (number, _partial(size))
        )


@cache
def edit(size: int) -> tuple[bytes, bytes]:
    """An edit with a picture of that many bytes, as multipart: its content type and its body."""
    edge = b"framegate-bench-7f3a"
    fields = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (edge, name, value)
        for name, value in ((b"model", MODEL.encode()), (b"prompt", b"a lychgate in the sun"))
    )
    head = b'--%b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    body = fields + head % edge + noise(size) + b"\r\n--%b--\r\n" % edge
    return b"multipart/form-data; boundary=" + edge, body


def noise(size: int) -> bytes:
    """A PNG of about that many bytes that every decoder opens: a square of noise, as it is."""
    side = math.isqrt(size // 3)
    pixels = random.Random(size)
    lines = b"".join([b"\0" + pixels.randbytes(side * 3) for _ in range(side)])
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines, 0)),
        (b"IEND", b""),
    )
    return PNG[:8] + b"".join(
        [
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        ]
    )


def verdict(asked: Sequence[object]) -> bytes:
    """A moderation's answer that finds nothing: a result for each text, or one for all parts."""
    count = len(asked) if asked and isinstance(asked[0], str) else 1
    names = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")
    result = {
        "flagged": False,
        "categories": dict.fromkeys(names, False),
        "category_scores": dict.fromkeys(names, 0.01),
    }
    return json.dumps({"id": "modr-bench", "model": "omni-moderation-latest", "results": [result] * count}).encode()
