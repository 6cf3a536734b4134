"""The plugin author's view of `proxy.testkit`, checked by mypy --strict and run by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, assert_type

from proxy.api import CALLER, Caller, Exchange, Forward, Headers, Outcome, Plugin, Request, Response, UpstreamError
from proxy.testkit import Asked, Played, Playing, Reply, Stage, TurnedClock, answer, broken, play, same_at_every_split


class Passes(Plugin):
    """Does nothing."""

    word: str = "x"

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        return await forward(request)


def looks(asked: Asked) -> Reply:
    return answer(json=asked.json())


async def waits(asked: Asked) -> Reply | UpstreamError:
    return answer(sse=[{"type": "part"}, asyncio.Event(), broken(), "[DONE]"])


async def upper(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece.upper()


async def everything() -> None:
    clock = TurnedClock()
    async with Stage(
        Passes("y"),
        Passes(),
        upstream={"a": [answer(429), UpstreamError("refused", sent=False), looks, waits], "b": looks},
        clock=clock,
    ) as stage:
        played = await stage.play("POST /v1/x", json={}, facts={CALLER: Caller("ann")})
        assert_type(played, Played)
        assert_type(played.headers, Headers)
        assert_type(played.outcome, Outcome)
        assert_type(played.asked, tuple[Asked, ...])
        assert_type(played.error, dict[str, Any])
        playing = stage.begin(Request("GET", "/v1/x", Headers()), pieces=[b"a", asyncio.Event()])
        assert_type(playing, Playing)
        assert_type(await playing.heard(1), bytes)
        playing.leave()
        assert_type(await playing, Played)
        assert_type(stage.asked[0].upstream, str)
        await stage.services.store.put("space", "key", b"")
    assert_type(await play(Passes(), upstream=answer(pieces=[b"a", broken()])), Played)
    assert_type(await same_at_every_split(upper, b"abc"), bytes)
