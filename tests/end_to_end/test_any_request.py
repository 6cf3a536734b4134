"""Thousands of valid requests and answers, made up: what arrives is what was sent."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from proxy.testkit import Call, RawClient, ScriptedUpstream, serve

from .exchanges import INWARD, SHAPES, Shape
from .raw import HOP_BY_HOP
from .tee import transparent

TOGETHER = 50


async def write(call: Call | RawClient, pieces: list[bytes]) -> None:
    for piece in pieces:
        await call.send(piece)
        await asyncio.sleep(0)  # let each piece be a segment of its own


async def exchange(client: RawClient, upstream: ScriptedUpstream, shape: Shape) -> bool:
    """One request and its answer, compared with what was sent; whether the connection lives on."""
    sent, said = shape.sent, shape.said

    async def script(call: Call) -> None:
        await call.body()
        await write(call, said.wire)
        if said.closes:
            call.cut()

    upstream.script = script
    writing = asyncio.ensure_future(write(client, sent.wire))
    answer = await client.answer(bodiless=said.bodiless)
    await writing

    received = upstream.requests.pop()
    assert received.line == sent.line
    assert [pair for pair in received.headers if pair[0].lower() not in INWARD] == sent.headers
    assert received.body == sent.body
    assert (received.get(b"transfer-encoding") == b"chunked") == ("chunked" in shape.body)
    assert received.get(b"connection") is None

    assert answer.line == said.line
    assert [pair for pair in answer.headers if pair[0].lower() not in HOP_BY_HOP] == said.headers
    assert answer.body == said.body
    return answer.get(b"connection") != b"close"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("many", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_made_up_exchanges_arrive_as_they_were_sent(many: int) -> None:
    done = 0

    @settings(
        max_examples=many // TOGETHER,
        deadline=None,  # the machine may be busy; the test's own limit holds
        database=None,
        phases=[Phase.generate],  # the note below names the one exchange that failed; there is nothing to shrink
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(st.lists(SHAPES, min_size=TOGETHER, max_size=TOGETHER))
    def batch(shapes: list[Shape]) -> None:
        nonlocal done
        runner.run(play(shapes))
        done += len(shapes)

    async def play(shapes: list[Shape]) -> None:
        async with ScriptedUpstream() as upstream, serve(transparent(upstream.url)) as served:
            async with RawClient(served.port) as client:
                for shape in shapes:
                    note(str(shape))
                    assert await exchange(client, upstream, shape), "the client's connection was given up"

    with asyncio.Runner() as runner:
        batch()
    assert done >= many
