"""What was decided, as rows in the store, and what a person has allowed: `framegate moderation` shows and sets it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count, islice
from secrets import token_hex
from typing import Any, Literal, NamedTuple

import orjson

from proxy.api import SEALED, Outcome, Services, StoreError

from .provider import refusals
from .verdict import About, Decision, Matter, Stage, Verdict

SPACE = "moderation"  # of the store: rows, the newest first
ALLOWED = "moderation-allowed"  # hashes that a person let pass
LAST = 2**52  # microseconds since 1970, in the year 2112: a row's key counts down from there
TOGETHER = 64  # rows that are written at once
AGAIN = 1.0  # seconds between two tries to write
MOST = 2**24  # bytes, roughly, that wait for a store that is away
ROW = 2**10  # bytes that a row takes, roughly, without its prompt
LONGEST = 2**16  # characters of a prompt that are kept
SAID = 200  # characters of what a client or a backend says
MANY = 50  # things unseen that a row names
FRESH = 2.0  # seconds that we believe what we know of an allowed hash
REMEMBERED = 2**12  # hashes
Mode = Literal["block", "flag", "shadow"]


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """One decision, as it is to be kept. It may hold what a person wrote: no repr."""

    about: About
    route: str
    hash: bytes  # keyed, of what was judged
    stage: Stage
    decision: Decision
    verdict: Verdict = field(default_factory=Verdict)
    upstream: str | None = None  # whose refusal it is, for "provider"
    prompt: str | None = None  # kept, and sealed, only where the operator wants that


class _Waiting(NamedTuple):
    """A row on its way into the store, under a key that it has from the first: written twice, it is there once."""

    key: str
    at: float  # seconds since 1970
    row: Row

    @property
    def size(self) -> int:
        return ROW + len(self.row.prompt or "")


class Audit:
    """Keeps rows. Who notes one waits for nothing; where the store is away they wait in memory, as many as may."""

    def __init__(self, services: Services, *, mode: Mode, retention: float, keep_prompts: bool = False) -> None:
        self._services = services
        self._mode = mode
        self._retention = retention
        self._keep_prompts = keep_prompts
        self._mark, self._numbers = token_hex(4), count()  # no two rows of any process have one key
        self._waiting: deque[_Waiting] = deque()
        self._size = 0  # of those
        self._idle = asyncio.Event()
        self._idle.set()
        self._away = False  # the store is, and the log has said so
        self._lost = 0  # rows that the log has not told of yet
        self._closed = False
        self._allowed: dict[bytes, tuple[bool, float]] = {}
        self._unasked = False  # whether a hash is allowed can't be told, and the log has said so

    # --- rows

    def note(self, row: Row) -> None:
        """Have it written. Never raises, and never waits."""
        if row.prompt is not None:
            row = replace(row, prompt=_cut(row.prompt) if self._keep_prompts else None)
        at = self._services.clock.wall()
        waiting = _Waiting(f"{LAST - int(at * 1e6):013x}{self._mark}{next(self._numbers):x}", at, row)
        if self._size + waiting.size > MOST:
            self._lost += 1
            if self._lost == 1:
                self._services.log.error("audit_full", waiting=len(self._waiting))
            return
        self._waiting.append(waiting)
        self._size += waiting.size
        if self._idle.is_set():
            self._idle.clear()
            self._services.spawn(self._write(), name="moderation-audit")

    def provider(self, outcome: Outcome, row: Row) -> None:
        """Note the refusals by upstreams of which that exchange's ending tells; `row` says what was asked."""
        for refusal in refusals(outcome, self._services.failures):
            self.note(
                replace(
                    row,
                    stage=refusal.stage,
                    decision="provider",
                    verdict=Verdict(categories=refusal.categories),
                    upstream=refusal.upstream,
                )
            )

    async def aclose(self) -> None:
        """See all rows written; what can't be is counted in the log."""
        self._closed = True
        await self._idle.wait()

    async def _write(self) -> None:
        try:
            while self._waiting:
                if not await self._page():
                    if self._closed:
                        break
                    await self._services.clock.sleep(AGAIN)
        except asyncio.CancelledError:
            self._closed = True
            raise
        finally:
            if self._closed and (self._waiting or self._lost):
                self._services.log.error("audit_lost", rows=len(self._waiting) + self._lost)
                self._waiting.clear()
                self._size = self._lost = 0
            self._idle.set()

    async def _page(self) -> bool:
        """Write the first of those that wait; whether the store took them."""
        page = list(islice(self._waiting, TOGETHER))
        answers = await asyncio.gather(*map(self._put, page), return_exceptions=True)
        left = [one for one, answer in zip(page, answers, strict=True) if isinstance(answer, StoreError)]
        for _ in page:
            self._size -= self._waiting.popleft().size
        self._waiting.extendleft(reversed(left))
        self._size += sum(one.size for one in left)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, StoreError):
                self._services.log.error("audit_unwritable", exc_info=answer)
        errors = [answer for answer in answers if isinstance(answer, StoreError)]
        if errors and not self._away:
            self._services.log.warning("audit_unwritten", waiting=len(self._waiting), error=str(errors[0]))
        elif not errors and (self._away or self._lost):
            self._services.log.warning("audit_written_again", lost=self._lost)
            self._lost = 0
        self._away = bool(errors)
        return not errors

    async def _put(self, waiting: _Waiting) -> None:
        key, at, row = waiting
        store = self._services.store
        if row.prompt is not None:
            name = f"{SPACE}/{key}"
            sealed = await self._services.vault.seal(name, row.prompt)
            await store.put(SEALED, name, sealed, ttl=self._retention)
        told = orjson.dumps(_told(row, at, self._mode))
        await store.put(SPACE, key, told, ttl=self._retention)

    # --- what a person has allowed

    async def allowed(self, hash: bytes) -> bool:
        """Whether a person has looked at what has that hash, and let it pass. It does not, where nobody can tell."""
        now = self._services.clock.now()
        known = self._allowed.get(hash)
        if known is not None and now - known[1] < FRESH:
            return known[0]
        try:
            found = await self._services.store.get(ALLOWED, hash.hex()) is not None
        except StoreError as error:
            if not self._unasked:
                self._services.log.warning("allowed_unknown", error=str(error))
            self._unasked = True
            return False
        self._unasked = False
        if len(self._allowed) >= REMEMBERED:
            self._allowed.clear()
        self._allowed[hash] = found, now
        return found


