"""Failures have classes: what an upstream's answer, or the lack of one, is, and so what may be done next.

    failure = classify(429, headers, body, sent=True, paid=True)
    failure.kind, failure.retry_after       # "rate_limit", 20.0

Pure: no I/O and no clock. What tells the classes apart is data, in failures.toml beside this file and in the
operator's `[[failures]]`. It never raises, whatever comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from ..model.errors import ProxyError, QueueFull, UpstreamError
from ..model.failure import Billed, Failure, FailureClass, Told
from ..model.message import Headers
from . import failure_wait
from .failure_rule import Rule, Rules
from .failure_said import Said, of_body, of_document
from .failure_said import of_error as said_of_error

__all__ = ["Rule", "Rules", "classify", "of_error", "of_reading"]

COOLDOWN_MAX = 600.0  # seconds; who asks for a longer rest has a wrong clock, or bad intent
MOST_SHOWN = 48  # characters of a code
MOST_DIGITS = 4  # in a code; ids and keys have more
NOT_BILLED = ("rate_limit", "balance", "auth", "connect", "invalid")  # in a 200, too
SHAPES = {
    "error": "an error without a code",
    "json": "JSON without an error",
    "html": "a page",
    "text": "text",
    "empty": "nothing",
}


def classify(
    status: int,
    headers: Headers,
    body: bytes | Mapping[str, object],
    *,
    sent: bool,
    paid: bool,
    look: bool = False,
    upstream: str | None = None,
    rules: Rules | None = None,
    now: float = 0.0,
    cooldown_max: float = COOLDOWN_MAX,
) -> Failure | None:
    """The failure that an answer is, or None when it is none.

    `body` is its beginning, at most 64 KiB of which are looked at, or what was read of it: an event, a task. `sent`:
    has the whole request gone out? A 2xx is looked into only with `look`, or when a document is given. `now` is the
    time of day, for a Retry-After that is a date.
    """
    ok = status < 400
    if ok and (not 200 <= status < 300 or not (look or not isinstance(body, bytes))):
        return None
    if isinstance(body, bytes):
        said = of_body(body, headers.get("content-encoding"), ok=ok)
    else:
        said = of_document(body, ok=ok)
    case = _Case(status, headers, said, sent, paid, upstream, rules or _plain(), now, cooldown_max)
    return case.inside() if ok else case.judged(status)


def of_reading(
    headers: Headers,
    *,
    paid: bool,
    image: bool,
    verdict: str = "unknown",
    error: Mapping[str, object] | str | None = None,
    finish: Iterable[str] = (),
    refusal: bool = False,
    used: bool = False,
    status: int = 200,
    upstream: str | None = None,
    rules: Rules | None = None,
    now: float = 0.0,
    cooldown_max: float = COOLDOWN_MAX,
) -> Failure | None:
    """The failure that was found while a 2xx was read, or None.

    `image`: was a picture asked for? `verdict` says whether one came: "image", "error", "none" or "unknown". `error` is
    the one that was seen, `finish` why it ended, `used` whether it told of usage, which is paid for.
    """
    if verdict == "image":
        return None
    said = said_of_error(error) if error is not None or verdict == "error" else Said("json")
    for reason in finish:
        said.end(reason)
    if refusal:
        said.end("refusal")
    case = _Case(status, headers, said, True, paid, upstream, rules or _plain(), now, cooldown_max, used)
    return case.inside(missing=image and verdict == "none")


def of_error(error: ProxyError, *, paid: bool) -> Failure | None:
    """The failure where nobody answered, or the answer was cut; None when the error is not the upstream's."""
    if error.code.startswith("provider_credential_"):
        # It is this caller's credential that is not there: nothing of the upstream's is to rest.
        return Failure.of(
            "auth", Told(error.code, error.type, "no credential for this caller"), paid=paid, bench="none"
        )
    if not isinstance(error, UpstreamError):
        return None
    if isinstance(error, QueueFull):  # to ask the same one again would be to jump the line
        told = Told(error.code, error.type, "no room in the line, or none in time")
        return Failure.of("connect", told, paid=paid, again="never", bench="none")
    told = Told(error.code, error.type, f"{'too late' if error.timeout else 'no answer'}, {_sent(error.sent)}")
    if error.sent:
        return Failure.of("ambiguous", told, paid=paid)
    if error.code == "queue_unavailable":  # its connections were busy; the upstream has done nothing wrong
        return Failure.of("connect", told._replace(reason="no room in the line"), paid=paid, again="last", bench="none")
    return Failure.of("connect", told, paid=paid)


