"""What a plugin leaves open fails the test, in words that say what it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.api import Exchange, Forward, Outcome, Plugin, Request, Response, Services
from proxy.core import engine
from proxy.testkit import LeftOpen, Stage, answer, play, script

Running = Callable[[Services], Coroutine[Any, Any, None]]


class Does(Plugin):
    """Does what a test says: in a request, when it opens, when it closes."""

    layer: Any = None
    opens: Any = None
    closes: Any = None

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        self.services = services
        if self.opens is not None:
            await self.opens(services)
        yield
        if self.closes is not None:
            await self.closes()

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        if self.layer is None:
            return await forward(request)
        response: Response = await self.layer(exchange, request, forward)
        return response


async def never() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not end is cut off soon."""
    monkeypatch.setattr(engine, "GRACE", 0.05)


# --- Answers


@pytest.mark.parametrize("told", [answer(), answer(body=b"abc", cuts=(1,))], ids=["whole", "streamed"])
async def test_an_answer_that_is_dropped_is_named(told: script.Reply) -> None:
    async def drops(exchange, request, forward) -> Response:
        await forward(request)
        return Response(200)

    text = "answer to GET /v1/models from upstream 'main' was neither read to its end nor closed"
    with pytest.raises(LeftOpen, match=text):
        await play(Does(drops), upstream=told)


async def test_an_answer_that_is_given_another_body_must_be_closed_too() -> None:
    async def replaces(exchange, request, forward) -> Response:
        return (await forward(request)).with_body(b"other")

    with pytest.raises(LeftOpen, match="neither read"):
        await play(Does(replaces))


async def test_an_answer_read_in_part_is_left_open() -> None:
    async def peeks(exchange, request, forward) -> Response:
        response = await forward(request)
        async for _ in response.body:
            break
        return Response(200)

    with pytest.raises(LeftOpen, match="neither read"):
        await play(Does(peeks), upstream=answer(pieces=[b"a", b"b"]))


@pytest.mark.parametrize("how", ["closes", "reads", "passes"])
async def test_an_answer_that_was_seen_to_is_not_named(how: str) -> None:
    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        if how == "closes":
            await response.aclose()
        elif how == "reads":
            await response.body.read(100)
        return response if how == "passes" else Response(200)

    assert (await play(Does(layer), upstream=answer(pieces=[b"a", b"b"]))).status == 200


# --- Tasks


async def test_a_task_that_nobody_holds_is_named() -> None:
    async def forgets(exchange, request, forward) -> Response:
        asyncio.create_task(never())  # noqa: RUF006 - that is the fault
        return await forward(request)

    with pytest.raises(LeftOpen, match=r"a task still ran that nobody holds: never \(Task-\d+\); services.spawn"):
        await play(Does(forgets))


async def test_a_task_begun_in_running_is_named_too() -> None:
    async def opens(services: Services) -> None:
        self.task = asyncio.create_task(never())

    self = Does(opens=opens)
    with pytest.raises(LeftOpen, match="nobody holds: never"):
        await play(self)


async def test_tasks_that_have_ended_and_tasks_of_the_tests_own_are_not_named() -> None:
    async def layer(exchange, request, forward) -> Response:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(forward(request))
        return task.result()

    mine = None
    async with Stage(Does(layer)) as stage:
        mine = asyncio.create_task(never())
        await stage.play()
    assert not mine.done()
    mine.cancel()


async def test_spawned_work_is_waited_for() -> None:
    go, ended = asyncio.Event(), []

    class Spawns(Does):
        async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
            self.services.spawn(self.works(), name="works")
            return await forward(request)

        async def works(self) -> None:
            await go.wait()
            ended.append(True)

    async with Stage(Spawns()) as stage:
        await stage.play()
        assert not ended
        go.set()
    assert ended


@pytest.mark.usefixtures("impatient")
async def test_spawned_work_without_an_end_is_named() -> None:
    async def opens(services: Services) -> None:
        services.spawn(never(), name="pump")

    with pytest.raises(LeftOpen, match=r"spawned work 'pump' had not ended 0.05 s after"):
        await play(Does(opens=opens))


# --- Endings


