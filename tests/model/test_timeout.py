"""Time limits: what others take counts, and how long our own loop stood still does not."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.model.timeout import Within

from ..loops import Run

TIME = 0.1


def standing(told: asyncio.Future[str], seconds: float = 3 * TIME) -> None:
    """Let the loop stand, and a thread answer meanwhile."""
    loop = asyncio.get_running_loop()

    def stand() -> None:
        loop.call_soon_threadsafe(told.set_result, "told")
        time.sleep(seconds)

    loop.call_soon(stand)


def test_who_waits_for_nothing_waits_so_long(run: Run) -> None:
    async def story() -> None:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with Within(TIME):
                await asyncio.Event().wait()
        assert time.monotonic() - began >= TIME * 0.9
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()  # what comes next is not taken for cancelled

    run(story())


def test_what_came_while_the_loop_stood_is_in_time(run: Run) -> None:
    async def story() -> None:
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with Within(TIME):
            standing(told)
            assert await told == "told"

    run(story())


def test_what_takes_a_few_rounds_more_is_in_time_too(run: Run) -> None:
    async def story() -> None:
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with Within(TIME):
            standing(told)
            await told
            for _ in range(20):
                await asyncio.sleep(0)

    run(story())


def test_a_loop_that_stands_again_and_again_comes_to_an_end(run: Run) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()

        def stand() -> None:
            nonlocal handle
            time.sleep(TIME)
            handle = loop.call_soon(stand)

        handle = loop.call_soon(stand)
        with pytest.raises(TimeoutError):
            async with Within(TIME):
                await asyncio.Event().wait()
        handle.cancel()

    run(story())


def test_of_two_limits_the_shorter_ends_the_wait(run: Run) -> None:
    async def story() -> None:
        heard: list[str] = []
        for outer, inner in ((TIME, 99.0), (99.0, TIME)):
            try:
                async with asyncio.timeout(outer):
                    try:
                        async with Within(inner):
                            await asyncio.Event().wait()
                    except TimeoutError:
                        heard.append("inner")
            except TimeoutError:
                heard.append("outer")
        assert heard == ["outer", "inner"]

    run(story())


def test_who_is_cancelled_and_what_fails_are_told_as_they_are(run: Run) -> None:
    async def story() -> None:
        async def wait() -> None:
            async with Within(TIME):
                await asyncio.Event().wait()

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(ZeroDivisionError):
            async with Within(TIME):
                raise ZeroDivisionError
        async with Within(TIME):
            pass
        await asyncio.sleep(2 * TIME)  # nobody is woken by what is over

    run(story())
