"""One picture of an answer on its way into the store, and what the client finds in its place."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from proxy.api import ImageStore, Picture, ProxyError, Spool, in_base64

HELD = 2**16  # bytes of text that can't be made again and are held in memory; more goes to a file
_NULL = re.compile(rb'"(?:[^"\\]|\\.)*+"\s*+:\s*+null')
_COMMA = re.compile(rb"\s*+,\s*+")
_COLON = re.compile(rb'"(?:[^"\\]|\\.)*+"(\s*+:\s*+)"')
# What the URL is called where the picture was: a name that speaks of base64 is not kept for one.
NAMES = {"b64_json": "url", "partial_image_b64": "partial_image_url"}


class Place:
    """Where a picture stands in an answer. The reader tells of it, the flow passes it, the store decides."""

    def __init__(self, picture: Picture, *, keep: bool = False, url: str | None = None) -> None:
        self.picture = picture
        self.url = url  # what stands in its place
        self.given_up = False  # nothing does: it stays as it came
        self.error: ProxyError | None = None  # why, where that is an error
        self.settled = False
        self.entered = False  # the flow has come to it
        self.exact = 0  # bytes that in base64 are the text to the letter
        self._known = url is not None  # from the start, so its text is never needed again
        name = picture.path.rpartition(".")[2]
        self._keep = keep and name not in ("url", "image_url")  # its base64 stays, and the URL stands behind
        self._name = NAMES.get(name)
        self._spool: Spool | None = None
        self._spools: list[AbstractAsyncContextManager[Spool]] = []  # that must be left
        self._head = b""  # what stood before the text
        self._dropped = 0  # characters of the text that have passed, and can be made again from the bytes
        self._rest = b""  # what has passed behind these
        self._long: Spool | None = None  # the same where it is long
        self._work: asyncio.Task[Any] | None = None

    async def open(self, images: ImageStore, owner: str | None, request: str) -> None:
        """Make room for it in the store. Raises ImageStoreError."""
        self._spool = await self._enter(images.spool(owner=owner, request=request))

    async def _enter(self, spool: AbstractAsyncContextManager[Spool]) -> Spool:
        entered = await spool.__aenter__()
        self._spools.append(spool)
        return entered

    @property
    def spool(self) -> Spool:
        """Where its bytes go."""
        assert self._spool is not None
        return self._spool

    # --- What becomes of it.

    def give_up(self, error: ProxyError | None = None) -> None:
        """Leave it as it came."""
        if self.url is None and not self.given_up:
            self.given_up, self.error = True, error

    def work(self, work: Coroutine[Any, Any, None]) -> None:
        """Have the store decide."""
        self._work = asyncio.get_running_loop().create_task(work, name="rehost")

    @property
    def begun(self) -> bool:
        """Whether the store has been asked."""
        return self._work is not None

    @property
    def clear(self) -> bool:
        """Whether no more of the answer is needed: a null beside a picture that gets another name must go."""
        return self.settled or (self._name is None and self.begun)

    @property
    def decided(self) -> bool:
        """Whether it is known what stands in its place."""
        return self.given_up or (self.url is not None and (self._known or self.clear))

    async def decide(self) -> None:
        """Wait for the store; what it was not asked for stays as it came."""
        if self._work is not None:
            await asyncio.wait((self._work,))
            self._work.result()
        self.give_up()

    # --- How it passes.

    @property
    def begin(self) -> float:
        """The offset at which the flow comes to it."""
        picture = self.picture
        if self._keep:
            return picture.end + 1 if picture.end >= 0 else float("inf")
        if self._name is None:
            return picture.quote
        return picture.key if picture.null is None else min(picture.null, picture.key)

    def past(self, data: bytes, index: int, at: int) -> int:
        """Take what of data[index:], which begins at that offset, is its own or may be; how many bytes."""
        picture, first, end = self.picture, index, len(data)
        over = picture.end >= 0
        if over:
            end = min(end, index + picture.end + 1 - at)
        if at < picture.start:
            index = min(end, index + picture.start - at)
            self._head += data[first:index]
        text = at + index - first - picture.start
        if self._known:
            return max(0, end - first)
        size = picture.end - picture.start
        again = size if over and picture.canonical else self.exact // 3 * 4
        stop = min(text + end - index, again)
        if stop < again:
            stop -= stop % 4
        if stop > text:
            self._dropped = stop
            index += stop - text
        if self._dropped == again and (over or not picture.canonical):
            if self._long is not None:
                self._long.write(data[index:end])
            else:
                self._rest += data[index:end]
            index = max(index, end)
        return index - first

    def skims(self, at: int) -> bool:
        """Whether its text may go on to pass by its bytes alone, with the flow at that offset."""
        level = self._dropped == self.exact // 3 * 4 and at == self.picture.start + self._dropped
        spool = self._spool
        return level and self.url is None and not self.given_up and spool is not None and spool.free

    def skip(self, data: Sequence[bytes]) -> int:
        """Spool bytes whose text has passed with them; the offset behind it."""
        spool = self.spool
        for piece in data:
            spool.write(piece)
            self.exact += len(piece)
        self._dropped = self.exact // 3 * 4
        return self.picture.start + self._dropped

    @property
    def heavy(self) -> bool:
        """Whether something of it should lie in a file, or be on the way there."""
        return self._long is not None or len(self._rest) > HELD

    async def settle(self, images: ImageStore) -> None:
        """Have what is held lie in a file where it is long. Raises ImageStoreError."""
        if len(self._rest) > HELD:
            self._long = await self._enter(images.spool())
            self._long.write(self._rest)
            self._rest = b""
        if self._long is not None:
            await self._long.drained()

    # --- What stands in its place.

    async def kept(self) -> AsyncGenerator[bytes]:
        """All that has passed, as it came. Raises ImageStoreError when that can't be read back."""
        yield self._head
        if self._dropped:
            async with aclosing(self._again()) as again, aclosing(in_base64(again)) as text:
                async for piece in text:
                    yield piece
        if self._long is not None:
            async for piece in self._long.read():
                yield piece
        yield self._rest

    async def _again(self) -> AsyncGenerator[bytes]:
        """The bytes whose text has passed."""
        picture = self.picture
        whole = picture.end >= 0 and self._dropped == picture.end - picture.start
        left = picture.length if whole else self._dropped // 4 * 3
        async for piece in self.spool.read():
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return

    @property
    def link(self) -> bytes:
        """The URL."""
        url = json.dumps(self.url).encode()
        if self._keep:
            return b',"%b":%b' % ((self._name or "url").encode(), url)
        if self._name is None:
            return url
        key, head, null = self.picture.key, self._head, b""
        if self.picture.null is not None and self.picture.null < key:
            null, head = without_null(head[: key - self.picture.null], 0), head[key - self.picture.null :]
        colon = _COLON.match(head)
        return b'%b"%b"%b%b' % (null, self._name.encode(), colon[1] if colon else b":", url)

    def null_in(self, behind: bytes) -> int | None:
        """Where in what stands behind it a null is that must go, as a URL of the same name stands before; -1: not yet.

        None where there is none.
        """
        picture = self.picture
        if picture.null is None or picture.null < picture.end or self.url is None or self._name != "url":
            return None
        at = picture.null - picture.end - 1
        return at if _NULL.match(behind, at) else -1

    async def aclose(self) -> None:
        """Let go of what was held for it."""
        if self._work is not None and not self._work.done():
            self._work.cancel()
            await asyncio.wait((self._work,))
        try:
            while self._spools:
                await self._spools.pop().__aexit__(None, None, None)
        finally:
            if self._spools:
                await self.aclose()


def without_null(text: bytes, at: int) -> bytes:
    """The text without the member that begins there and is null, and without one of the commas round it."""
    found = _NULL.match(text, at)
    assert found is not None
    before, after = text[:at], text[found.end() :]
    comma = _COMMA.match(after)
    if comma is not None:
        return before + after[comma.end() :]
    bare = before.rstrip()
    return (bare[:-1] if bare.endswith(b",") else before) + after
