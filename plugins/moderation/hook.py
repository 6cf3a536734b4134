"""A backend of the operator's own: an upstream that speaks the contract of docs/moderation-hook.md."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson

from proxy.api import Body, Bytes, Services, in_base64

from .asking import AT_ONCE, cut
from .breaker import Breaker
from .calling import ask, together
from .scored import MOST as MOST_NAMES
from .scored import UNNAMED, name, score, table
from .verdict import About, Matter, Scores, Unavailable, Unreadable, View

VERSION = 1
TARGET = "/v1/moderate"  # behind the upstream's base URL: /moderate
MOST = 32 * 2**20  # bytes of all pictures of one question, before base64
SMALL = 2**18  # bytes; what is larger is written in pieces
CERTAIN = 0.5  # a score from which on a category is one that was blocked for


class Hook:
    """Asks an upstream that the operator wrote."""

    sees = True
    personal = True

    def __init__(self, upstream: str, services: Services, *, timeout: float) -> None:
        self.name = upstream
        self._services = services
        self._timeout = timeout
        self._breaker = Breaker(upstream, services.clock, services.log, slow=0.9 * timeout)

    async def judge(self, matter: Matter, about: About) -> Scores:
        """Judge all of it in one question. Raises Unavailable and Unreadable."""
        due = self._services.clock.now() + self._timeout
        # Before the hook is asked: that decoding takes its time is no fault of its.
        shown = await together([sight.views for sight in matter.pictures], at_once=AT_ONCE)
        images = [(sight.path, view) for sight, all in zip(matter.pictures, shown, strict=True) for view in all]
        if sum(len(view.data) for _, view in images) > MOST:
            raise Unreadable(f"its pictures together are over {MOST // 2**20} MB")
        question = await written(matter, about, images)
        with self._breaker.asking():
            return verdict(await ask(self._services, self.name, TARGET, question, due=due))


async def written(matter: Matter, about: About, images: Sequence[tuple[str, View]]) -> Body:
    """The question."""
    said = {
        "version": VERSION,
        "id": about.id,
        "stage": matter.stage,
        "caller": about.caller,
        "group": about.group,
        "kind": about.kind,
        "model": about.model,
        # A half of a surrogate pair has no UTF-8.
        "texts": [
            {"path": _whole(one.path), "role": _whole(one.role), "text": _whole(one.text)} for one in matter.texts
        ],
        "images": [],
    }
    head = orjson.dumps(said).removesuffix(b"]}")
    body = Pieces(head, [(_opened(path, view, first=at == 0), view.data) for at, (path, view) in enumerate(images)])
    if body.length > SMALL:
        return body
    return Bytes(b"".join([piece async for piece in body]))


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _opened(path: str, view: View, *, first: bool) -> bytes:
    """What stands before a picture's base64."""
    told = orjson.dumps({"path": _whole(path), "type": view.type, "data": ""}).removesuffix(b'"}')
    return told if first else b"," + told


class Pieces(Body):
    """A question with its pictures, encoded as they are sent; it can be sent again."""

    __slots__ = ("_head", "_pictures", "length")
    length: int

    def __init__(self, head: bytes, pictures: Sequence[tuple[bytes, bytes]]) -> None:
        self._head = head
        self._pictures = pictures
        self.length = len(head) + sum(len(opened) + -(-len(data) // 3) * 4 + 2 for opened, data in pictures) + 2

    def now(self) -> None:
        """Never here: it is written when it is sent."""
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The question, from its beginning each time."""
        yield self._head
        for opened, data in self._pictures:
            yield opened
            async for piece in in_base64(cut(data)):
                yield piece
            yield b'"}'
        yield b"]}"


def verdict(told: Any) -> Scores:
    """The hook's answer, checked: what is not in the contract is no verdict."""
    told = table(told, "a decision")
    decision = told.get("decision")
    if decision not in ("allow", "block"):
        raise Unavailable("its answer lacks a decision")
    given = told.get("categories", [])
    if isinstance(given, list):
        if len(given) > MOST_NAMES:
            raise Unavailable("its answer names too many categories")
        if given and decision == "allow":
            raise Unavailable("its answer allows and names categories without scores")
        scores = dict.fromkeys([name(one) for one in given], 1.0)
    else:
        scores = {name(one): score(value) for one, value in table(given, "categories").items()}
    if decision == "allow":
        return Scores(scores)
    if not scores:
        scores = {UNNAMED: 1.0}
    least = min(CERTAIN, max(scores.values()))
    return Scores(scores, frozenset([one for one, value in scores.items() if value >= least]))
