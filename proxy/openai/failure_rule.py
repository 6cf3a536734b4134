"""Rules that say of which class an answer is: data, in an order, the operator's before ours."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from ..model.failure import Bench, Billed, FailureClass
from ..model.message import Headers
from ..model.values import Several
from .failure_said import Said, Shape

Hundred = Literal["2xx", "4xx", "5xx"]
REMEMBERED = 512  # statuses whose rules are kept ready; there are three digits, and some services leave these


@dataclass(frozen=True, slots=True)
class Rule:
    """`[[failures]]`: all that it names must hold of an answer; of a list, one thing.

    Without `status` it is for every answer that is an error, one inside a 200 among them.
    """

    class_: FailureClass
    status: Several[int | Hundred] = ()
    code: Several[str] = ()  # a word that the error gives for itself; `*` in front or behind is anything
    message: Several[str] = ()  # stands in its text
    finish: Several[str] = ()  # a reason why a 200 has ended
    body: Several[Shape] = ()
    header: dict[str, str] = field(default_factory=dict)  # that text stands in it; "": it is there
    upstream: Several[str] = ()
    bench: Bench | None = None  # in place of its class's
    billed: Billed | None = None
    name: str = ""
    source: str = ""  # where such an answer was seen

    def __post_init__(self) -> None:
        told = (self.status, self.code, self.message, self.finish, self.body, self.header, self.upstream)
        if not any(told):
            raise ValueError(
                "it would be true of every answer; name a status, code, message, finish, body, header or upstream"
            )
        for status in self.status:
            if isinstance(status, int) and not 200 <= status <= 599:
                raise ValueError(f"status {status} is none that an answer can fail with; write 200 to 599")
        for key in ("code", "message", "finish", "upstream"):
            if any(not text.strip("* ") for text in getattr(self, key)):
                raise ValueError(f"{key} holds a text that is true of everything; take it out")
        for code in self.code:
            if "*" in code[1:-1]:
                raise ValueError(f"code '{code}' has a '*' within; it may stand in front, behind, or both")


class _Match:
    """A rule made ready: what it compares is in lower case, and in sets."""

    __slots__ = ("_body", "_ends", "_finish", "_header", "_messages", "_upstreams", "codes", "only_codes", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        codes = [code.casefold() for code in rule.code]
        self.codes = frozenset(code for code in codes if "*" not in code)
        self._ends = tuple(code for code in codes if "*" in code)
        self._messages = tuple(text.casefold() for text in rule.message)
        self._finish = frozenset(reason.casefold() for reason in rule.finish)
        self._body = frozenset(rule.body)
        self._header = tuple((name, text.casefold()) for name, text in rule.header.items())
        self._upstreams = frozenset(rule.upstream)
        others = (self._ends, self._messages, self._finish, self._body, self._header, self._upstreams)
        self.only_codes = bool(self.codes) and not any(others)

    def __call__(self, said: Said, headers: Headers, upstream: str | None) -> bool:
        if self._upstreams and upstream not in self._upstreams:
            return False
        if self._body and said.shape not in self._body:
            return False
        if (self.codes or self._ends) and not self._has_code(said.words):
            return False
        if self._finish and self._finish.isdisjoint(said.finish):
            return False
        if self._messages and not (said.text and any(text in said.text for text in self._messages)):
            return False
        return not self._header or self._has_headers(headers)

    def _has_headers(self, headers: Headers) -> bool:
        return all(any(text in value.casefold() for value in headers.getall(name)) for name, text in self._header)

    def _has_code(self, words: Sequence[str]) -> bool:
        if not self.codes.isdisjoint(words):
            return True
        for pattern in self._ends:
            for word in words:
                if _fits(pattern, word):
                    return True
        return False


class Rules:
    """Rules in their order: the operator's, then the shipped ones."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        own = [replace(rule, name=rule.name or f"failures[{i}]") for i, rule in enumerate(rules)]
        self._all = tuple(_Match(rule) for rule in (*own, *shipped()))
        self._ready: dict[int, tuple[_Match, ...]] = {}

    def find(
        self, status: int, said: Said, headers: Headers, upstream: str | None, *, ended: bool = False
    ) -> Rule | None:
        """The first rule that holds. `ended`: nothing is known to be wrong, so only why it ended can say that it is."""
        ready = self._ready.get(status)
        if ready is None:
            ready = self._for(status)
        words = said.words
        for match in ready:
            if match.only_codes:  # most are; a call for each would take longer than looking
                if not match.codes.isdisjoint(words):
                    return match.rule
            elif match(said, headers, upstream) and (match.rule.finish or not ended):
                return match.rule
        return None

    def _for(self, status: int) -> tuple[_Match, ...]:
        hundred = f"{status // 100}xx"
        ready = tuple(
            match
            for match in self._all
            if not match.rule.status or status in match.rule.status or hundred in match.rule.status
        )
        if len(self._ready) > REMEMBERED:
            self._ready.clear()
        self._ready[status] = ready
        return ready


@cache
def shipped() -> tuple[Rule, ...]:
    """Our own rules."""
    tables = tomllib.loads(files(__package__).joinpath("failures.toml").read_text("utf-8"))["failures"]
    return tuple(_rule(table) for table in tables)


def _rule(table: Mapping[str, Any]) -> Rule:
    known = {"class_" if key == "class" else key: value for key, value in table.items()}
    for key in ("status", "code", "message", "finish", "body", "upstream"):
        if key in known:
            known[key] = tuple(known[key]) if isinstance(known[key], list) else (known[key],)
    return Rule(**known)


def _fits(pattern: str, word: str) -> bool:
    text = pattern.strip("*")
    if pattern[0] == "*":
        return text in word if pattern[-1] == "*" else word.endswith(text)
    return word.startswith(text)
