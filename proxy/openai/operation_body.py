"""A request's body, kept so that it can still be forwarded, and read as strict JSON."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, NamedTuple

from ..model.body import Body
from .strict import SMALL, Hole, NotAHole, Skeleton, read

MEMORY = 2**20  # of a kept body; beyond it, its file
KEPT = 2**30  # beyond it there is no second pass; uploads of 16 pictures are 800 MB
BREATH = 2**22  # bytes after which others have their turn: some 5 ms


class Reading(NamedTuple):
    """A JSON document: its value, and its bytes without the long base64 that stands in the holes."""

    value: Any
    document: bytes
    skeleton: Skeleton | None = None  # None: there are no holes, the document is the body

    @property
    def nonce(self) -> str:
        """What the words begin with that stand for holes in the value."""
        return self.skeleton.nonce if self.skeleton else ""

    @property
    def holes(self) -> list[Hole]:
        """What was left where it is."""
        return self.skeleton.holes if self.skeleton else []

    def place(self, at: int) -> int:
        """Where in the body that byte of the document stands."""
        return self.skeleton.place(at) if self.skeleton else at


def kept(body: Body) -> Body:
    """The body as one that can be read again."""
    return body.keep(memory=MEMORY, limit=KEPT)


async def gather(body: Body, limit: int) -> Reading | None:
    """The JSON of a body; None when it is larger than the limit. Raises Rejected for what is not strict JSON."""
    data = body.now()
    length = body.length if data is None else len(data)
    if length is not None and length > limit:
        return None
    if data is not None and len(data) <= SMALL:
        return Reading(read(data), data)
    try:
        skeleton = await _skeleton(body, data, limit, holes=True)
    except NotAHole:
        skeleton = await _skeleton(body, data, limit, holes=False)
    if skeleton is None:
        return None
    document = bytes(skeleton.document)
    return Reading(read(document, nonce=skeleton.nonce if skeleton.holes else ""), document, skeleton)


async def _skeleton(body: Body, data: bytes | None, limit: int, *, holes: bool) -> Skeleton | None:
    skeleton = Skeleton(holes=holes)
    if data is not None:
        skeleton.feed(data)
    else:
        size = breath = 0
        async with aclosing(aiter(kept(body))) as pieces:  # type: ignore[type-var] # each is a generator
            async for piece in pieces:
                size += len(piece)
                if size > limit:
                    return None
                skeleton.feed(piece)
                if size - breath > BREATH:
                    breath = size
                    await asyncio.sleep(0)
    skeleton.finish()
    return skeleton
