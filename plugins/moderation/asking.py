"""A backend that is asked by POST /v1/moderations: OpenAI's, or any service of that shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import orjson

from proxy.api import Bytes, Services, in_base64

from .breaker import Breaker
from .cache import Cache
from .calling import ask, together
from .scored import UNNAMED, highest, name, score, table
from .verdict import About, Matter, Scores, Sight, Unavailable, View

TARGET = "/v1/moderations"
AT_ONCE = 4  # calls for one judgement
MOST_TEXTS = 32  # of one call
MOST_BYTES = 512 * 2**10  # of the texts of one call; the longest text in four-byte characters fits
LONGEST = 100_000  # characters of one text; a longer one is judged in pieces
OVERLAP = 1_000  # characters that are in two pieces: what is cut in one is whole in the other
STEP = 3 * 2**16  # bytes encoded at a time
BLIND = "text-moderation-"  # models that see no pictures

Judged = dict[bytes, Scores]


class OpenAI:
    """Asks an upstream by its name. `cache` keeps the verdict of each text and picture, by `digest` of what it was."""

    def __init__(
        self,
        upstream: str,
        services: Services,
        *,
        model: str,
        timeout: float,
        digest: Callable[[bytes], bytes],
        cache: Cache[bytes, Scores] | None = None,
    ) -> None:
        self.name = upstream
        self.sees = not model.startswith(BLIND)
        self.personal = False
        self._services = services
        self._model = model
        self._timeout = timeout
        self._digest = digest
        self._marks = {what: f"{upstream}\0{model}\0{what}\0".encode() for what in ("text", "picture")}
        self._cache = cache
        self._breaker = Breaker(upstream, services.clock, services.log, slow=0.9 * timeout)

    async def judge(self, matter: Matter, about: About) -> Scores:
        """Judge all of it, asking only about what is not in the cache. Raises Unavailable and Unreadable."""
        judged: Judged = {}
        texts: dict[bytes, str] = {}
        for text in matter.texts:
            for piece in pieces(text.text):
                key = self._key("text", piece.encode("utf-8", "surrogatepass"))
                if not self._known(key, judged):
                    texts[key] = piece
        pictures: dict[bytes, Sight] = {}
        for sight in matter.pictures if self.sees else ():
            key = self._key("picture", sight.digest)
            if not self._known(key, judged):
                pictures[key] = sight
        if texts or pictures:
            due = self._services.clock.now() + self._timeout
            # Before the backend is asked: that decoding takes its time is no fault of its.
            shown = await together([sight.views for sight in pictures.values()], at_once=AT_ONCE)
            jobs: list[Callable[[], Awaitable[Judged]]] = [
                partial(self._of_texts, batch, due) for batch in batches(texts)
            ]
            jobs += [partial(self._of_picture, key, views, due) for key, views in zip(pictures, shown, strict=True)]
            with self._breaker.asking():
                for found in await together(jobs, at_once=AT_ONCE):
                    judged |= found
        return highest(judged.values()) if judged else Scores()

    def _key(self, what: str, of: bytes) -> bytes:
        return self._digest(self._marks[what] + of)

    def _known(self, key: bytes, judged: Judged) -> bool:
        if key in judged:
            return True
        found = self._cache.get(key) if self._cache is not None else None
        if found is None:
            return False
        judged[key] = found
        return True

    def _found(self, judged: Judged) -> Judged:
        """Kept at once: what was answered counts, whatever becomes of the other calls."""
        if self._cache is not None:
            for key, scores in judged.items():
                self._cache.put(key, scores)
        return judged

    async def _of_texts(self, batch: dict[bytes, str], due: float) -> Judged:
        # A half of a surrogate pair has no UTF-8; nobody reads it as anything.
        given = [text.encode("utf-8", "replace").decode() for text in batch.values()]
        results = await self._results(orjson.dumps({"model": self._model, "input": given}), len(given), due)
        return self._found(dict(zip(batch, results, strict=True)))

    async def _of_picture(self, key: bytes, views: Sequence[View], due: float) -> Judged:
        """Each view is a call of its own: one picture is all that a call may hold.

        Of a picture that shows nothing, nothing is said; who gave it knows why.
        """
        found = [(await self._results(await self._shown(view), 1, due))[0] for view in views]
        return self._found({key: highest(found)}) if found else {}

    async def _shown(self, view: View) -> bytes:
        head = b'{"model":%b,"input":[{"type":"image_url","image_url":{"url":"data:image/%b;base64,'
        encoded = [piece async for piece in in_base64(cut(view.data))]
        return b"".join((head % (orjson.dumps(self._model), view.type.encode()), *encoded, b'"}}]}'))

    async def _results(self, question: bytes, count: int, due: float) -> list[Scores]:
        answer = await ask(self._services, self.name, TARGET, Bytes(question), due=due)
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list):
            raise Unavailable("its answer lacks results")
        if len(results) != count:
            raise Unavailable(f"its answer has {len(results)} results for {count} questions")
        return [result(one) for one in results]


def result(told: Any) -> Scores:
    """One result, checked: a field that is missing or strange is no verdict, and never a harmless one."""
    told = table(told, "a result")
    flagged = told.get("flagged")
    if type(flagged) is not bool:
        raise Unavailable("its answer lacks flagged")
    categories = table(told.get("categories"), "categories")
    if any(value is not None and type(value) is not bool for value in categories.values()):
        raise Unavailable("its answer lacks categories")
    given = table(told.get("category_scores"), "category_scores")
    scores = {name(one): score(value) for one, value in given.items() if value is not None}
    over = {name(one) for one, value in categories.items() if value}
    if flagged and not over:
        over.add(UNNAMED)
    for one in over:  # so that a threshold does not overlook what has no score
        scores.setdefault(one, 1.0)
    return Scores(scores, frozenset(over))


def pieces(text: str) -> Iterator[str]:
    """The text, cut where it is too long for one question; nothing where there is nothing in it."""
    if len(text) <= LONGEST:
        if text and not text.isspace():
            yield text
        return
    for start in range(0, len(text) - OVERLAP, LONGEST - OVERLAP):
        piece = text[start : start + LONGEST]
        if not piece.isspace():
            yield piece


def batches(texts: dict[bytes, str]) -> Iterator[dict[bytes, str]]:
    """The texts in as few calls as their order allows."""
    batch: dict[bytes, str] = {}
    size = 0
    for key, text in texts.items():
        weight = len(text.encode("utf-8", "replace"))
        if batch and (len(batch) == MOST_TEXTS or size + weight > MOST_BYTES):
            yield batch
            batch, size = {}, 0
        batch[key] = text
        size += weight
    if batch:
        yield batch


async def cut(data: bytes) -> AsyncIterator[bytes]:
    """Bytes in pieces that base64 needs not join."""
    for start in range(0, len(data), STEP):
        yield data[start : start + STEP]
