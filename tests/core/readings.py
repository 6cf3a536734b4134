"""Answers of every shape, a plugin that reads them as a test says, and takers of pictures."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import orjson

from proxy.api import Exchange, Forward, Picture, Plugin, Reading, Request, Response, Slot
from proxy.testkit import Stage

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(60))
B64 = base64.b64encode(PNG).decode()
ASK = "POST /v1/images/generations"
SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
MB = 10**6
CUT: Slot[Cut] = Slot("cut")


def event(data: str, name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {data}\n\n"


def image_event(kind: str, **more: object) -> str:
    return event(orjson.dumps({"type": f"image_generation.{kind}", "b64_json": B64, **more}).decode())


USED = {"total_tokens": 7}
SHAPES = {
    "generated": (JSON, orjson.dumps({"created": 1, "data": [{"b64_json": B64}], "usage": USED}), "image"),
    "by-url": (JSON, b'{"data":[{"url":"https://example.com/a.png"}]}', "image"),
    "blanks-first": (JSON, b'  \n \r\n\t {"data":[{"b64_json":"%b"}]}' % B64.encode(), "image"),
    "an-error-in-200": (JSON, b'{"error":{"code":"moderation_blocked","message":"no"}}', "error"),
    "nothing-drawn": (JSON, b'{"created":1,"data":[],"note":"\\"b64_json\\""}', "none"),
    "not-json": (JSON, b"<html>502 Bad Gateway</html>", "unknown"),
    "cut-json": (JSON, b'{"created":1,"data":[', "unknown"),
    "called-text": ({"content-type": "text/plain"}, b'\n{"data":[{"b64_json":"%b"}]}' % B64.encode(), "image"),
    "called-nothing": ({}, b'{"data":[{"b64_json":"%b"}]}' % B64.encode(), "image"),
    "json-called-stream": (SSE, b'\r\n{"data":[{"b64_json":"%b"}]}' % B64.encode(), "image"),
    "text": ({"content-type": "text/plain; charset=utf-8"}, b"no { is here first", "unknown"),
    "streamed": (SSE, (": hold on\n\n" * 2 + image_event("completed", usage=USED)).encode(), "image"),
    "partial-first": (SSE, (image_event("partial_image") + image_event("completed")).encode(), "image"),
    "partial-alone": (SSE, (image_event("partial_image") + event("[DONE]")).encode(), "none"),
    "error-event": (SSE, b"\r\n: \r\n\r\n" + event('{"message":"no"}', "error").encode(), "error"),
    "comments-alone": (SSE, b": a\n\n: b\n\n", "unknown"),
    "responses": (
        SSE,
        event(
            orjson.dumps(
                {
                    "type": "response.output_item.done",
                    "item": {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": B64},
                }
            ).decode()
        ).encode(),
        "image",
    ),
}


class Reads(Plugin):
    """Reads, and does what a test says."""

    layer: Callable[[Exchange, Request, Forward], Awaitable[Response]]
    wanted: tuple[str, ...] = ("verdict", "usage", "images")

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.wanted

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        return await self.layer(exchange, request, forward)


class Taken:
    """Takes images, and writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.images: dict[str, bytes] = {}
        self.kinds: dict[str, str | None] = {}
        self.bad: dict[str, str | None] = {}

    def wants(self, picture) -> bool:
        return True

    async def begun(self, picture) -> None:
        self.told.append(("begun", picture.path))
        self.images[picture.path] = b""

    async def piece(self, picture, data) -> None:
        self.images[picture.path] += data

    async def ended(self, picture) -> None:
        self.told.append(("ended", picture.path))
        self.bad[picture.path] = picture.bad

    async def settled(self, picture) -> None:
        self.told.append(("settled", picture.path))
        self.kinds[picture.path] = picture.kind


def seen(response: Response) -> Reading:
    assert response.reading is not None
    return response.reading


def stage(layer: Callable, upstream: object, wanted: tuple[str, ...] = ("verdict", "usage", "images")) -> Stage:
    return Stage(Reads(layer, wanted), upstream=upstream)


def splits(document: bytes, step: int = 1) -> Iterator[list[bytes]]:
    yield [document]
    yield [document[at : at + 1] for at in range(len(document))]
    for at in range(1, len(document), step):
        yield [document[:at], document[at:]]


class Cut(Taken):
    """Takes the pictures out of an answer, and puts a word in the place of each."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self.reading = reading
        self.open: deque[Picture] = deque()

    async def begun(self, picture) -> None:
        await super().begun(picture)
        self.open.append(picture)

    async def without(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        held, at = b"", 0
        async for piece in pieces:
            held += piece
            while held and self.open:
                picture = self.open[0]
                if at < picture.start:
                    yield held[: picture.start - at]
                    held, at = held[picture.start - at :], min(picture.start, at + len(held))
                elif 0 <= picture.end <= at + len(held):
                    self.open.popleft()
                    yield b"gone"
                    held, at = held[picture.end - at :], picture.end
                else:
                    held, at = b"", at + len(held)
            ready = held[: max(0, self.reading.safe - at)]
            yield ready
            held, at = held[len(ready) :], at + len(ready)
        yield held


async def cuts_out(exchange, request, forward) -> Response:
    response = await forward(request)
    reading = seen(response)
    if "verdict" in request.target:
        await reading.verdict()
    cut = Cut(reading)
    reading.images(cut)
    response.facts[CUT] = cut
    return response.through(cut.without)


TWO = orjson.dumps({"data": [{"b64_json": B64, "x": 1}, {"url": "https://e.com/a"}, {"b64_json": B64}], "usage": USED})
WITHOUT = TWO.replace(B64.encode(), b"gone").replace(b"https://e.com/a", b"gone")
