"""All backends together: who is asked, what counts as too much, and what nobody could look at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol

from proxy.api import ProxyError, Unseen

from .cache import Cache
from .verdict import About, Backend, Matter, Scores, Sight, Unavailable, Unreadable, Verdict, View

LONG = 2**20  # bytes from which on a digest is made by a thread
UNWATCHED = "a picture, at which no backend here looks"


class Rules(Backend, Protocol):
    """A backend that needs nobody, and changes its mind."""

    @property
    def version(self) -> str:
        """Another one for other rules."""

    async def look(self) -> None:
        """See whether they have changed."""


class Judge:
    """The backends of one instance. Rules cost nothing and are asked first; what they find is enough."""

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        rules: Rules | None = None,
        ask: Literal["all", "first"] = "all",
        thresholds: Mapping[str, float] | None = None,
        timeout: float,
        cache: Cache[bytes, Verdict] | None = None,
        digest: Callable[[bytes], bytes],
    ) -> None:
        self._backends = backends
        self._rules = rules
        self._ask = ask
        self._thresholds = thresholds or {}
        self._timeout = timeout
        self._cache = cache
        self._personal = any(backend.personal for backend in backends)
        self._digest = digest

    async def key(self, matter: Matter) -> bytes:
        """The keyed hash by which this very matter is known: every text in its place, every picture."""
        texts = [matter.stage, *[part for one in matter.texts for part in (one.role, one.text)]]
        pictures = [picture.digest for picture in matter.pictures]
        if sum(map(len, texts)) > LONG:
            return await asyncio.to_thread(self._key, texts, pictures)
        return self._key(texts, pictures)

    def _key(self, texts: Sequence[str], pictures: Sequence[bytes]) -> bytes:
        # Each length stands before its bytes, so that no two matters are written alike.
        parts = [text.encode("utf-8", "surrogatepass") for text in texts] + list(pictures)
        return self._digest(
            b"".join([b"%d:%d|" % (len(texts), len(pictures)), *[b"%d:%b" % (len(p), p) for p in parts]])
        )

    async def judge(self, key: bytes, matter: Matter, about: About) -> Verdict:
        """What all of them say, within the time. It never raises but when it is cancelled."""
        if self._cache is None:
            return await self._asked(matter, about)
        place = await self._place(key, about)
        if (known := self._cache.get(place)) is not None:
            return known
        verdict = await self._asked(matter, about)
        if not verdict.failed:
            self._cache.put(place, verdict)
        return verdict

    async def passed(self, key: bytes, about: About) -> bool:
        """Whether that was judged a short while ago, and nothing was found."""
        if self._cache is None:
            return False
        known = self._cache.get(await self._place(key, about))
        return known is not None and not (known.categories or known.unseen)

    async def _place(self, key: bytes, about: About) -> bytes:
        """Where a verdict is kept: by other rules, or on somebody else where that matters, it may be another."""
        if self._rules is not None:
            await self._rules.look()
            key += self._rules.version.encode()
        if self._personal:
            key += repr((about.caller, about.group, about.kind, about.model)).encode("utf-8", "surrogateescape")
        return key

    async def _asked(self, matter: Matter, about: About) -> Verdict:
        if not (matter.texts or matter.pictures):
            return Verdict()
        unseen: dict[str, Unseen] = {}
        matter = replace(matter, pictures=tuple([_Once(one, unseen) for one in matter.pictures]))
        found: list[tuple[str, Scores]] = []
        failed: list[str] = []
        watched = not matter.pictures

        async def one(backend: Backend) -> bool:
            nonlocal watched
            try:
                scores = await backend.judge(matter, about)
            except (Unavailable, Unreadable) as error:
                failed.append(f"{backend.name}: {error.why}")
                return False
            except ProxyError as error:  # a fault of the house's, on the way to a verdict
                failed.append(f"{backend.name}: {error.code}")
                return False
            found.append((backend.name, scores))
            watched = watched or backend.sees
            return True

        waiting = [backend.name for backend in self._backends]
        try:
            async with asyncio.timeout(self._timeout):
                if self._rules is not None and matter.texts:
                    await one(self._rules)
                if not self._over(found):
                    if self._ask == "all":
                        await self._all(one, waiting)
                    else:
                        await self._first(one, waiting, failed)
        except TimeoutError:
            failed += [f"{name}: it gave no answer in time" for name in waiting]
        categories = self._over(found)
        if not watched and not categories and not failed:
            unseen.update({one.path: Unseen(one.path, UNWATCHED) for one in matter.pictures})
        return Verdict(
            categories,
            _highest(found),
            tuple([name for name, _ in found]),
            tuple(failed),
            tuple(unseen.values()),
        )

    async def _all(self, one: Callable[[Backend], Awaitable[bool]], waiting: list[str]) -> None:
        """Ask all side by side. Whoever has answered waits no more."""

        async def ask(backend: Backend) -> None:
            await one(backend)
            waiting.remove(backend.name)

        if len(self._backends) == 1:  # no task for a single one
            await ask(self._backends[0])
            return
        try:
            async with asyncio.TaskGroup() as group:
                for backend in self._backends:
                    group.create_task(ask(backend))
        except BaseExceptionGroup as crashed:
            raise crashed.exceptions[0] from None

    async def _first(self, one: Callable[[Backend], Awaitable[bool]], waiting: list[str], failed: list[str]) -> None:
        """Ask one after another, until one has answered; what failed before that does not matter then."""
        before = len(failed)
        for backend in self._backends:
            answered = await one(backend)
            waiting.remove(backend.name)
            if answered:
                del failed[before:]
                waiting.clear()
                return

    def _over(self, found: Sequence[tuple[str, Scores]]) -> tuple[str, ...]:
        """The categories that are too much: by their threshold where they have one, else by the backend's own word."""
        over = set()
        for _, said in found:
            for category in said.flagged.union(said.scores):
                threshold = self._thresholds.get(category)
                if threshold is None:
                    if category in said.flagged:
                        over.add(category)
                elif said.scores.get(category, 1.0 if category in said.flagged else 0.0) >= threshold:
                    over.add(category)
        return tuple(sorted(over))


class _Once:
    """A picture that is decoded once for all backends; one that can't be is noted, and shows nothing."""

    def __init__(self, sight: Sight, unseen: dict[str, Unseen]) -> None:
        self.path = sight.path
        self.digest = sight.digest
        self._sight = sight
        self._unseen = unseen
        self._views: Sequence[View] | None = None
        self._lock = asyncio.Lock()

    async def views(self) -> Sequence[View]:
        """What there is to be seen; nothing where it can't be read."""
        async with self._lock:
            if self._views is None:
                try:
                    self._views = await self._sight.views()
                except Unreadable as error:
                    self._unseen[self.path] = Unseen(self.path, f"a picture that can't be looked at: {error.why}")
                    self._views = ()
        return self._views


def _highest(found: Sequence[tuple[str, Scores]]) -> Mapping[str, float]:
    scores: dict[str, float] = {}
    for _, said in found:
        for category, score in said.scores.items():
            scores[category] = max(score, scores.get(category, 0.0))
    return scores
