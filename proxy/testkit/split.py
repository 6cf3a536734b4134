"""A transform must make the same of a document wherever the network cuts it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

Transform = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
CUTS = 2000  # two-way cuts tried at the most: every one of a document of that size, a sample of a longer one
SHOWN = 24  # bytes shown on each side of the first difference


async def same_at_every_split(transform: Transform, document: bytes, *, cuts: int = CUTS, seed: int = 0) -> bytes:
    """Run a transform over the document cut in every way that matters; what it makes of it, the same each time.

    The ways: whole, byte by byte, with empty pieces in between, and in two at each position. Of a document with more
    than `cuts` positions that many are tried, drawn with `seed`: the same ones in each run. Raises AssertionError
    that names the cut and the first byte that differs.
    """
    expected = await _joined(transform, [document])
    for name, pieces in _ways(document, cuts, seed):
        try:
            made = await _joined(transform, pieces)
        except Exception as error:
            error.add_note(f"The document was cut: {name}.")
            raise
        if made != expected:
            raise AssertionError(_difference(name, expected, made))
    return expected


def _ways(document: bytes, cuts: int, seed: int) -> Iterator[tuple[str, Sequence[bytes]]]:
    size = len(document)
    single = [document[i : i + 1] for i in range(size)]
    yield "byte by byte", single
    yield "byte by byte, with empty pieces between", [b"", *(piece for byte in single for piece in (byte, b""))]
    places: Sequence[int] = range(1, size)
    if len(places) > cuts:
        places = sorted(random.Random(seed).sample(places, cuts))
    for place in places:
        yield f"at {place} of {size}", [document[:place], document[place:]]


async def _joined(transform: Transform, pieces: Sequence[bytes]) -> bytes:
    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return b"".join([piece async for piece in transform(source())])


def _difference(name: str, expected: bytes, made: bytes) -> str:
    shorter = min(len(expected), len(made))
    at = next((i for i in range(shorter) if expected[i] != made[i]), shorter)
    start = max(0, at - SHOWN)
    return (
        f"cut {name}, the output differs from byte {at} on: "
        f"{made[start : at + SHOWN]!r} instead of {expected[start : at + SHOWN]!r} "
        f"({len(made)} bytes instead of {len(expected)})"
    )
