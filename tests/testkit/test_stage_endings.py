"""The stage: how exchanges end, and what the house lends a plugin until then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from plugins.keys import Keys
from proxy.api import (
    CALLER,
    Add,
    Exchange,
    Forward,
    Outcome,
    Plugin,
    ProxyError,
    Request,
    Response,
    Services,
)
from proxy.testkit import Stage, answer, play

from .test_stage import Does, Gate, passes


async def test_finishers_run_once_newest_first_with_a_true_outcome() -> None:
    ran: list[tuple[str, Outcome]] = []

    async def layer(exchange, request, forward) -> Response:
        for name in ("first", "second"):

            async def finish(outcome: Outcome, name: str = name) -> None:
                ran.append((name, outcome))

            exchange.on_finish(finish)
        return await forward(request)

    played = await play(Does(layer), upstream=answer(body=b"12345"))
    assert [name for name, _ in ran] == ["second", "first"] and ran[0][1] is played.outcome
    assert (played.outcome.status, played.outcome.delivered, played.outcome.complete) == (200, 5, True)


async def test_a_client_that_leaves_cancels_the_work() -> None:
    never, cancelled = asyncio.Event(), []

    async def layer(exchange, request, forward) -> Response:
        try:
            return await forward(request)
        except asyncio.CancelledError:
            cancelled.append(exchange.left)
            raise

    async with Stage(Does(layer), upstream=answer(wait=never)) as stage:
        playing = stage.begin()
        await stage.reached()
        playing.leave()
        played = await playing
    assert cancelled == [True] and played.status == 0 and not played.whole
    assert played.outcome.left and [attempt.outcome for attempt in played.outcome.attempts] == ["cancelled"]


async def test_work_that_keeps_going_ends_though_the_client_has_left() -> None:
    go, drained = asyncio.Event(), []

    async def layer(exchange, request, forward) -> Response:
        exchange.keep_going()

        async def through(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for piece in pieces:
                drained.append(piece)
                yield piece

        return (await forward(request)).through(through)

    async with Stage(Does(layer), upstream=answer(pieces=[b"a", go, b"b"])) as stage:
        playing = stage.begin()
        assert await playing.heard(1) == b"a"
        playing.leave()
        go.set()
        played = await playing
    assert drained == [b"a", b"b"] and played.body == b"a" and not played.whole
    assert played.outcome.left and played.outcome.delivered == 1


async def test_the_clock_turned_past_the_deadline_ends_what_has_no_answer() -> None:
    async with Stage(Does(passes), upstream=answer(wait=asyncio.Event())) as stage:
        playing = stage.begin()
        await stage.reached()
        stage.clock.turn(601)
        played = await playing
    assert (played.status, played.error["code"]) == (504, "upstream_timeout")


async def test_settings_are_those_of_a_config() -> None:
    settings = """
[upstreams.main]
base_url = "https://api.example.com/openai/v1"
api_key = "env:KEY"
[[routes]]
match = "POST /v1/*"
deadline = "5s"
max_body = "4B"
"""
    async with Stage(Does(passes), settings=settings, environ={"KEY": "sk-0123456789"}) as stage:
        played = await stage.play("POST /v1/x", body=b"1234")
        assert (await stage.play("POST /v1/x", body=b"12345")).status == 413
        assert (await stage.play("GET /v1/x")).status == 405
    (asked,) = played.asked
    assert asked.headers.get("authorization") == "Bearer sk-0123456789" and asked.target == "/openai/v1/x"


async def test_callers_are_those_of_the_settings() -> None:
    settings = '[keys.web]\nsecret = "env:WEB"\ngroup = "a"\n[groups.a]\n'
    key = "a-key-of-some-length-0123456789-0123456789"
    async with Stage(Keys(), settings=settings, environ={"WEB": key}) as stage:
        known = await stage.play("POST /v1/images/generations", json={}, headers={"Authorization": f"Bearer {key}"})
        unknown = await stage.play("POST /v1/images/generations", json={}, headers={"Authorization": "Bearer x"})
    assert known.exchange[CALLER].group == "a" and "authorization" not in known.asked[0].headers
    assert (unknown.status, unknown.error["code"], unknown.asked) == (401, "invalid_api_key", ())


async def test_services_are_the_houses_own() -> None:
    class Counts(Plugin):
        @asynccontextmanager
        async def running(self, services: Services) -> AsyncIterator[None]:
            self.services = services
            yield

        async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
            if not (await self.services.store.add(Add("calls", ceiling=1, ttl=60.0))).done:
                raise ProxyError("Enough.", status=429)
            self.services.spawn(self.notes(exchange.id), name="notes")
            return await forward(request)

        async def notes(self, id: str) -> None:
            await self.services.store.put("calls", id, b"1")
            self.services.log.info("noted", id=id)

    async with Stage(counts := Counts()) as stage:
        assert stage.services is counts.services
        first = await stage.play()
        assert (await stage.play()).status == 429
        stage.clock.turn(61)
        assert (await stage.play()).status == 200
    assert [line["event"] for line in stage.log] == ["noted", "noted"] and stage.log[0]["id"] == first.exchange.id


async def test_plays_may_run_side_by_side() -> None:
    async with Stage(Does(passes), upstream=lambda asked: answer(json=asked.target)) as stage:
        played = await asyncio.gather(*(stage.play(f"GET /v1/{number}") for number in range(20)))
    assert [one.json() for one in played] == [one.asked[0].target for one in played] == [f"/v1/{n}" for n in range(20)]


async def test_a_stage_leaves_nothing_behind() -> None:
    loop = asyncio.get_running_loop()
    before, factory = asyncio.all_tasks(), loop.get_task_factory()
    async with Stage(Gate("x")) as stage:
        await stage.play()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before and loop.get_task_factory() is factory and stage.clock.watchers == []
    assert not stage._folder.exists()
