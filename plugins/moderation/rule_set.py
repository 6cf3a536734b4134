"""All rules together, made ready to judge texts by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from proxy.api import Text

from . import folding, rule_patterns
from .rule import Rule
from .rule_patterns import Patience, TookTooLong
from .rule_words import Words
from .verdict import Scores


class Checked(NamedTuple):
    """What the rules say, and the one that ran out of its time, behind which no other was tried."""

    scores: Scores
    late: Rule | None = None

    @property
    def certain(self) -> bool:
        """Whether nothing that is still unknown could make it worse.

        What was found decides also where another rule took too long, so that nobody gets past one with a text that
        keeps another busy.
        """
        return self.late is None or max(self.scores.scores.values(), default=0.0) >= 1


class RuleSet:
    """Rules made ready."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self.words = Words(self.rules)
        self.patterns = sum(len(rule.patterns) for rule in rules)
        self._patterned = tuple((number, rule) for number, rule in enumerate(rules) if rule.patterns)

    def check(self, texts: Sequence[Text], patience: Patience) -> Checked:
        """Judge the texts by all rules: by their words, then by their patterns as long as there is time."""
        broken: set[int] = set()
        for text in texts:
            for reading in folding.readings(text.text):
                for found in self.words.find(reading):
                    broken.update([number for number in found if self.rules[number].concerns(text.role)])
                    if patience.over:
                        return Checked(Scores())
        late = self._patterns(texts, broken, patience) if self._patterned else None
        scores: dict[str, float] = {}
        for number in broken:
            rule = self.rules[number]
            scores[rule.category] = max(rule.score, scores.get(rule.category, 0.0))
        return Checked(Scores(scores, frozenset(scores)), late)

    def _patterns(self, texts: Sequence[Text], broken: set[int], patience: Patience) -> Rule | None:
        """Add the rules whose patterns are found; returns the one that took too long."""
        for text in texts:
            for searched in _searched(text.text):
                for number, rule in self._patterned:
                    if number not in broken and rule.concerns(text.role):
                        try:
                            if rule_patterns.finds(rule, searched, patience):
                                broken.add(number)
                        except TookTooLong:
                            return rule
        return None


def _searched(text: str) -> Iterator[str]:
    """What patterns are looked for in: the text without its case alone, and every reading of it folded."""
    plain = "".join(map(folding.plain, folding.pieces(text)))
    yield plain
    for reading in folding.readings(text):
        folded = "".join(map(folding.with_digits, folding.pieces(reading)))
        if folded != plain:  # a text of plain words is searched once
            yield folded
