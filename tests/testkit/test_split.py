"""A transform that depends on where the network cuts is found, and the cut is named."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.testkit import same_at_every_split

DOCUMENT = b'{"a": "secret", "b": "not a secret"}'


async def masked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    held = b""
    async for piece in pieces:
        held = (held + piece).replace(b"secret", b"******")
        ready, held = held[:-5], held[-5:]
        yield ready
    yield held


async def test_a_transform_that_holds_back_enough_makes_the_same_of_every_cut() -> None:
    assert await same_at_every_split(masked, DOCUMENT) == DOCUMENT.replace(b"secret", b"******")
    assert await same_at_every_split(masked, b"") == b""


async def test_one_that_sees_only_its_piece_is_found() -> None:
    async def careless(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece.replace(b"secret", b"******")

    with pytest.raises(AssertionError, match=r"cut byte by byte, the output differs from byte 7 on: .*36 bytes"):
        await same_at_every_split(careless, DOCUMENT)


async def test_one_that_fails_at_a_single_cut_is_found() -> None:
    async def unlucky(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield b"!" if len(piece) == 17 else piece

    with pytest.raises(AssertionError, match=f"cut at 17 of {len(DOCUMENT)}"):
        await same_at_every_split(unlucky, DOCUMENT)


async def test_one_that_stumbles_over_an_empty_piece_is_found() -> None:
    async def stumbles(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece[:1]
            assert piece[0]
            yield piece[1:]

    with pytest.raises(IndexError) as caught:
        await same_at_every_split(stumbles, DOCUMENT)
    assert caught.value.__notes__ == ["The document was cut: byte by byte, with empty pieces between."]


async def test_of_a_long_document_the_same_sample_is_tried_each_time() -> None:
    tried: list[int] = []

    async def looks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        first = True
        async for piece in pieces:
            if first and len(piece) > 1:
                tried.append(len(piece))
            first = False
            yield piece

    await same_at_every_split(looks, bytes(10_000), cuts=50)
    assert len(tried) == 51 and tried[0] == 10_000  # once whole, then the sample
    once, tried = tried, []
    await same_at_every_split(looks, bytes(10_000), cuts=50)
    assert tried == once
    tried = []
    await same_at_every_split(looks, bytes(10_000), cuts=50, seed=1)
    assert tried != once
