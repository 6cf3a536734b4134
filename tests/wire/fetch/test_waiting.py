"""How long a fetch may take, who hangs up at its end, and how many there are at once."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

import pytest

from proxy.model.fetch import FetchFailed
from proxy.testkit import Call, ScriptedUpstream
from proxy.wire.fetch import Gate

from ..fetching import (
    PICTURE,
    URL,
    Fetching,
    Internet,
    failed,
    fetching,
    redirected,
    unspoken,
)
from ..telling import chunk, until
from ..test_dial import blackhole

# --- how long


async def soon() -> None:
    """Let what was begun come to where it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


class Mute(Internet):
    """Looks names up for ever."""

    async def resolve(self, name: str, port: int) -> Any:
        self.asked.append(name)
        await asyncio.Event().wait()


async def given_up(fetch: Fetching, task: asyncio.Task[bytes], *, after: float, words: str) -> None:
    """See that it ends then, and is told to be late."""
    await fetch.turned(after, task)
    with pytest.raises(FetchFailed, match=words) as caught:
        await task
    assert unspoken(caught.value).timeout


async def test_a_name_that_is_never_found_is_given_up() -> None:
    internet = Mute()
    async with fetching(internet) as fetch:
        task = await fetch.begin()
        await until(lambda: internet.asked)
        await given_up(fetch, task, after=6, words="in time")


async def test_a_host_that_does_not_answer_is_given_up() -> None:
    with blackhole() as hole:
        internet = Internet(hole)
        async with fetching(internet) as fetch:
            task = await fetch.begin()
            await until(lambda: internet.asked)
            await given_up(fetch, task, after=6, words="in time")


async def test_a_handshake_that_never_ends_is_given_up() -> None:
    hello = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        hello.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        async with fetching(Internet(server.sockets[0].getsockname()[1])) as fetch:
            task = await fetch.begin()
            await hello.wait()
            await given_up(fetch, task, after=6, words="in time")


class Slow:
    """A server that sends a piece each time that it is told to, until it is hung up on."""

    def __init__(self, *pieces: bytes) -> None:
        self.reached = asyncio.Event()  # it has been asked
        self.gone = asyncio.Event()
        self._told = asyncio.Semaphore(0)
        self._pieces = pieces

    async def __call__(self, call: Call) -> None:
        """The script."""
        self.reached.set()
        gone = asyncio.ensure_future(call.gone())
        try:
            for piece in self._pieces:
                told = asyncio.ensure_future(self._told.acquire())
                await asyncio.wait((told, gone), return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    told.cancel()
                    break
                await call.send(piece)
            await gone
        finally:
            gone.cancel()
            self.gone.set()
            call.cut()

    def go(self) -> None:
        """Send the next piece."""
        self._told.release()


async def test_an_answer_that_does_not_begin_is_given_up(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")
    async with fetching(Internet(cdn)) as fetch:
        task = await fetch.begin()
        await slow.reached.wait()
        slow.go()  # a line now and then is no answer
        fetch.clock.turn(20)
        await soon()
        assert not task.done()
        slow.go()
        await given_up(fetch, task, after=16, words="no answer in time")
    await slow.gone.wait()


START = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_an_answer_that_stands_still_is_given_up(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(START, chunk(b"a"))
    slow.go()
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open(URL) as fetched:
            fetch.clock.turn(60)  # our own pause is not its
            slow.go()
            assert await anext(fetched) == b"a"
            reading = asyncio.create_task(anext(fetched))
            await soon()
            fetch.clock.turn(14)
            await soon()
            assert not reading.done()
            fetch.clock.turn(2)
            with pytest.raises(FetchFailed, match="too slowly") as caught:
                await reading
            assert unspoken(caught.value).timeout
            await slow.gone.wait()  # it is hung up on at once, not only when the block is left


async def test_an_answer_in_drops_is_given_up_in_the_end(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(START, *[chunk(b"a")] * 99)
    slow.go()
    drops = 0
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            with pytest.raises(FetchFailed, match="too slowly"):
                while True:
                    fetch.clock.turn(10)
                    slow.go()
                    drops += len(await anext(fetched))
    assert 10 <= drops <= 12


async def test_redirects_and_the_picture_share_one_time(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(redirected("/b"))
    async with fetching(Internet(cdn)) as fetch:
        task = await fetch.begin()
        for asked in (1, 2, 3, 4):
            await until(lambda count=asked: len(cdn.requests) == count)
            if asked < 4:
                fetch.clock.turn(33)
                slow.go()
        # 121 in all, and only 22 since the last question
        await given_up(fetch, task, after=22, words="no answer in time")


# --- leaving


@pytest.mark.parametrize("where", ["before its head", "within its body"])
async def test_who_is_cancelled_hangs_up(cdn: ScriptedUpstream, where: str) -> None:
    cdn.script = slow = Slow(START + chunk(b"a"))
    async with fetching(Internet(cdn)) as fetch:
        if where == "within its body":
            slow.go()
            begun = asyncio.Event()

            async def reads() -> None:
                async with fetch.open() as fetched:
                    async for _ in fetched:
                        begun.set()

            task = asyncio.create_task(reads())
            await begun.wait()
        else:
            task = asyncio.create_task(fetch.read())
            await slow.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await slow.gone.wait()


async def test_who_is_cancelled_while_a_name_is_looked_up_leaves_nothing() -> None:
    internet = Mute()
    async with fetching(internet, gate=Gate(1, 0)) as fetch:
        for _ in range(3):
            internet.asked.clear()
            task = await fetch.begin()
            await until(lambda: internet.asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_who_leaves_early_hangs_up(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(START + chunk(b"a"))
    slow.go()
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            assert await anext(fetched) == b"a"
        await slow.gone.wait()
        with pytest.raises(FetchFailed, match="left already"):
            await anext(fetched)


async def test_leaving_waits_for_nobodys_farewell(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(START + chunk(b"a"))
    slow.go()
    before = sockets()
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            assert await anext(fetched) == b"a"
            assert len(sockets() - before) == 2  # both ends
        await asyncio.sleep(0)  # the loop closes in its next round what it hangs up on
        assert len(sockets() - before) == 1


def sockets() -> set[str]:
    """The sockets that this process has open."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {one for one in found if one.startswith("socket:")}


async def test_the_end_of_a_generation_hangs_up(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(START)
    slow.go()
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            reading = asyncio.create_task(anext(fetched))
            await soon()
            await fetch.fetcher.aclose()
            with pytest.raises(FetchFailed):
                await reading
        await slow.gone.wait()


# --- how many


async def test_so_many_are_fetched_at_once_and_so_many_wait(cdn: ScriptedUpstream) -> None:
    async with fetching(Internet(cdn), gate=Gate(1, 1)) as fetch:
        async with fetch.open() as fetched:
            second = await fetch.begin()
            await soon()
            assert "too many" in (await failed(fetch)).message
            assert cdn.connections == 1
            assert b"".join([piece async for piece in fetched]) == PICTURE
        assert await second == PICTURE


async def test_who_waits_for_too_long_is_given_up(cdn: ScriptedUpstream) -> None:
    async with fetching(Internet(cdn), gate=Gate(1, 1)) as fetch:
        async with fetch.open():
            second = await fetch.begin()
            await soon()
            await given_up(fetch, second, after=121, words="for too long")
        assert await fetch.read() == PICTURE
