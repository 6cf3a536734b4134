"""Local rules as an operator writes them: TOML files, checked whole when they are read."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from . import folding

KEYS: Final = ("category", "words", "patterns", "roles", "unless", "score")
# In whose name texts stand. Who claims to be somebody else is held to every rule.
ROLES: Final = ("user", "system", "developer", "assistant", "tool", "function")
LONG: Final = 32  # words of a phrase
BEGINNING: Final = 2  # letters that a beginning has at least; "a*" is meant by nobody
_CATEGORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,63}")  # it stands in answers, in the log and in metrics


@dataclass(frozen=True, slots=True)
class Phrase:
    """A word or several, folded; of the last one only the beginning, where `open`."""

    words: tuple[str, ...]
    open: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[rule]]`."""

    place: str  # "rule 3 of rules.toml", for the operator alone
    category: str
    phrases: tuple[Phrase, ...] = ()
    patterns: tuple[Any, ...] = ()  # compiled
    roles: frozenset[str] = frozenset()  # none: all
    unless: tuple[Phrase, ...] = ()
    score: float = 1.0

    def concerns(self, role: str) -> bool:
        """Whether a text in that name is held to it."""
        return not self.roles or role in self.roles or role not in ROLES


def read(data: bytes, name: str) -> tuple[Rule, ...]:
    """The rules of a file. Raises ValueError that tells all that is wrong, a line each."""
    try:
        document = tomllib.loads(data.decode())
    except ValueError as exc:  # no TOML, or no UTF-8
        raise ValueError(f"{name} can't be read: {exc}") from exc
    wrong = [f"{name}: {_unknown(key, ('rule',))}" for key in document if key != "rule"]
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{name}: rules are written as [[rule]] tables")
    found = []
    for number, table in enumerate(tables, 1):
        reading = _Reading(table)
        found.append(reading.rule(f"rule {number} of {name}"))
        wrong += [f"rule {number} of {name}: {what}" for what in reading.wrong]
    if wrong:
        raise ValueError("\n".join(wrong))
    return tuple(found)


class _Reading:
    """One table, and what is wrong with it."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table
        self.wrong = [_unknown(key, KEYS) for key in table if key not in KEYS]

    def rule(self, place: str) -> Rule:
        """The rule; worth nothing where something is wrong."""
        words, patterns = self._texts("words"), self._texts("patterns")
        if not (self._table.get("words") or self._table.get("patterns")):
            self.wrong.append("it finds nothing; give it words or patterns")
        return Rule(
            place,
            self._category(),
            self._phrases("words", words),
            self._patterns(patterns),
            self._roles(),
            self._phrases("unless", self._texts("unless")),
            self._score(),
        )

    def _texts(self, key: str) -> list[str]:
        value = self._table.get(key, [])
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            return texts
        self.wrong.append(f"{key} must be a text, or a list of texts")
        return []

    def _category(self) -> str:
        value = self._table.get("category")
        if value is None:
            self.wrong.append('category is missing; it is what the client hears, as in "competitors"')
        elif not isinstance(value, str) or not _CATEGORY.fullmatch(value):
            self.wrong.append(f"category {value!r} must be letters, digits and _ . / -, 64 at the most")
        return str(value)

    def _roles(self) -> frozenset[str]:
        roles = self._texts("roles")
        self.wrong += [f"roles: {_unknown(role, ROLES, 'role')}" for role in roles if role not in ROLES]
        if "roles" in self._table and not roles and not any(one.startswith("roles") for one in self.wrong):
            self.wrong.append("roles is empty, so that it is for nobody; leave it out to have it for all")
        return frozenset(roles)

    def _score(self) -> float:
        value = self._table.get("score", 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1 or math.isnan(value):
            self.wrong.append(f"score {value!r} must be a number over 0, 1 at the most")
            return 1.0
        return float(value)

    def _phrases(self, key: str, texts: Sequence[str]) -> tuple[Phrase, ...]:
        found: dict[Phrase, None] = {}
        for text in texts:
            bare, star = text.strip(), text.strip().endswith("*")
            forms = [form.strip() for form in folding.readings(bare.rstrip("*"))]
            if why := _why_not(bare, forms[0], star):
                self.wrong.append(f"{key}: {text!r} {why}")
                continue
            for form in forms:
                if words := tuple(folding.tokens(form)):
                    # Where each letter is a word, all that follows is another one.
                    found[Phrase(words, star and not folding.spaceless(words[-1]))] = None
        return tuple(found)

    def _patterns(self, texts: Sequence[str]) -> tuple[Any, ...]:
        if not texts:
            return ()
        try:
            import regex  # with a bound of time, and without the interpreter's lock, neither of which re has
        except ImportError:
            self.wrong.append("patterns need the package regex: pip install 'framegate[moderation]'")
            return ()
        found = []
        for text in texts:
            try:
                pattern = regex.compile(text, regex.IGNORECASE | regex.VERSION0)
            except regex.error as exc:
                self.wrong.append(f"patterns: {text!r} is no regular expression: {exc}")
                continue
            if pattern.search("") is not None:
                self.wrong.append(f"patterns: {text!r} finds nothing at all, too, and so it is true of every text")
            found.append(pattern)
        return tuple(found)


def _why_not(text: str, form: str, star: bool) -> str:
    """Why that is no phrase to look for, or ""."""
    if "*" in text[:-1]:
        return "has a '*' within; it may stand at the end"
    words = folding.tokens(form)
    if not words:
        return "holds no letter and no digit; write it as a pattern"
    standing = list(folding.spans(form))
    if standing[0][0] != 0 or standing[-1][1] != len(form):
        side = "begins" if standing[0][0] else "ends"
        return f"{side} with a sign, and words are letters and digits; write it as a pattern"
    if len(words) > LONG:
        return f"has {len(words)} words; {LONG} are looked at, at the most"
    if star and len(words[-1]) < BEGINNING and not folding.spaceless(words[-1]):
        return f"would find too much; a beginning has {BEGINNING} letters at least"
    return ""


def _unknown(key: str, known: Sequence[str], sort: str = "key") -> str:
    near = get_close_matches(key, known, 1)
    return f"no such {sort} '{key}'; " + (f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}")
