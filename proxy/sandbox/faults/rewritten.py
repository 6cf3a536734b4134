"""Faults that are the endpoint's answer with something in it changed; aiohttp sends it as ever."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import orjson

from ..answer import Answer, Events, Said, event
from .fault import Argument, Fault, How, Play, does_not_fit

Change = Callable[[Any], Any]
_MOST_MIB = 1024
_PICTURES = ("b64_json", "partial_image_b64")
_NOT_AN_IMAGE = base64.b64encode(b"This is not an image, whatever its name says.").decode()
_FAILED = "The server had an error while processing your request. Sorry about that!"


def pictures(value: Any, change: Callable[[str], str]) -> tuple[Any, int]:
    """The value with every picture in it changed, and how many there were; OpenAI's three names for them are known."""
    if isinstance(value, list):
        found = [pictures(item, change) for item in value]
        return [item for item, _ in found], sum(count for _, count in found)
    if not isinstance(value, dict):
        return value, 0
    told, total = {}, 0
    for name, item in value.items():
        is_result = name == "result" and value.get("type") == "image_generation_call"
        if (name in _PICTURES or is_result) and isinstance(item, str):
            told[name], count = change(item), 1
        else:
            told[name], count = pictures(item, change)
        total += count
    return told, total


def emptied(value: Any) -> Any:
    """The value without what was asked for; an event that only told of a picture becomes None."""
    if not isinstance(value, dict):
        return value
    sort = value.get("type")
    if isinstance(sort, str) and sort.startswith(("image_", "response.image_generation_call")):
        return None
    if isinstance(value.get("item"), dict) and value["item"].get("type") == "image_generation_call":
        return None
    told = dict(value)
    for name in ("data", "choices"):
        if isinstance(told.get(name), list):
            told[name] = []
    if isinstance(told.get("output"), list):
        told["output"] = [item for item in told["output"] if emptied(item) is not None]
    if isinstance(told.get("response"), dict):
        told["response"] = emptied(told["response"])
    return told


def _spoil(text: str) -> str:
    half = len(text) // 2
    return f"{text[:half]}!*not base64*!{text[half:]}"


