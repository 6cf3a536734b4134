"""Answers made at random: our names wherever they may stand and wherever they may not, written in every way."""

from __future__ import annotations

import base64
import json
from collections.abc import MutableSequence, Sequence
from functools import cache
from random import Random
from typing import Any, TypeVar

from .plain import Object

HEADS = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    b'<svg xmlns="',
    b"",
)
NAMES = {
    "": (
        "id",
        "model",
        "status",
        "size",
        "quality",
        "output_format",
        "usage",
        "tool_usage",
        "svg_usage",
        "error",
        "data",
        "output",
        "choices",
        "created",
        "metadata",
    ),
    "event": (
        "type",
        "b64_json",
        "partial_image_b64",
        "item",
        "response",
        "item_id",
        "output_index",
        "partial_image_index",
        "code",
        "message",
        "param",
        "usage",
        "choices",
        "output",
        "data",
        "error",
        "model",
    ),
    "data": ("b64_json", "url", "revised_prompt"),
    "output": ("type", "id", "status", "result", "error", "output_format", "size", "svg_usage"),
    "choices": ("message", "delta", "finish_reason", "error", "index"),
    "message": ("images", "content", "role"),
    "images": ("image_url", "type", "index"),
    "image_url": ("url", "detail"),
    "usage": ("input_tokens", "output_tokens", "usage", "data"),
}
NAMES |= {"item": NAMES["output"], "delta": NAMES["message"], "content": NAMES["images"], "response": NAMES[""]}
NAMES |= {"tool_usage": NAMES["usage"], "svg_usage": NAMES["usage"], "error": ("message", "code", "type", "b64_json")}
ALL = tuple(sorted({name for names in NAMES.values() for name in names}))
LISTS = ("data", "output", "choices", "images", "content")
OBJECTS = ("message", "delta", "item", "response", "image_url", "usage", "tool_usage", "svg_usage", "error", "metadata")
TYPES = ("image_generation.partial_image", "image_generation.completed", "image_edit.completed", "error")
TYPES += ("response.completed", "response.failed", "response.output_item.done", "ping")
TEXTS = (
    "",
    "a cat",
    'so "b64_json": "AAAA" said',
    "\\",
    '\\\\"',
    "ü\n\t🐈",
    "/a/b",
    '{"data":[{"url":"x"}]}',
    "{[",
    "]}",
)


T = TypeVar("T")


class Dice(Random):
    """Chance at a third of its price: ten thousand throws go into one answer, and a million answers are wanted."""

    def randrange(self, stop: int) -> int:  # type: ignore[override]
        return int(self.random() * stop)

    def randint(self, a: int, b: int) -> int:
        return a + int(self.random() * (b - a + 1))

    def choice(self, seq: Sequence[T]) -> T:  # type: ignore[override]
        return seq[int(self.random() * len(seq))]

    def shuffle(self, x: MutableSequence[Any]) -> None:
        x.sort(key=lambda _: self.random())  # type: ignore[attr-defined]


class Written(str):
    """A string that is to be written with escapes that nobody needs."""


def encoded(rng: Random) -> str:
    """Base64, mostly right."""
    text = base64.b64encode(rng.choice(HEADS) + rng.randbytes(rng.choice((0, 1, 2, 3, 5, 9, 40, 41, 60)))).decode()
    match rng.randrange(14):
        case 0:
            text = text.rstrip("=")
        case 1:
            text = text.replace("+", "-").replace("/", "_")
        case 2:
            text = "\n".join(text[at : at + 19] for at in range(0, len(text), 19)) + "\n"
        case 3:
            text += rng.choice(("=", "==", "AA", "=A", "!", " ", "é"))
        case 4 if text:
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice('=!*\0 "\\ü,') + text[at + 1 :]
        case 5 if text:
            text = text[: rng.randrange(len(text))]
        case 6:
            text = rng.choice(("", "d", "data", "data:", "null", "error", "====", "   ", "dataAAAA"))
        case 7:
            text = uri(rng)
    return Written(text) if rng.randrange(4) == 0 else text


def uri(rng: Random) -> str:
    """A URL of some sort, a data: one mostly."""
    match rng.randrange(9):
        case 0:
            return rng.choice(("https://example.com/a.png?x=%2F", "http://a", "HTTPS://A/b", "/files/a.png"))
        case 1:
            return rng.choice(("", "ftp://a", "x", "https://", "/", "dat", "javascript:1", "data:,", "data:,x"))
        case 2:
            return "data:image/svg+xml,%3Csvg%3E" + rng.choice(("", "x"))
        case 3:
            return "data:" + "x" * rng.choice((10, 250, 260, 400)) + rng.choice((";base64,AAAA", ",", ""))
    head = rng.choice(("data:image/png;base64,", "DATA:image/jpeg;charset=x;Base64,", "data:;base64,"))
    text = head + base64.b64encode(rng.choice(HEADS) + rng.randbytes(rng.choice((0, 3, 30)))).decode()
    return Written(text) if rng.randrange(4) == 0 else text


def value(rng: Random, name: str, depth: int) -> Any:
    """A value such as may stand under that name, or now and then anything."""
    if rng.randrange(12) == 0:
        name = rng.choice(ALL)
    if depth > 6 or rng.randrange(14) == 0:
        return rng.choice((None, True, 0, -1.5e3, 10**30, "", "failed", "x" * rng.choice((30, 300))))
    if name in LISTS:
        return [made(rng, name, depth + 1) for _ in range(rng.choice((0, 1, 1, 2)))]
    if name in OBJECTS:
        return made(rng, name, depth + 1)
    if name in ("b64_json", "partial_image_b64", "result"):
        return encoded(rng)
    if name == "url":
        return uri(rng)
    if name == "type":
        return (
            rng.choice(TYPES) if depth == 0 else rng.choice(("image_generation_call",) * 3 + ("message", "image_url"))
        )
    if name in ("id", "item_id"):
        return rng.choice(("ig_1", "ig_2", "ü"))
    if name == "status":
        return rng.choice(("completed", "completed", "completed", "failed", "in_progress"))
    if name.endswith("index"):
        return rng.randrange(3)
    return rng.choice((*TEXTS, 1, None))


