"""Words and phrases found in a text, however many there are to be found: the time goes with the text alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from . import folding
from .rule import LONG, Phrase, Rule

SPELT: Final = 3  # letters of the shortest word that is found spelt out: "b o m b"; any two letters are two letters
SPELLABLE: Final = "\u0e00"  # from here on come the scripts in which every letter is a word


class Words:
    """The phrases of all rules, each rule known by its number."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.count = sum(len(rule.phrases) for rule in rules)
        self._rules = rules
        self._words: dict[str, set[int]] = defaultdict(set)  # those that are one word
        self._phrases: dict[str, dict[tuple[str, ...], set[int]]] = defaultdict(lambda: defaultdict(set))
        self._open: dict[str, dict[Phrase, set[int]]] = defaultdict(lambda: defaultdict(set))  # by their first word
        self._begin: dict[str, set[int]] = defaultdict(set)  # those that are the beginning of a word
        self._spelt: dict[str, set[int]] = defaultdict(set)
        for number, rule in enumerate(rules):
            for phrase in rule.phrases:
                self._add(phrase, number)
        self._firsts = frozenset((*self._words, *self._phrases, *self._open))
        self._lengths = {first: sorted({len(one) for one in known}) for first, known in self._phrases.items()}
        self._begins = sorted({len(one) for one in self._begin})
        self._heads = frozenset(one[: self._begins[0]] for one in self._begin)
        self._spells = sorted({len(one) for one in self._spelt})
        self._starts = frozenset(one[:SPELT] for one in self._spelt)

    def _add(self, phrase: Phrase, number: int) -> None:
        words = phrase.words
        if len("".join(words)) >= SPELT and all(word < SPELLABLE for word in words):
            self._spelt["".join(words)].add(number)
        if len(words) == 1:
            (self._begin if phrase.open else self._words)[words[0]].add(number)
        elif phrase.open:
            self._open[words[0]][phrase].add(number)
        else:
            self._phrases[words[0]][words].add(number)

    def find(self, text: str) -> Iterator[set[int]]:
        """The rules whose words stand in what was read of a text, piece by piece."""
        if not self.count:
            return
        before: list[str] = []  # what a phrase may have begun with in the piece before
        for piece in folding.pieces(text):
            words = before + folding.tokens(piece) if before else folding.tokens(piece)
            found = set(self._found(words))
            for letters in _spellings(words):
                found.update(self._in_spelling(letters))
            yield found
            before = words[-LONG:]

    def _found(self, words: list[str]) -> Iterator[int]:
        if not self._firsts.isdisjoint(words):
            for at, word in enumerate(words):
                if word in self._firsts:
                    for number, length in self._at(words, at, word):
                        if not self._passes(number, words, at, length):
                            yield number
        if self._begin:
            shortest = self._begins[0]
            if likely := {word for word in set(words) if word[:shortest] in self._heads}:
                for at, word in enumerate(words):
                    if word in likely:
                        yield from self._beginning(words, at, word)

    def _at(self, words: list[str], at: int, word: str) -> Iterator[tuple[int, int]]:
        """The rules of what begins with that word, and how many words it has."""
        for number in self._words.get(word, ()):
            yield number, 1
        for length in self._lengths.get(word, ()):
            for number in self._phrases[word].get(tuple(words[at : at + length]), ()):
                yield number, length
        for phrase, numbers in self._open[word].items() if word in self._open else ():
            if stands(phrase, words, at):
                for number in numbers:
                    yield number, len(phrase.words)

    def _beginning(self, words: list[str], at: int, word: str) -> Iterator[int]:
        for length in self._begins:
            for number in self._begin.get(word[:length], ()):
                if not self._passes(number, words, at, 1):
                    yield number

    def _in_spelling(self, letters: str) -> Iterator[int]:
        letters = folding.spelt(letters)
        for at in range(len(letters) - SPELT + 1):
            if letters[at : at + SPELT] in self._starts:
                for length in self._spells:
                    yield from self._spelt.get(letters[at : at + length], ())

    def _passes(self, number: int, words: list[str], at: int, length: int) -> bool:
        unless = self._rules[number].unless
        return bool(unless) and covered(unless, words, at, at + length)


def stands(phrase: Phrase, words: Sequence[str], at: int) -> bool:
    """Whether a phrase stands there."""
    end = at + len(phrase.words)
    if not phrase.open:
        return tuple(words[at:end]) == phrase.words
    if end > len(words) or tuple(words[at : end - 1]) != phrase.words[:-1]:
        return False
    return words[end - 1].startswith(phrase.words[-1])


def covered(phrases: Iterable[Phrase], words: Sequence[str], first: int, end: int) -> bool:
    """Whether one of the phrases holds all of those words: "acme" is nothing to speak of in "acme street"."""
    for phrase in phrases:
        for at in range(max(0, end - len(phrase.words)), first + 1):
            if stands(phrase, words, at):
                return True
    return False


def _spellings(words: Iterable[str]) -> Iterator[str]:
    """Runs of single letters, put together."""
    run: list[str] = []
    for word in words:
        if len(word) == 1 and word < SPELLABLE:
            run.append(word)
        elif run:
            if len(run) >= SPELT:
                yield "".join(run)
            run = []
    if len(run) >= SPELT:
        yield "".join(run)
