"""Takes the pictures out of an answer while it flows: they go into the store, and URLs go on in their place."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from proxy.api import FetchFailed, FetchRefused, ImageStoreError, NotAnImage, Picture, ProxyError, Reading

from .place import Place, without_null

if TYPE_CHECKING:
    from . import Rehost

LARGEST = 2**26  # bytes of a picture that is fetched
BEHIND = 2**16  # bytes behind a picture that may wait for it
HEAD = 2**16  # bytes before a picture's text that may turn out to belong to it; behind more it stays as it is


class Cutting:
    """One answer. As the taker it is told of each piece before that piece flows; `flow` is what the piece becomes."""

    def __init__(
        self,
        settings: Rehost,
        reading: Reading,
        *,
        owner: str | None,
        request: str,
        stream: bool,
        upstream: str | None = None,
    ) -> None:
        self.decided = False  # what becomes of the first picture
        self.failed: ProxyError | None = None  # the first error
        self._settings = settings
        self._services = settings.services
        self._reading = reading
        self._owner = owner
        self._request = request
        self._stream = stream
        self._upstream = upstream
        self._opened: set[Place] = set()
        self._places: dict[Picture, Place] = {}  # told of, and not settled
        self._items: dict[str, Place] = {}  # the final picture of each output item
        self._ahead: deque[Place] = deque()  # told of, and not passed
        self._out: deque[bytes | Place] = deque()  # passed, and waiting to go on
        self._waiting = 0  # bytes of these
        self._held = b""
        self._at = 0  # the offset of what is held

    # --- What the reader tells.

    def wants(self, picture: Picture) -> bool:
        """Whether it may be one to keep: all but what is known to be none, or to be there already."""
        return picture.kind in (None, "final") or (picture.kind == "partial" and self._settings.partials)

    async def begun(self, picture: Picture) -> None:
        """Make room for it."""
        keep = self._settings.keep_b64
        if picture.kind == "repeated":
            if picture.form != "base64" or (url := await self._earlier(picture)) is None:
                return
            place = Place(picture, keep=keep, url=url)
        elif self.wants(picture) and (picture.form == "base64" or (picture.form == "url" and self._settings.urls)):
            place = Place(picture, keep=keep)
            try:
                await place.open(self._services.images, self._owner, self._request)
            except ImageStoreError as error:
                self._give_up(place, error)
        else:
            return
        if place.begin < self._at:  # too much stood between its name and its text
            await place.aclose()
            return
        self._opened.add(place)
        self._places[picture] = place
        self._ahead.append(place)

    async def piece(self, picture: Picture, data: bytes) -> None:
        """Spool its bytes, at the pace of the disk."""
        place = self._places.get(picture)
        if place is None or place.given_up:
            return
        place.spool.write(data)
        if picture.canonical:
            place.exact += len(data)
        try:
            await place.spool.drained()
        except ImageStoreError as error:
            self._give_up(place, error)

    def skims(self, picture: Picture) -> bool:
        """Whether nothing can happen to the answer but that this picture goes on."""
        place = self._places.get(picture)
        return place is not None and len(self._out) == 1 and self._out[0] is place and place.skims(self._at)

    def skim(self, picture: Picture, data: Sequence[bytes], rest: bytes, go_on: Callable[[], None]) -> bool:
        """Spool its bytes, and let its text pass without looking at it."""
        place = self._places[picture]
        self._at, self._held = place.skip(data), rest
        return place.spool.room(go_on)

    async def ended(self, picture: Picture) -> None:
        """All of it is there: keep it, if it is known to be one to keep."""
        place = self._places.get(picture)
        if place is None or place.given_up or place.url is not None:
            return
        if picture.bad is not None:
            self._give_up(place, NotAnImage("A picture in the answer can't be read."))
        elif picture.kind in ("final", "partial"):
            self._start(place)

    async def settled(self, picture: Picture) -> None:
        """Now it is known what it is."""
        place = self._places.pop(picture, None)
        if place is None:
            return
        place.settled = True
        if picture.kind == "final" and picture.item is not None:
            self._items.setdefault(picture.item, place)
        if place.given_up or place.url is not None or place.begun:
            return
        if picture.kind == "repeated":
            place.url = await self._earlier(picture)
        elif self.wants(picture):
            self._start(place)
            return
        place.give_up()

    async def _earlier(self, picture: Picture) -> str | None:
        """The URL of the same picture, which came before."""
        first = self._items.get(picture.item or "")
        if first is not None:
            await first.decide()
        return first.url if first is not None else None

    def _start(self, place: Place) -> None:
        url = place.picture.url
        place.work(self._keep(place) if url is None else self._fetch(place, url))

    async def _keep(self, place: Place) -> None:
        try:
            place.url = (await place.spool.commit()).url
        except (ImageStoreError, NotAnImage) as error:
            self._give_up(place, error)

    async def _fetch(self, place: Place, url: str) -> None:
        try:
            async with self._services.remote.open(url, upstream=self._upstream, limit=LARGEST) as fetched:
                async for piece in fetched:
                    place.spool.write(piece)
                    await place.spool.drained()
        except (FetchFailed, FetchRefused, ImageStoreError) as error:
            self._give_up(place, error)
            return
        await self._keep(place)

    def _give_up(self, place: Place, error: ProxyError) -> None:
        place.give_up(error)
        self.failed = self.failed or error
        self._services.log.warning("image_not_kept", id=self._request, why=error.code, where=place.picture.path)

    # --- What flows.

    async def flow(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The answer with URLs in the place of pictures."""
        try:
            over = False
            while not over:
                piece = await anext(pieces, None)
                over = piece is None
                self._pass(piece or b"", over=over)
                if self._ahead and self._ahead[0].heavy:
                    await self._settle(self._ahead[0])
                while (over or self._going()) and (one := await self._next(over=over)) is not None:
                    if isinstance(one, bytes):
                        if one:
                            yield one
                        continue
                    if one.url is not None:
                        yield one.link
                    else:
                        async with aclosing(one.kept()) as kept:
                            async for text in kept:
                                yield text
                    self.decided = True
                    if one not in self._ahead:
                        self._opened.discard(one)
                        await one.aclose()
        finally:
            for place in self._opened:
                await place.aclose()

    def _pass(self, piece: bytes, *, over: bool = False) -> None:
        """Sort what has come into bytes that go on and bytes that a picture holds."""
        data, start = (self._held + piece if self._held else piece), self._at
        at, end = start, start + len(data)
        while True:
            place = self._ahead[0] if self._ahead else None
            if place is not None and not place.entered and not place.given_up:
                goal = place.begin
            elif place is None:
                goal = end if over else max(at, self._reading.safe)
                if end - goal > HEAD:
                    goal = end
            else:
                goal = at
            if goal > at:
                stop = int(min(end, goal))
                self._out.append(data[at - start : stop - start])
                self._waiting += stop - at
                at = stop
            if place is None or at < goal:
                break
            if not place.entered and (place.error is not None or not place.given_up):
                place.entered = True
                self._out.append(place)
            if not place.given_up:
                at += place.past(data, at - start, at)
                if not (over or 0 <= place.picture.end < at):
                    break
            self._ahead.popleft()
        self._held, self._at = data[at - start :], at

    async def _settle(self, place: Place) -> None:
        try:
            await place.settle(self._services.images)
        except ImageStoreError as error:
            self._give_up(place, error)

    def _going(self) -> bool:
        """Whether anything may go on: in the middle of a picture, which is most of the time, nothing can."""
        front = self._out[0] if self._out else None
        return front is not None and (isinstance(front, bytes) or self._clear(front))

    def _clear(self, front: Place) -> bool:
        """Whether no more need come before the picture goes on, or the store is to be waited for.

        Alone in a stream it is waited for: nobody knows when the next event comes.
        """
        return front.decided or self._waiting > BEHIND or (self._stream and front.clear)

    async def _next(self, *, over: bool) -> bytes | Place | None:
        """What goes on now: bytes, or a picture of which is known what stands in its place; None: nothing can."""
        if not self._out:
            return None
        front = self._out[0]
        if isinstance(front, bytes):
            self._out.popleft()
            self._waiting -= len(front)
            return front
        if not front.decided:
            if not (over or self._clear(front)):
                return None
            await front.decide()
        if not self._without_null(front, over=over):
            return None
        self._out.popleft()
        if front.error is not None and self._settings.on_error == "refuse":
            raise front.error
        return front

    def _without_null(self, front: Place, *, over: bool) -> bool:
        """Take away a null that would overrule the URL before it; False when it has not come by yet."""
        behind = []
        for one in list(self._out)[1:]:
            if isinstance(one, Place):
                break
            behind.append(one)
        text = b"".join(behind)
        at = front.null_in(text)
        if at is None:
            return True
        if at < 0:
            return over or self._waiting > BEHIND
        short = without_null(text, at)
        del self._out[0]
        for _ in behind:
            del self._out[0]
        self._out.extendleft((short, front))
        self._waiting += len(short) - len(text)
        return True
