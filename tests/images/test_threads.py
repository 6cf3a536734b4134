"""The threads that take pictures in: what they are given is done, whoever leaves, and they end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from proxy.images.spool import PIECE
from proxy.images.threads import ENDING, WRITING, Came, Threads

from ..end_to_end.process import opened
from .asking import get, house, kept
from .pictures import png
from .shelf import content, keep, shelf, spools

NAME = "framegate-images"


def alive(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


async def test_reloads_bring_no_threads_and_all_end_with_the_house() -> None:
    """Each config had a pool of its own once, whose threads stayed when the next one came."""
    before = set(alive(NAME))
    async with house() as served:
        for seed in range(4):
            path = (await kept(served, png(3 * PIECE, seed=seed)))["path"]
            await served.house.reload(served.house.config)
        assert (await get(served, path)).status == 200
        assert 0 < len(set(alive(NAME)) - before) <= WRITING + ENDING
    assert not set(alive(NAME)) - before


async def test_a_spool_that_outlives_its_threads_is_tidied_up(tmp_path: Path) -> None:
    async with shelf(tmp_path) as images:
        async with images.spool() as kept_one, images.spool() as left:
            kept_one.write(png())
            await kept_one.commit()
            again = await keep(images, png())  # the first one's file is nobody's now, and a thread has to close it
            left.write(png(2 * PIECE))
            assert len(b"".join([piece async for piece in left.read()])) == 2 * PIECE
            await images.threads.aclose()
        assert not spools(images)
        await asyncio.to_thread(images.threads.ending.join)
        assert not opened(tmp_path / "images")
        assert await content(images, again.name) == png()


async def test_work_that_comes_after_the_end_is_done_too() -> None:
    threads = Threads(2, "late")
    assert await threads.run(lambda: 1) == 1
    threads.close()
    threads.close()
    assert [await threads.run(lambda: 2), await threads.run(lambda: 3)] == [2, 3]
    await asyncio.to_thread(threads.join)
    assert not alive("late")


async def test_no_more_threads_than_work_nor_than_allowed() -> None:
    threads = Threads(3, "few")
    for _ in range(5):
        await threads.run(bool)
    assert len(alive("few")) == 1
    go = threading.Event()
    waiting = [asyncio.ensure_future(threads.run(go.wait)) for _ in range(9)]
    await asyncio.sleep(0)
    assert len(alive("few")) == 3
    go.set()
    assert all(await asyncio.gather(*waiting))
    threads.close()
    await asyncio.to_thread(threads.join)


async def test_the_loop_is_woken_once_for_what_came_while_it_was_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, woken, came, over = asyncio.get_running_loop(), [], list[int](), asyncio.Event()
    wake = loop.call_soon_threadsafe

    def counted(*given: Any, **kw: Any) -> Any:
        woken.append(given)
        return wake(*given, **kw)

    def told(what: Came[int]) -> None:
        assert what.error is None and what.gave is not None
        came.append(what.gave)
        if len(came) == 50:
            over.set()

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    threads, last = Threads(1, "waking"), threading.Event()
    for number in range(49):
        threads.do(lambda number=number: number, told)  # type: ignore[misc]
    threads.do(lambda: last.set() or 49, told)
    last.wait()  # the loop stands still
    await over.wait()
    assert came == list(range(50))
    assert len(woken) <= 2  # the last may come when the others are being told
    threads.close()
    await asyncio.to_thread(threads.join)


async def test_an_error_is_his_who_asked_and_keeps_nobody_else_from_his_answer() -> None:
    threads = Threads(1, "failing")
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, said: heard.append(said))
    gate = threading.Event()
    threads.do(gate.wait)
    threads.do(bool, lambda came: 1 // 0)
    after = asyncio.ensure_future(threads.run(lambda: 7))
    await asyncio.sleep(0)
    gate.set()
    assert await after == 7
    assert [type(said["exception"]) for said in heard] == [ZeroDivisionError]
    threads.close()
    await asyncio.to_thread(threads.join)


async def test_work_of_one_who_has_left_is_done() -> None:
    threads, go, done = Threads(1, "left"), threading.Event(), threading.Event()
    threads.do(go.wait)
    task = asyncio.create_task(threads.run(done.set))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    assert await asyncio.to_thread(done.wait)
    threads.close()
    await asyncio.to_thread(threads.join)