@dataclass(slots=True)
class _Case:
    """One answer, before the rules."""

    status: int
    headers: Headers
    said: Said
    sent: bool
    paid: bool
    upstream: str | None
    rules: Rules
    now: float
    cooldown_max: float
    used: bool = False

    def judged(self, status: int) -> Failure:
        """An answer whose status says that it failed."""
        rule = self.rules.find(status, self.said, self.headers, self.upstream)
        if rule is not None:
            return self._failure(rule.class_, rule)
        # 600 and more is nobody's to say what it means.
        return self._failure("ambiguous" if status >= 500 else "invalid")

    def inside(self, *, missing: bool = False) -> Failure | None:
        """An answer whose status says that all is well."""
        said = self.said
        wrong = said.shape == "error"
        broken = said.shape == "html" or (said.shape == "empty" and self.status == 200)
        bad = wrong or missing or broken
        if bad or said.finish:
            status = said.status if wrong and said.status is not None and said.status >= 300 else self.status
            rule = self.rules.find(status, said, self.headers, self.upstream, ended=not bad)
            if rule is not None:
                return self._failure(rule.class_, rule)
        if not bad:
            return None
        # What had begun may have been billed, although it does not say what went wrong.
        return self._failure("result_missing" if self.paid else "failure")

    def _failure(self, kind: FailureClass, rule: Rule | None = None) -> Failure:
        if kind == "ambiguous" and not self.sent:
            kind = "failure"  # it can't have acted on what it has not got
        bench = None if rule is None else rule.bench
        billed: Billed | None = None if rule is None else rule.billed
        if self.used:
            billed = "yes"
        elif billed is None and self.status < 300 and kind not in NOT_BILLED:
            billed = "maybe"
        seconds = failure_wait.told(self.headers, self.said, now=self.now, most=self.cooldown_max)
        told_not_to = (self.headers.get("x-should-retry") or "").lower() == "false"
        guess = False
        if kind == "rate_limit" and seconds is None:
            guess = True
            seconds = failure_wait.worded(self.said.text, most=self.cooldown_max)
        return Failure.of(
            kind,
            _told(self.status, self.said),
            paid=self.paid,
            again="never" if told_not_to else None,
            bench=bench,
            billed=billed,
            retry_after=seconds,
            guess=guess,
            rule="" if rule is None else rule.name,
        )


@cache
def _plain() -> Rules:
    return Rules()


def _told(status: int, said: Said) -> Told:
    code, type = _shown(said.code), _shown(said.type)
    word = code or type or (_shown(said.finish[0]) if said.finish else None)
    within = f", holding {said.status}" if status < 300 and said.status is not None else ""
    return Told(code, type, f"{status}{within}: {word or SHAPES[said.shape]}")


def _shown(word: str | None) -> str | None:
    """A code, if it looks like one: the upstream may have put a key, an id or a prompt in its place."""
    return _word(word) if word is not None and len(word) <= MOST_SHOWN else None


@lru_cache(256)
def _word(word: str) -> str | None:
    if not word.isascii():
        return None
    if not word.replace("_", "").replace("-", "").replace(".", "").isalnum() or "sk-" in word:
        return None
    return word if sum(map(str.isdigit, word)) <= MOST_DIGITS else None


def _sent(sent: bool) -> str:
    return "all of it may have been sent" if sent else "nothing was sent"
