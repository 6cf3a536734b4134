"""A kept body: every reader gets every byte, whatever happens to the others, to the disk or to the source."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.model import keep as keep_module
from proxy.model.body import Body, Bytes
from proxy.model.errors import BodyConsumed, ClientLeft
from proxy.model.keep import Kept


class Source(Body):
    """Pieces, each handed out when the test lets it; what ends it may be an error."""

    def __init__(self, pieces: Iterable[bytes], *, error: Exception | None = None, gated: bool = False) -> None:
        self.length = None
        self._pieces = list(pieces)
        self._error = error
        self._gate = asyncio.Semaphore(0) if gated else None
        self.pulled = 0
        self.waiting = asyncio.Event()  # at the gate
        self.taken = asyncio.Event()  # through it
        self.closed = 0

    def now(self) -> None:
        return None

    def let(self, count: int = 1) -> None:
        assert self._gate is not None
        for _ in range(count):
            self._gate.release()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if self._gate is not None:
                self.waiting.set()
                await self._gate.acquire()
                self.waiting.clear()
                self.taken.set()
            self.pulled += 1
            yield piece
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        self.closed += 1
        await super().aclose()


async def whole(body: Body) -> bytes:
    return b"".join([piece async for piece in body])


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterable[None]:
    if not os.path.isdir("/proc/self/fd"):
        yield
        return
    gc.collect()
    before = descriptors()
    yield
    gc.collect()
    assert descriptors() <= before


PIECES = st.lists(st.binary(max_size=40), max_size=12)


@given(pieces=PIECES, memory=st.integers(0, 200), readers=st.integers(1, 4))
@settings(deadline=None, max_examples=150)
def test_every_reader_gets_every_byte_at_every_chunking(pieces: list[bytes], memory: int, readers: int) -> None:
    async def run() -> None:
        source = Source(pieces)
        kept = Kept(source, memory=memory, limit=10_000)
        first = await asyncio.gather(*(whole(kept) for _ in range(readers)))
        again = await whole(kept)
        assert {*first, again} == {b"".join(pieces)}
        assert source.pulled == len(pieces)
        if kept.now() is not None:
            assert kept.now() == b"".join(pieces)
        await kept.aclose()

    asyncio.run(run())


@given(
    pieces=PIECES, memory=st.integers(0, 100), limit=st.integers(0, 200), steps=st.lists(st.integers(0, 2), max_size=40)
)
@settings(deadline=None, max_examples=150)
def test_a_reader_gets_the_right_bytes_or_is_told_that_it_can_not(
    pieces: list[bytes], memory: int, limit: int, steps: list[int]
) -> None:
    # Three readers take turns in any order over a body that may outgrow its limit: a prefix, then the rest or an error.
    async def run() -> None:
        data = b"".join(pieces)
        kept = Kept(Source(pieces), memory=memory, limit=limit)
        passes = [aiter(kept) for _ in range(3)]
        heard = [b""] * 3
        told: list[str | None] = [None] * 3
        for turn in [*steps, *[0, 1, 2] * (len(pieces) + 1)]:
            if told[turn] is not None:
                continue
            try:
                heard[turn] += await anext(passes[turn])
            except StopAsyncIteration:
                told[turn] = "end"
            except BodyConsumed:
                told[turn] = "too late"
            assert data.startswith(heard[turn])
        assert all(word is not None for word in told)
        assert all(heard[n] == data for n in range(3) if told[n] == "end")
        assert len(data) > limit or told == ["end"] * 3
        assert "end" in told
        await kept.aclose()

    asyncio.run(run())


async def test_the_first_pass_streams_while_it_is_kept() -> None:
    source = Source([b"a", b"b"], gated=True)
    kept = source.keep(memory=10, limit=100)
    reader = aiter(kept)
    source.let()
    assert await anext(reader) == b"a" and source.pulled == 1
    source.let()
    assert await anext(reader) == b"b"
    await kept.aclose()


async def test_the_source_is_never_read_ahead_of_the_fastest_reader() -> None:
    source = Source([b"a", b"b", b"c"])
    kept = source.keep(memory=10, limit=100)
    fast, slow = aiter(kept), aiter(kept)
    assert [await anext(fast), await anext(fast)] == [b"a", b"b"]
    assert await anext(slow) == b"a"
    assert source.pulled == 2
    await kept.aclose()


async def test_a_cancelled_reader_in_mid_pull_loses_nothing_for_the_others() -> None:
    source = Source([b"a", b"b"], gated=True)
    kept = source.keep(memory=10, limit=100)
    first = asyncio.create_task(whole(kept))
    await source.waiting.wait()
    second = asyncio.create_task(whole(kept))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.let(2)
    assert await second == b"ab"
    assert await whole(kept) == b"ab"
    await kept.aclose()


async def test_a_cancelled_only_reader_leaves_a_body_that_can_be_read() -> None:
    source = Source([b"a", b"b"], gated=True)
    kept = source.keep(memory=10, limit=100)
    first = asyncio.create_task(whole(kept))
    await source.waiting.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.let(2)
    assert await whole(kept) == b"ab"
    await kept.aclose()


async def test_a_large_body_goes_to_a_file_and_is_read_from_there() -> None:
    data = os.urandom(3_000_000)
    source = Source([data[at : at + 70_000] for at in range(0, len(data), 70_000)])
    kept = source.keep(memory=100_000, limit=10_000_000)
    assert await asyncio.gather(whole(kept), whole(kept)) == [data, data]
    assert await kept.read(10_000_000) == data
    assert kept.now() is None  # it is not in memory
    await kept.aclose()


async def test_a_small_body_is_here_once_it_has_come() -> None:
    kept = Source([b"a", b"b"]).keep(memory=10, limit=100)
    assert kept.now() is None
    await whole(kept)
    assert kept.now() == b"ab"
    await kept.aclose()


async def test_over_the_limit_the_front_reader_goes_on_and_later_ones_are_told() -> None:
    source = Source([b"aaaa", b"bbbb", b"cccc", b"dddd"])
    kept = source.keep(memory=4, limit=8)
    front, late = aiter(kept), aiter(kept)
    assert await anext(late) == b"aaaa"
    assert b"".join([piece async for piece in front]) == b"aaaabbbbccccdddd"
    with pytest.raises(BodyConsumed, match="outgrown"):
        await anext(late)
    with pytest.raises(BodyConsumed, match="outgrown"):
        await whole(kept)
    await kept.aclose()


async def test_two_readers_at_the_front_of_an_outgrown_body_both_go_on() -> None:
    source = Source([b"aaaa", b"bbbb", b"cccc"], gated=True)
    kept = source.keep(memory=4, limit=4)
    readers = [asyncio.create_task(whole(kept)) for _ in range(2)]
    for _ in range(3):
        await source.waiting.wait()
        source.let()
        await source.taken.wait()
        source.taken.clear()
    assert await asyncio.gather(*readers) == [b"aaaabbbbcccc"] * 2
    await kept.aclose()


class FullDisk:
    """A file on a disk that is full after some bytes; closing it says so again."""

    def __init__(self, real: Any, room: int) -> None:
        self._real = real
        self._room = room

    def write(self, data: bytes) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self._real.write(data))

    def writelines(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._real.flush()

    def fileno(self) -> int:
        return int(self._real.fileno())

    def close(self) -> None:
        self._real.close()
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("room", [0, 4, 9])
async def test_a_full_disk_costs_the_second_chance_and_not_the_first(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = keep_module.tempfile.TemporaryFile
    monkeypatch.setattr(keep_module.tempfile, "TemporaryFile", lambda **kw: FullDisk(real(**kw), room))
    kept = Source([b"aaaa", b"bbbb", b"cccc", b"dddd"]).keep(memory=4, limit=1000)
    assert await whole(kept) == b"aaaabbbbccccdddd"
    with pytest.raises(BodyConsumed):
        await whole(kept)
    await kept.aclose()


async def test_a_disk_that_gives_no_file_costs_the_second_chance_and_not_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(keep_module.tempfile, "TemporaryFile", refuse)
    kept = Source([b"aaaa", b"bbbb"]).keep(memory=4, limit=1000)
    assert await whole(kept) == b"aaaabbbb"
    with pytest.raises(BodyConsumed):
        await whole(kept)
    await kept.aclose()


async def test_a_break_in_the_source_reaches_every_reader_behind_the_same_bytes() -> None:
    kept = Source([b"a", b"b"], error=ClientLeft("gone")).keep(memory=10, limit=100)
    for _ in range(2):
        reader = aiter(kept)
        assert [await anext(reader), await anext(reader)] == [b"a", b"b"]
        with pytest.raises(ClientLeft):
            await anext(reader)
    assert kept.now() is None
    await kept.aclose()


async def test_a_break_that_nobody_waits_for_is_kept_quietly() -> None:
    source = Source([b"a"], error=ClientLeft("gone"), gated=True)
    kept = source.keep(memory=10, limit=100)
    first = asyncio.create_task(whole(kept))
    await source.waiting.wait()
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    source.let()
    with pytest.raises(ClientLeft):
        await whole(kept)
    await kept.aclose()


@given(pieces=PIECES, memory=st.integers(0, 200), at=st.integers(0, 300), read=st.booleans())
@settings(deadline=None, max_examples=150)
def test_a_pass_may_begin_anywhere(pieces: list[bytes], memory: int, at: int, read: bool) -> None:
    async def run() -> None:
        kept = Kept(Source(pieces), memory=memory, limit=10_000)
        if read:
            await whole(kept)
        # Before all has come, and on the way from memory to the file, as well as afterwards.
        found = await asyncio.gather(*(joined(kept.rest(start)) for start in (at, 0, at // 2)))
        data = b"".join(pieces)
        assert found == [data[at:], data, data[at // 2 :]]
        assert await joined(Bytes(data).rest(at)) == data[at:]
        await kept.aclose()
        with pytest.raises(BodyConsumed, match="closed"):
            await joined(kept.rest(at))

    asyncio.run(run())


async def joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("memory", [0, 100])
async def test_what_is_lent_is_read_after_it_was_closed(memory: int) -> None:
    source = Source([b"aaaa", b"bbbb"])
    kept = source.keep(memory=memory, limit=100)
    async with source.lent():
        await whole(kept)
        async with kept.lent():
            await source.aclose()
            assert await whole(kept) == b"aaaabbbb"
        assert await whole(kept) == b"aaaabbbb" and source.kept is None
    with pytest.raises(BodyConsumed, match="closed"):
        await whole(kept)
    async with Source([]).lent(), Bytes(b"x").lent():
        pass


async def test_what_has_not_come_yet_is_not_lent() -> None:
    source = Source([b"aaaa", b"bbbb"], gated=True)
    kept = source.keep(memory=100, limit=100)
    async with kept.lent():
        reader = asyncio.create_task(whole(kept))
        await source.waiting.wait()
        await kept.aclose()
        with pytest.raises(BodyConsumed, match="closed"):
            await reader


async def test_closing_ends_the_pull_and_the_source_once() -> None:
    source = Source([b"a"], gated=True)
    kept = source.keep(memory=10, limit=100)
    reader = asyncio.create_task(whole(kept))
    await source.waiting.wait()
    await kept.aclose()
    await kept.aclose()
    with pytest.raises(BodyConsumed, match="closed"):
        await reader
    assert source.closed == 1


@pytest.mark.parametrize("memory", [0, 100])
async def test_a_closed_body_is_never_mistaken_for_an_empty_one(memory: int) -> None:
    kept = Source([b"a", b"b"]).keep(memory=memory, limit=100)
    await whole(kept)
    await kept.aclose()
    assert kept.now() is None
    with pytest.raises(BodyConsumed, match="closed"):
        await whole(kept)


async def test_closing_the_source_closes_what_was_kept_of_it() -> None:
    source = Source([b"aaaa", b"bbbb"])
    kept = source.keep(memory=1, limit=100)
    await whole(kept)
    await source.aclose()
    with pytest.raises(BodyConsumed, match="closed"):
        await whole(kept)


async def test_keeping_twice_is_keeping_once() -> None:
    source = Source([b"a"])
    kept = source.keep(memory=10, limit=100)
    assert source.keep(memory=10, limit=100) is kept
    assert kept.keep(memory=10, limit=100) is kept
    await kept.aclose()


def test_a_body_that_is_here_needs_no_keeping() -> None:
    body = Bytes(b"x")
    assert body.keep(memory=0, limit=0) is body
