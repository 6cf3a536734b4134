"""The operator's own rules as a backend: words and patterns from files, which are read again when they change."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, TypeVar

from proxy.api import Clock, Log

from .rule import Rule, read
from .rule_patterns import Patience
from .rule_set import RuleSet
from .verdict import About, Matter, Scores, Unavailable

T = TypeVar("T")
LOOKED: Final = 1.0  # seconds between two looks at the files
SHORT: Final = 2**13  # characters that are judged on the spot; a thread would take longer to come by
TEXT: Final = 64  # characters that a text counts more than its own, for what is done once for each
AT_ONCE: Final = 0.005  # seconds that all patterns together have on the spot; what takes longer begins anew in a thread
TOLD: Final = 60.0  # seconds for which a rule that takes too long is not told of again
THREADS: Final = 2


class _File(NamedTuple):
    """A file as it was when it was last looked at."""

    stamp: tuple[int, ...]  # none: there was no file
    rules: tuple[Rule, ...] = ()
    digest: bytes = b""


class _Looked(NamedTuple):
    """What a look at the files has shown."""

    files: Mapping[Path, _File]
    wrong: Sequence[tuple[Path, str]]  # files that can't be used, and why; their rules are the ones from before
    ready: RuleSet | None  # none: they are what they were


def load(paths: Sequence[Path]) -> RuleSet:
    """The rules of these files. Raises ValueError that tells all that is wrong with them, a line each."""
    looked = _look(paths, {})
    if looked.wrong:
        raise ValueError("\n".join(why for _, why in looked.wrong))
    return looked.ready or RuleSet()


def check(paths: Sequence[Path]) -> None:
    """Raise ValueError where these files can't be used; files that have not changed are read once."""
    _checked(tuple(paths), tuple([_stamp(path) for path in paths]))


@lru_cache(maxsize=16)
def _checked(paths: tuple[Path, ...], stamps: tuple[tuple[int, ...], ...]) -> None:
    load(paths)


def _stamp(path: Path) -> tuple[int, ...]:
    """What is another one for a file that has changed; nothing where there is none."""
    try:
        there = path.stat()
    except OSError:
        return ()
    return there.st_mtime_ns, there.st_size, there.st_ino, there.st_dev


class Rules:
    """Local rules: a category that they find has the score of its rule, and is flagged.

    `version` is another one for other rules, so that no verdict of older ones is believed.
    """

    name: ClassVar[str] = "rules"
    sees: ClassVar[bool] = False
    personal: ClassVar[bool] = False

    def __init__(self, paths: Sequence[Path], clock: Clock, log: Log) -> None:
        self._paths = tuple(paths)
        self._clock = clock
        self._log = log
        self._files: Mapping[Path, _File] = {}
        self._ready = RuleSet()
        self._next = 0.0  # when the files are looked at again
        self._told: dict[str, float] = {}
        self._pool: ThreadPoolExecutor | None = None
        self.version = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read the files. Raises ValueError in words for the operator when one of them can't be used."""
        pool = self._pool = ThreadPoolExecutor(THREADS, "moderation-rules")
        try:
            looked = await self._in_thread(_look, self._paths, {})
            if looked.wrong:
                raise ValueError("\n".join(why for _, why in looked.wrong))
            self._take(looked)
            yield
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    async def judge(self, matter: Matter, about: About) -> Scores:
        """Judge the texts. Raises Unavailable when a pattern ran out of its time, and nothing else was found."""
        await self.look()
        texts, ready = matter.texts, self._ready
        if not texts or not ready.rules:
            return Scores()
        if sum(len(text.text) + TEXT for text in texts) <= SHORT:
            checked = ready.check(texts, Patience(AT_ONCE))
            if checked.certain:
                return checked.scores
        patience = Patience()
        try:
            checked = await self._in_thread(ready.check, texts, patience)
        finally:
            patience.over = True
        if checked.late is not None:
            self._tell_of(checked.late)
            if not checked.certain:
                raise Unavailable(f"a rule took too long: {checked.late.place}")
        return checked.scores

    async def look(self) -> None:
        """See whether the files have changed, if the last look is a while ago."""
        if self._clock.now() >= self._next:
            self._next = self._clock.now() + LOOKED  # whoever comes meanwhile is judged by the rules from before
            self._take(await self._in_thread(_look, self._paths, self._files))

    def _take(self, looked: _Looked) -> None:
        self._files = looked.files
        self._next = self._clock.now() + LOOKED
        for path, why in looked.wrong:
            self._log.error("rules_not_loaded", file=str(path), why=why)
        if looked.ready is not None:
            self._ready = ready = looked.ready
            self.version = hashlib.sha256(b"".join(file.digest for file in looked.files.values())).hexdigest()[:16]
            self._log.info("rules_loaded", rules=len(ready.rules), words=ready.words.count, patterns=ready.patterns)

    def _tell_of(self, rule: Rule) -> None:
        now = self._clock.now()
        if now >= self._told.get(rule.place, 0.0):
            self._told[rule.place] = now + TOLD
            self._log.warning("rule_took_too_long", rule=rule.place)

    async def _in_thread(self, work: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)


def _look(paths: Sequence[Path], before: Mapping[Path, _File]) -> _Looked:
    """Read what has changed. A file that can't be used keeps its rules from before, and is told of once."""
    files, wrong = dict(before), []
    for path in paths:
        old = before.get(path, _File((-1,)))
        try:
            stamp = _stamp(path)
            if stamp and stamp == old.stamp:
                continue
            data = path.read_bytes()
        except OSError as exc:
            if old.stamp != ():
                wrong.append((path, f"{path} can't be read: {exc.strerror or type(exc).__name__}"))
                files[path] = old._replace(stamp=())
            continue
        try:
            files[path] = _File(stamp, read(data, path.name), hashlib.sha256(data).digest())
        except ValueError as exc:
            wrong.append((path, str(exc)))
            files[path] = old._replace(stamp=stamp)
    changed = any(files[path].digest != before[path].digest for path in before) or before.keys() != files.keys()
    return _Looked(files, wrong, RuleSet([rule for file in files.values() for rule in file.rules]) if changed else None)