def made(rng: Random, name: str, depth: int) -> Object:
    """An object such as may stand under that name."""
    names = list(NAMES.get(name, ALL))
    rng.shuffle(names)
    del names[rng.choice((1, 2, 3, 4, 6) if depth < 3 else (1, 1, 2, 3)) :]
    if rng.randrange(4) == 0:
        names.append(rng.choice(ALL))
    if rng.randrange(9) == 0:
        names.append(rng.choice(names))
    inner = {"images": "images", "content": "images"}.get(name, name)
    return Object((one, value(rng, one, depth)) for one in names if inner or one)


def written(rng: Random, what: Any, blanks: bytes = b" \t\r\n") -> bytes:
    """JSON, compact or with white space anywhere, escaped or not."""
    loose = rng.randrange(3) == 0
    quoted = rng.choice(QUOTED)

    def gap() -> str:
        if not loose or rng.randrange(2):
            return ""
        return "".join([chr(rng.choice(blanks)) for _ in range(rng.choice((1, 2)))])

    def string(text: str) -> str:
        if isinstance(text, Written):
            return f'"{"".join([_escaped(rng, char) for char in text])}"'
        return quoted(text)

    def one(what: Any) -> str:
        if isinstance(what, Object):
            members = [
                f"{gap()}{string(Written(key) if rng.randrange(30) == 0 else key)}{gap()}:{gap()}{one(inner)}{gap()}"
                for key, inner in what
            ]
            return "{" + (",".join(members) or gap()) + "}"
        if isinstance(what, list):
            return "[" + (",".join([gap() + one(inner) + gap() for inner in what]) or gap()) + "]"
        return string(what) if isinstance(what, str) else json.dumps(what)

    return (gap() + one(what) + gap()).encode()


QUOTED = (json.encoder.encode_basestring, json.encoder.encode_basestring_ascii)


def _escaped(rng: Random, char: str) -> str:
    match rng.randrange(6):
        case 0 if ord(char) < 0x10000:
            return rng.choice(("\\u%04x", "\\u%04X")) % ord(char)
        case 1 if char == "/":
            return "\\/"
    return _plainly(char)


@cache
def _plainly(char: str) -> str:
    return json.dumps(char)[1:-1]


def document(rng: Random) -> bytes:
    """A JSON answer."""
    bom = b"\xef\xbb\xbf" if rng.randrange(20) == 0 else b""
    return bom + written(rng, made(rng, "", 0) if rng.randrange(30) else value(rng, rng.choice(ALL), 0))


def stream(rng: Random) -> bytes:
    """A stream of events."""
    ends = rng.choice(((b"\n",), (b"\r\n",), (b"\r",), (b"\n", b"\r\n", b"\r")))
    lines: list[bytes] = []
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        event = []
        if rng.randrange(3) == 0:
            event.append(b"event:" + rng.choice((b"", b" ")) + rng.choice((*TYPES, "x", "")).encode())
        if rng.randrange(6) == 0:
            event.append(rng.choice((b": keep-alive", b":", b"id: 1", b"retry", b"datax: {}", b"event", b"x" * 20)))
        text = rng.choice((b"", b"[DONE]", b"ping", b"{")) if rng.randrange(12) == 0 else None
        if text is None:
            text = written(rng, made(rng, "event", 0), b" \t\n")
        data = [b"data:" + rng.choice((b"", b" ")) + line for line in text.split(b"\n")]
        if rng.randrange(4) == 0:
            data.append(b"data")
        lines += [*(event + data if rng.randrange(4) else data + event), b""]
        if rng.randrange(8) == 0:
            lines += [rng.choice((b": comment", b"event: ping", b"data:")), b""]
    if rng.randrange(4) == 0:
        lines += [b"data: [DONE]", b""]
    if lines and rng.randrange(6) == 0:
        del lines[-1]
    bom = b"\xef\xbb\xbf" if rng.randrange(20) == 0 else b""
    return bom + b"".join(line + rng.choice(ends) for line in lines)


def mutated(rng: Random, data: bytes) -> bytes:
    """The same with a few bytes changed, most of them where it matters."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        new = rng.choice(
            (b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"0", b"e", b"\xff", b" ", b"\0")
        )
        data = data[:at] + new + data[at + rng.choice((0, 0, 1, 1, 5)) :]
    return data[: rng.randrange(len(data) + 1)] if rng.randrange(6) == 0 else data


def cut(rng: Random, data: bytes) -> list[bytes]:
    """The same in pieces: a few anywhere, many small ones, now and then one for each byte."""
    kind = rng.randrange(50)
    if kind == 0:
        return single(data)
    if kind < 5:
        places, at, most = [0], 0, rng.choice((2, 5, 30))
        while at < len(data):
            at += rng.randint(0, most)
            places.append(at)
    else:
        places = sorted([0] + [rng.randint(0, len(data)) for _ in range(rng.choice((1, 2, 4, 9)))])
    return [data[at:end] for at, end in zip(places, [*places[1:], len(data)], strict=True)]


def single(data: bytes) -> list[bytes]:
    """The same byte by byte."""
    return [data[at : at + 1] for at in range(len(data))]
