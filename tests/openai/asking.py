"""Requests for tests: whole, or in pieces that come once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from proxy.api import Body, Bytes, Headers, Request

RECORDED = Path(__file__).parent / "requests.jsonl"
LONG = "data:image/webp;base64," + "UklGRg" * 12_000
MARK = b"<a long picture>"  # what stands for its base64 in the file


class Pieces(Body):
    """A body that comes in pieces of a size, once."""

    def __init__(self, data: bytes, size: int = 7, *, length: bool = True) -> None:
        self.length = len(data) if length else None
        self._data = data
        self._size = size
        self.passes = 0

    def now(self) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert not self.passes, "the client sends its body once"
        self.passes += 1
        for at in range(0, len(self._data), self._size):
            yield self._data[at : at + self._size]


def ask(
    body: bytes | Body = b"",
    target: str = "/v1/images/generations",
    kind: str | None = "application/json",
    *,
    method: str = "POST",
    **headers: str,
) -> Request:
    """A request as the wire would make it."""
    made = Bytes(body) if isinstance(body, bytes) else body
    named = {"content_type": kind, "content_length": None if made.length is None else str(made.length), **headers}
    return Request(method, target, Headers.of(**{name: value for name, value in named.items() if value}), made)


async def whole(body: Body) -> bytes:
    """All bytes of a body."""
    return b"".join([piece async for piece in body])
