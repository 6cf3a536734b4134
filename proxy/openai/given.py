"""The pictures that a request brings with it, read where they stand in its body; one that has two readings has none."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import NamedTuple

from ..model.body import Body, Bytes
from ..model.errors import BodyConsumed
from ..model.sights import Unreadable
from .operation_texts import Image
from .pictures import NOT_BASE64, SNIFFED, Base64, Sniffed, sniff

LARGEST = 50 * 2**20  # bytes of a picture: upstreams take no larger ones
PIECE = 2**18  # of a body that is here
STEP = 2**19  # bytes that are summed at once, by a thread: a millisecond or two
BEFORE = 256  # bytes before long base64 in which the head of its data URL stands
GONE = "the request that brought it is over"
TOO_LONG = f"it has more than {LARGEST // 2**20} MiB"
TWO_READINGS = "its base64 can be read in two ways"
NO_SORT = "it is no PNG, JPEG, WebP or GIF"
# What stands before base64 in a data URL. Upstreams differ over anything else: no base64, a charset, blanks.
_HEAD = re.compile(r"data:(?:image/[a-z0-9.+-]+|application/octet-stream)?;base64,", re.IGNORECASE)


class Given(NamedTuple):
    """What is known of a picture once all of it has been passed over."""

    digest: bytes  # BLAKE2b of its bytes
    type: Sniffed | None  # which its first bytes show
    length: int  # bytes
    bad: str | None = None  # why it can't be looked at


def standing(body: Body) -> Body:
    """A request's body as it can be read again, once the request was read."""
    source = body.kept or body
    data = source.now()
    return source if data is None else Bytes(data)


async def given(body: Body, image: Image) -> Given:
    """Pass over a picture that is given inline or as an upload. Large ones are summed aside, a piece at a time."""
    total = hashlib.blake2b(digest_size=32)
    head, length = b"", 0
    held: list[bytes] = []
    size = 0
    try:
        async with aclosing(pieces_of(body, image)) as pieces:
            async for piece in pieces:
                if len(head) < SNIFFED:
                    head += piece[:SNIFFED]
                length += len(piece)
                size += len(piece)
                held.append(piece)
                if size >= STEP:
                    await asyncio.to_thread(total.update, b"".join(held))
                    held, size = [], 0
    except Unreadable as error:
        return Given(b"", None, length, error.why)
    total.update(b"".join(held))
    sort = sniff(head)
    return Given(total.digest(), sort, length, NO_SORT if sort is None or sort == "svg" else None)


async def pieces_of(body: Body, image: Image) -> AsyncGenerator[bytes]:
    """A picture's own bytes, in small pieces. Raises Unreadable."""
    length = 0
    async with aclosing(_bytes(body, image)) as pieces:
        async for piece in pieces:
            length += len(piece)
            if length > LARGEST:
                raise Unreadable(TOO_LONG)
            if piece:
                yield piece


async def _bytes(body: Body, image: Image) -> AsyncGenerator[bytes]:
    if image.source == "upload":
        if image.length > LARGEST:
            raise Unreadable(TOO_LONG)
        async with aclosing(_stretch(body, image.start, image.length)) as pieces:
            async for piece in pieces:
                yield piece
        return
    if image.length > LARGEST // 3 * 4 + 4:
        raise Unreadable(TOO_LONG)
    reading = Base64()
    if image.length < 0:
        yield reading.feed(_text(image.value))
    else:
        first = max(0, image.start - BEFORE)
        async with aclosing(_stretch(body, first, image.start - first)) as pieces:
            before = b"".join([piece async for piece in pieces])
        _text(before[before.rfind(b'"') + 1 :].decode("ascii", "replace"))
        async with aclosing(_stretch(body, image.start, image.length)) as pieces:
            async for piece in pieces:
                yield reading.feed(piece)
                if reading.bad is not None:
                    break
    yield reading.close()
    if reading.bad is not None:
        raise Unreadable(reading.bad)
    if not reading.canonical:
        raise Unreadable(TWO_READINGS)


def _text(value: str) -> bytes:
    """The base64 of a picture that was given as a short string."""
    if value[:5].lower() == "data:":
        head = _HEAD.match(value)
        if head is None:
            raise Unreadable("it is a data: URL of another kind than data:image/...;base64,")
        value = value[head.end() :]
    if not value.isascii():
        raise Unreadable(NOT_BASE64)
    return value.encode()


async def _stretch(body: Body, start: int, length: int) -> AsyncGenerator[bytes]:
    data = body.now()
    end = start + length
    if data is not None:
        if end > len(data):
            raise Unreadable(GONE)
        for at in range(start, end, PIECE):
            yield data[at : min(at + PIECE, end)]
        return
    rest: AsyncIterator[bytes] = body.rest(start)
    try:
        async with aclosing(rest) as pieces:  # type: ignore[type-var] # it is a generator
            async for piece in pieces:
                if len(piece) >= length:
                    yield piece[:length]
                    return
                length -= len(piece)
                yield piece
    except BodyConsumed:
        raise Unreadable(GONE) from None
    raise Unreadable(GONE)