def grown(value: Any, size: int) -> Any:
    """The value made bigger by so many bytes: in its first picture, else its first words, else a member of its own."""
    rest = [size]

    def picture(text: str) -> str:
        if not rest[0]:
            return text
        rest[0] = 0
        # Zeros behind the end of a picture: decoders stop before them.
        return base64.b64encode(base64.b64decode(text) + bytes(size * 3 // 4)).decode("ascii")

    told, _ = pictures(value, picture)
    if rest[0]:
        told = _wordier(told, rest)
    if rest[0] and isinstance(told, dict):
        told = {**told, "padding": "." * size}
    return told


def _wordier(value: Any, rest: list[int]) -> Any:
    if isinstance(value, list):
        return [_wordier(item, rest) for item in value]
    if not isinstance(value, dict):
        return value
    told = {}
    for name, item in value.items():
        if rest[0] and name in ("content", "text") and isinstance(item, str) and item:
            told[name] = item + "." * rest[0]
            rest[0] = 0
        else:
            told[name] = _wordier(item, rest)
    return told


def parsed(frame: bytes) -> tuple[str | None, Any]:
    """A frame's name and its JSON; None for what is no JSON, like `[DONE]`."""
    name = None
    for line in frame.split(b"\n"):
        if line.startswith(b"event: "):
            name = line[7:].decode()
        elif line.startswith(b"data: ") and line != b"data: [DONE]":
            return name, orjson.loads(line[6:])
    return name, None


async def _each(frames: list[bytes]) -> AsyncIterator[bytes]:
    for frame in frames:
        yield frame


async def _changed(play: Play, change: Change) -> Said:
    """The answer, or each event of the stream, changed."""
    genuine = play.genuine
    if isinstance(genuine, Answer):
        if genuine.status != 200:
            return genuine
        if genuine.content_type != "application/json":
            raise does_not_fit("the answer is not JSON")
        return replace(genuine, body=orjson.dumps(change(orjson.loads(genuine.body))))
    return replace(genuine, frames=_frames(genuine, change))


async def _frames(said: Events, change: Change) -> AsyncIterator[bytes]:
    async for frame in said.frames:
        name, value = parsed(frame)
        if value is None:
            yield frame
        elif (new := change(value)) is not None:
            yield event(new, name)


def _in_pictures(change: Callable[[str], str]) -> How:
    async def how(play: Play) -> Said:
        found = 0

        def counted(value: Any) -> Any:
            nonlocal found
            new, count = pictures(value, change)
            found += count
            return new

        said = await _changed(play, counted)
        if isinstance(said, Events):  # all of it, to know before the head goes out whether there is a picture at all
            said = replace(said, frames=_each([frame async for frame in said.frames]))
        elif said.status != 200:
            return said
        if not found:
            raise does_not_fit("there is no picture in the answer")
        return said

    return how


async def _empty(play: Play) -> Said:
    return await _changed(play, emptied)


async def _huge(play: Play) -> Said:
    left = [play.value * 2**20]

    def once(value: Any) -> Any:
        size, left[0] = left[0], 0
        return grown(value, size) if size else value

    return await _changed(play, once)


async def _plain(play: Play) -> Said:
    return replace(play.genuine, content_type="text/plain; charset=utf-8")


async def _cookie(play: Play) -> Said:
    cookie = "__cf_bm=sandbox.cookie-1700000000; path=/; domain=.api.openai.com; HttpOnly; Secure; SameSite=None"
    genuine = play.genuine
    return replace(genuine, headers={**genuine.headers, "Set-Cookie": cookie})


async def _gzip(play: Play) -> Said:
    genuine = play.genuine
    headers = {**genuine.headers, "Content-Encoding": "gzip"}
    if isinstance(genuine, Answer):
        return replace(genuine, body=gzip.compress(genuine.body, 6, mtime=0), headers=headers)
    return replace(genuine, frames=_gzipped(genuine), headers=headers)


async def _gzipped(said: Events) -> AsyncIterator[bytes]:
    engine = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    async for frame in said.frames:
        yield engine.compress(frame) + engine.flush(zlib.Z_SYNC_FLUSH)
    yield engine.flush()


async def _error_in_stream(play: Play) -> Said:
    genuine = play.genuine
    if isinstance(genuine, Answer):
        if genuine.status != 200:
            return genuine
        raise does_not_fit("the answer is not a stream")
    frames = await play.pieces()
    half = frames[: max(1, len(frames) // 2)]
    name, last = parsed(half[-1])
    if play.kind == "responses":
        number = last.get("sequence_number", 0) + 1 if isinstance(last, dict) else 0
        failed = {"type": "error", "code": "server_error", "message": _FAILED, "param": None, "sequence_number": number}
        frame = event(failed, "error")
    else:
        error = {"message": _FAILED, "type": "server_error", "param": None, "code": "server_error"}
        frame = event({"error": error}, "error" if name else None)
    return replace(genuine, frames=_each([*half, frame]))


def _mebibytes(text: str) -> int:
    size = int(text)
    if not 1 <= size <= _MOST_MIB:
        raise ValueError(text)
    return size


TABLE = (
    Fault(
        "empty-200",
        "200 with an answer that lacks what was asked for: `data: []`, `choices: []`, no image item.",
        True,
        _empty,
    ),
    Fault(
        "bad-base64",
        "The genuine answer, with characters in the middle of each picture that base64 does not have.",
        True,
        _in_pictures(_spoil),
    ),
    Fault(
        "not-an-image",
        "The genuine answer, with a line of text in good base64 for each picture.",
        True,
        _in_pictures(lambda _: _NOT_AN_IMAGE),
    ),
    Fault(
        "huge",
        "The genuine answer grown by many MiB, still valid JSON.",
        True,
        _huge,
        Argument(f"MiB, 1 to {_MOST_MIB} (default 64)", _mebibytes, 64),
    ),
    Fault("text-plain-json", "The genuine answer with `content-type: text/plain`.", True, _plain),
    Fault(
        "gzip-anyway",
        "The genuine answer gzipped, with `content-encoding: gzip`, whatever the request accepts.",
        True,
        _gzip,
    ),
    Fault("set-cookie", "The genuine answer with Cloudflare's `set-cookie: __cf_bm=…`.", True, _cookie),
    Fault(
        "sse-error-midstream",
        "The first half of a stream's events, then an `error` event, then a clean end without `[DONE]`.",
        True,
        _error_in_stream,
    ),
)
