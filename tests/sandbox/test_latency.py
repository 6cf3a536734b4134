"""Answers that take their time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.sandbox import Sandbox
from proxy.sandbox.answer import Events, told
from proxy.sandbox.asked import Asked
from proxy.sandbox.clock import Time
from proxy.sandbox.heard import Heard
from proxy.sandbox.latency import Latency, seconds
from proxy.testkit import TurnedClock

from .plain import CHAT, GENERATION, Plain, ask, post, until

GENERATIONS, CHATS = "/v1/images/generations", "/v1/chat/completions"


@pytest.mark.parametrize(
    ("quality", "size", "time"),
    [
        ("auto", "auto", 18),
        ("low", "1024x1024", 8),
        ("high", "1024x1024", 43),
        ("high", "2048x2048", 86),
        ("high", "3840x2160", 121),
        ("low", "512x512", 4),
        ("nonsense", "x", 18),
    ],
)
def test_pictures_take_seconds_by_quality_and_size(quality: str, size: str, time: int) -> None:
    assert round(seconds(Asked(pictures=1, quality=quality, size=size))) == time


@pytest.mark.parametrize(
    ("path", "body", "latency", "takes"),
    [
        (GENERATIONS, {**GENERATION, "quality": "high", "size": "1024x1024"}, "real", 43),
        (GENERATIONS, {**GENERATION, "quality": "low", "size": "1024x1024"}, 100, 800),
        (CHATS, CHAT, 1000, 1000),
    ],
)
async def test_an_answer_comes_when_its_time_has_passed(
    path: str, body: dict[str, object], latency: float, takes: float
) -> None:
    clock = TurnedClock()
    async with Sandbox(latency=latency, clock=clock) as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(post(path, body, Connection="close"))
        await until(lambda: bool(sandbox.records) and sandbox.records[0].billed)
        assert sandbox.records[0].first_byte is None
        clock.turn(takes + 1)
        heard = await plain.rest()
        await plain.leave()
        await sandbox.idle()
    (record,) = sandbox.records
    assert heard.status == 200
    assert record.first_byte is not None and record.first_byte - record.received >= takes


async def test_refusals_faults_and_lists_come_at_once() -> None:
    async with Sandbox(latency=1000) as sandbox:
        for question, status in (
            (post(GENERATIONS, {**GENERATION, "n": 0}, Connection="close"), 400),
            (post(CHATS, CHAT, X_Sandbox_Fault="500", Connection="close"), 500),
            (b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
        ):
            assert (await ask(sandbox.url, question)).status == status


async def test_a_stream_comes_word_by_word() -> None:
    clock = TurnedClock()
    async with Sandbox(latency=1000, clock=clock) as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(post(CHATS, {**CHAT, "stream": True}, Connection="close"))
        await plain.reader.readuntil(b"\r\n\r\n")
        (record,) = sandbox.records
        clock.turn(501)
        frames = [await plain.reader.readuntil(b"\n\n")]
        while b"[DONE]" not in frames[-1]:
            clock.turn(21)
            frames.append(await plain.reader.readuntil(b"\n\n"))
        await plain.leave()
        await sandbox.idle()
    assert len(frames) > 5
    assert record.done is not None and record.done - record.received >= 500 + 20 * (len(frames) - 1)


class Jumping:
    """A clock on which every pause is over at once, and remembered."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at


class Jumps(Time):
    def __init__(self, clock: Jumping) -> None:
        super().__init__(clock)
        self.clock = clock

    async def pause(self, seconds: float, heard: Heard) -> None:
        self.clock.at += max(0.0, seconds)


@pytest.mark.parametrize(("partials", "at"), [(0, [20.0]), (1, [10.0, 20.0]), (3, [5.0, 10.0, 15.0, 20.0])])
async def test_partial_images_are_spread_over_the_time(partials: int, at: list[float]) -> None:
    clock = Jumping()
    latency = Latency(Jumps(clock), 20 / 18)

    async def frames() -> AsyncIterator[bytes]:
        for number in range(partials + 1):
            yield b"data: %d\n\n" % number
        yield b"data: [DONE]\n\n"

    heard: Heard = None  # type: ignore[assignment]
    said = await latency.delay(
        Events(frames(), billed=True), Asked(pictures=1, partials=partials), "images", heard, since=0.0
    )
    assert isinstance(said, Events)
    came = [round(clock.at, 6) async for _ in said.frames]
    assert came == [*at, at[-1]], "what comes behind the picture takes no time"


async def test_time_that_was_spent_drawing_counts() -> None:
    clock = Jumping()
    clock.at = 105.0
    heard: Heard = None  # type: ignore[assignment]
    await Latency(Jumps(clock), 1.0).delay(told({}, billed=True), Asked(pictures=1), "images", heard, since=100.0)
    assert clock.at == 118.0
