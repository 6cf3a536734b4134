"""Bodies: read once, whole or in pieces, within a limit, and closed as often as anybody likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.model.body import EMPTY, Body, Bytes, Through
from proxy.model.errors import BodyConsumed, BodyTooLarge


class Pieces(Body):
    """A body that comes in pieces, once."""

    def __init__(self, *pieces: bytes, length: int | None = None) -> None:
        self.length = length
        self._pieces = pieces
        self.handed = 0
        self.closed = 0

    def now(self) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.handed += 1
            yield piece

    async def aclose(self) -> None:
        self.closed += 1
        await super().aclose()


async def whole(body: Body) -> bytes:
    return b"".join([piece async for piece in body])


async def upper(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece.upper()


async def test_the_empty_body_is_empty_however_it_is_read() -> None:
    assert EMPTY.now() == b"" and EMPTY.length == 0
    assert await EMPTY.read(0) == b"" and await whole(EMPTY) == b""
    await EMPTY.aclose()
    assert await whole(EMPTY) == b""


async def test_bytes_are_read_as_often_as_one_likes() -> None:
    body = Bytes(b"abc")
    assert body.length == 3 and body.now() == b"abc"
    for _ in range(2):
        assert await whole(body) == b"abc" and await body.read(3) == b"abc"


@pytest.mark.parametrize("body", [Bytes(b"abcd"), Pieces(b"ab", b"cd"), Pieces(b"ab", b"cd", length=4)])
async def test_a_body_over_the_limit_is_too_large(body: Body) -> None:
    with pytest.raises(BodyTooLarge, match="3 bytes") as caught:
        await body.read(3)
    assert caught.value.status == 413 and caught.value.limit == 3


async def test_a_body_over_the_limit_is_closed_and_not_read_to_its_end() -> None:
    body = Pieces(*[b"ab"] * 100)
    with pytest.raises(BodyTooLarge):
        await body.read(3)
    assert body.closed and body.handed == 2


async def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    body = Pieces(b"ab", length=1000)
    with pytest.raises(BodyTooLarge):
        await body.read(999)
    with pytest.raises(BodyTooLarge):
        body.allow(999)
    assert body.handed == 0


async def test_a_transform_sees_every_piece_and_its_length_is_anybodys_guess() -> None:
    source = Pieces(b"ab", b"", b"cd", length=4)
    body = Through(source, upper)
    assert body.length is None and body.now() is None
    assert [piece async for piece in body] == [b"AB", b"CD"]
    assert source.closed


async def test_a_transform_runs_once() -> None:
    body = Through(Pieces(b"ab"), upper)
    await whole(body)
    with pytest.raises(BodyConsumed):
        await whole(body)


async def test_closing_a_transform_runs_its_finally_and_closes_the_source() -> None:
    ended = []

    async def careful(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for piece in pieces:
                yield piece
        finally:
            ended.append(True)

    source = Pieces(b"ab", b"cd")
    body = Through(source, careful)
    reader = aiter(body)
    assert await anext(reader) == b"ab"
    await body.aclose()
    await body.aclose()
    assert ended == [True] and source.closed
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_closing_a_transform_that_never_ran_closes_the_source_and_nothing_can_start_it() -> None:
    source = Pieces(b"ab")
    body = Through(source, upper)
    await body.aclose()
    assert source.closed
    with pytest.raises(BodyConsumed):
        await whole(body)


async def test_a_transform_that_is_being_read_can_be_closed_by_somebody_else() -> None:
    waiting, go = asyncio.Event(), asyncio.Event()

    async def slow(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            waiting.set()
            await go.wait()
            yield piece

    source = Pieces(b"ab")
    body = Through(source, slow)
    reading = asyncio.create_task(whole(body))
    await waiting.wait()
    await body.aclose()
    assert source.closed
    go.set()
    await reading


async def test_a_crash_in_a_transform_reaches_the_reader_and_closes_the_source() -> None:
    async def crashes(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece
            raise ZeroDivisionError

    source = Pieces(b"ab", b"cd")
    with pytest.raises(ZeroDivisionError):
        await whole(Through(source, crashes))
    assert source.closed


@given(pieces=st.lists(st.binary(max_size=30), max_size=10), cut=st.integers(1, 5))
@settings(deadline=None)
def test_transforms_over_transforms_change_nothing_but_what_they_mean_to(pieces: list[bytes], cut: int) -> None:
    async def resliced(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in source:
            for at in range(0, len(piece), cut):
                yield piece[at : at + cut]

    async def run() -> None:
        body = Through(Through(Pieces(*pieces), resliced), upper)
        assert await body.read(10_000) == b"".join(pieces).upper()

    asyncio.run(run())


def test_a_body_shows_its_size_and_never_its_bytes() -> None:
    assert repr(Bytes(b"secret")) == "Bytes(6 bytes)"
    assert repr(Pieces(b"secret")) == "Pieces(unknown length)"