def words(matter: Matter) -> str:
    """The texts of what was judged, as they are kept: one alone as it is, several each under its place."""
    if len(matter.texts) == 1:
        return matter.texts[0].text
    return "\n\n".join([f"[{text.path}]\n{text.text}" for text in matter.texts])


def _told(row: Row, at: float, mode: Mode) -> dict[str, Any]:
    """A row as it lies in the store: what a client or a backend says is cut, and never a prompt."""
    about, verdict = row.about, row.verdict
    return {
        "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "id": about.id,
        "route": row.route,
        "kind": about.kind,
        "model": None if about.model is None else _said(about.model),
        "caller": about.caller,
        "group": about.group,
        "hash": row.hash.hex(),
        "stage": row.stage,
        "decision": row.decision,
        "mode": mode,
        "categories": _all(verdict.categories),
        "scores": {_said(name): round(score, 4) for name, score in verdict.scores.items()},
        "backends": _all(verdict.backends),
        "failed": _all(verdict.failed),
        "unseen": _all(one._replace(path=_said(one.path)) for one in verdict.unseen[:MANY]),
        "upstream": row.upstream,
        "prompt_kept": row.prompt is not None,
    }


def _all(several: Iterable[object]) -> list[str]:
    return [_said(str(one), SAID * 2) for one in several]


def _said(text: str, most: int = SAID) -> str:
    """At most so much of it, as text that can be written."""
    return text[:most].encode(errors="replace").decode()


def _cut(prompt: str) -> str:
    """A prompt as it is kept: a longer one says what is missing."""
    more = len(prompt) - LONGEST
    kept = _said(prompt, LONGEST)
    return kept if more <= 0 else f"{kept}\n[{more} more characters were not kept]"