@pytest.mark.usefixtures("impatient")
async def test_running_that_does_not_end_is_named() -> None:
    with pytest.raises(LeftOpen, match=r"running\(\) of a plugin had not ended"):
        await play(Does(closes=never))


async def test_running_that_fails_to_close_is_told() -> None:
    async def closes() -> None:
        raise OSError("the device is busy")

    with pytest.raises(AssertionError, match=r"running\(\) of a plugin, .* crashed: OSError: the device is busy"):
        await play(Does(closes=closes))


async def test_running_that_can_not_open_is_raised_as_it_is() -> None:
    async def opens(services: Services) -> None:
        raise OSError("no such device")

    ended = []

    async def spawns(services: Services) -> None:
        async def works() -> None:
            ended.append(True)

        services.spawn(works(), name="works")

    with pytest.raises(OSError, match="no such device"):
        await play(Does(opens=spawns), Does(opens=opens))
    assert ended and asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_finisher_that_comes_too_late_is_named() -> None:
    async def layer(exchange, request, forward) -> Response:
        async def finish(outcome: Outcome) -> None:
            exchange.on_finish(finish)

        exchange.on_finish(finish)
        return await forward(request)

    with pytest.raises(LeftOpen, match=r"a finisher came when the exchange had ended, and never ran: GET /v1/models"):
        await play(Does(layer))


async def test_an_exchange_that_nobody_waits_for_is_named_and_ended() -> None:
    cancelled = []

    async def layer(exchange, request, forward) -> Response:
        try:
            return await forward(request)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(LeftOpen, match="begun and never waited for: GET /v1/models"):
        async with Stage(Does(layer), upstream=answer(wait=asyncio.Event())) as stage:
            stage.begin()
            await stage.reached()
    assert cancelled


async def test_a_crash_that_no_client_hears_of_fails_the_test_unless_it_is_meant() -> None:
    async def layer(exchange, request, forward) -> Response:
        async def finish(outcome: Outcome) -> None:
            raise ZeroDivisionError("of mine")

        exchange.on_finish(finish)
        return await forward(request)

    with pytest.raises(AssertionError, match="a finisher crashed: ZeroDivisionError: of mine"):
        await play(Does(layer))
    async with Stage(Does(layer), crashes=True) as stage:
        await stage.play()
    assert [line["event"] for line in stage.log] == ["finisher_crashed"]

    async def opens(services: Services) -> None:
        async def works() -> None:
            raise ZeroDivisionError("of mine")

        services.spawn(works(), name="works")

    with pytest.raises(AssertionError, match="spawned work 'works' crashed: ZeroDivisionError"):
        await play(Does(opens=opens))


async def test_a_secret_in_the_log_fails_the_test() -> None:
    async def opens(services: Services) -> None:
        services.log.info("opened", key="sk-0123456789")

    settings = '[upstreams.main]\nbase_url = "https://api.example.com/v1"\napi_key = "env:KEY"\n'
    with pytest.raises(AssertionError, match="the secret KEY stands in the log"):
        async with Stage(Does(opens=opens), settings=settings, environ={"KEY": "sk-0123456789"}):
            pass


async def test_a_tests_own_failure_comes_first_and_takes_the_rest_along() -> None:
    async def drops(exchange, request, forward) -> Response:
        await forward(request)
        return Response(200)

    with pytest.raises(ZeroDivisionError) as caught:
        async with Stage(Does(drops)) as stage:
            await stage.play()
            raise ZeroDivisionError
    assert "neither read to its end nor closed" in caught.value.__notes__[0]


async def test_a_test_that_hangs_is_told_where(monkeypatch: pytest.MonkeyPatch) -> None:
    from proxy.testkit import playing, stage

    monkeypatch.setattr(playing, "PATIENCE", 0.05)
    monkeypatch.setattr(stage, "PATIENCE", 0.05)
    text = r"still no end: GET /v1/models \(asked of upstreams: GET /v1/models of 'main'\)"
    with pytest.raises(AssertionError, match=text):
        await play(Does(), upstream=answer(wait=asyncio.Event()))
    with pytest.raises(AssertionError, match="asked 0 times, not 1"):
        async with Stage(Does()) as opened:
            await opened.reached()
