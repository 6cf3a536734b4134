"""Texts made alike: without case, marks, invisible characters and the clothes that letters can wear."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

SLICE: Final = 2**13  # characters that one call of C's looks at, which other threads wait for; ﷺ is 18 when unfolded
WORD: Final = 2**12  # characters of the longest word that is not cut in two
KNOWN: Final = 2**16  # characters whose folding is kept ready; a caller could send all 1.1 million
STACKED: Final = 30  # marks on one letter (the limit of Unicode's stream-safe format); sorting them is quadratic
CONTROLS: Final = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
# Marks that decorate. In other scripts they are vowels, without which a word is another word.
DECORATION: Final = (
    (0x0300, 0x036F),
    (0x0483, 0x0489),
    (0x0591, 0x05C7),
    (0x0610, 0x061A),
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0x2DE0, 0x2DFF),
    (0xA66F, 0xA67D),
    (0xFE20, 0xFE2F),
)
# Default_Ignorable_Code_Point, which unicodedata does not tell, where it is not of category Cf.
INVISIBLE: Final = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2065, 0x2065),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0xE0000, 0xE0FFF),
)
# Scripts that are written without spaces: each letter is looked at as a word, and a word as a phrase.
SPACELESS: Final = (
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3041-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Those of the first plane: one beyond it would have an expression look at them one after another.
MARKS: Final = "".join(
    char
    for first, last in ((0x0300, 0x3100), (0xA660, 0xAC00), (0xFB1E, 0xFE30))
    for char in map(chr, range(first, last))
    if unicodedata.category(char)[0] == "M"
)

_LOOK_ALIKES = tomllib.loads(files(__package__).joinpath("look_alikes.toml").read_text("utf-8"))
_LETTERS: dict[str, str] = {char: found for found, chars in _LOOK_ALIKES["letters"].items() for char in chars}
_CAPITALS = {ord(char): found for found, chars in _LOOK_ALIKES["capitals"].items() for char in chars}
_CLOAKED = re.compile(f"[{''.join(map(chr, _CAPITALS))}]")
_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_STACK = re.compile(f"([{MARKS}]{{{STACKED}}})[{MARKS}]+")
_CONTROL = re.compile(f"[{CONTROLS}]")
# A word with a 0 or a 1 in it. It is tried where a word begins and nowhere else: a long one would take quadratic time.
_DIGITS = re.compile(r"(?<![^\W_])[^\W_01]*[01][^\W_]*")
_TOKEN = re.compile(f"[{SPACELESS}][{MARKS}]*|[^\\W_{SPACELESS}](?:[^\\W_{SPACELESS}]|[{MARKS}])*")
_SPACELESS = re.compile(f"[{SPACELESS}]")
_BETWEEN = {code: " " for code in range(128) if not chr(code).isalnum()}


class _Folding(dict[int, str | None]):
    """What becomes of each character, worked out when it first comes; one by one, so that no text is slow to fold."""

    def __missing__(self, code: int) -> str | None:
        if len(self) >= KNOWN:
            self.clear()
        self[code] = became = _folded(code)
        return became


def _folded(code: int) -> str | None:
    char = chr(code)
    if (letter := _LETTERS.get(char)) is not None:
        return letter
    if 0x1F1E6 <= code <= 0x1F1FF:  # two are a flag, more are letters; either way each is a word of its own
        return f" {chr(code - 0x1F1E6 + ord('a'))} "
    if (
        _is_in(code, DECORATION)
        or _is_in(code, INVISIBLE)
        or _CONTROL.match(char)
        or unicodedata.category(char) == "Cf"
    ):
        return None
    bare = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    if bare == char:
        return char
    return "".join([became for one in bare if (became := _folded(ord(one)))]) or None


def _is_in(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


_FOLDING = _Folding()


def folded(text: str) -> str:
    """The text as words and patterns are looked for in it; folding it again changes nothing."""
    return with_digits(_bare(text))


def readings(text: str) -> Iterator[str]:
    """Every way to read a text, but for its digits: as it stands; with capitals as what they look like, where their
    small letters look otherwise (as those of Greek do); and what is hidden in tag characters.
    """
    yield _bare(text)
    if text.isascii():
        return
    if any(_CLOAKED.search(piece) for piece in _slices(text)):
        yield _bare("".join([piece.translate(_CAPITALS) for piece in _slices(text)]))
    if hidden := [chr(ord(char) & 0x7F) for piece in _slices(text) for run in _TAGS.findall(piece) for char in run]:
        yield _bare("".join(hidden))


def plain(text: str) -> str:
    """The text in NFKC, without case and control characters; nothing else is changed."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _STACK.sub(r"\1", text)).casefold()
    return _CONTROL.sub("", text.lower())


def with_digits(text: str) -> str:
    """What was read, with digits that look like letters told."""
    return _DIGITS.sub(lambda found: spelt(found[0]), text) if "0" in text or "1" in text else text


def tokens(text: str) -> list[str]:
    """The words of what was read, digits that look like letters told."""
    found = text.translate(_BETWEEN).split() if text.isascii() else _TOKEN.findall(text)
    if "0" in text or "1" in text:
        return [spelt(word) if "0" in word or "1" in word else word for word in found]
    return found


def spaceless(word: str) -> bool:
    """Whether a word is a letter of a script that is written without spaces."""
    return word > "\u0e00" and _SPACELESS.match(word) is not None


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the words of a text stand."""
    return (found.span() for found in _TOKEN.finditer(text))


def pieces(text: str) -> Iterator[str]:
    """A long text in pieces, cut where no word is, so that no single step takes long."""
    start = 0
    while len(text) - start > SLICE:
        cut = start + SLICE
        while cut < start + SLICE + WORD and cut < len(text) and not _parts(text[cut]):
            cut += 1
        yield text[start:cut]
        start = cut
    yield text[start:]


def _parts(char: str) -> bool:
    """Whether no word goes on with it."""
    return unicodedata.category(char)[0] in "PSZ" or char in "\t\n\r" or spaceless(char)


def _bare(text: str) -> str:
    return "".join(
        [piece.lower().translate(_FOLDING) if piece.isascii() else piece.translate(_FOLDING) for piece in _slices(text)]
    )


def _slices(text: str) -> Iterator[str]:
    return (text[at : at + SLICE] for at in range(0, len(text), SLICE))


def spelt(word: str) -> str:
    """A word with its 0 and 1 as the letters that they look like, where digits are not the greater part of it."""
    return word if 2 * sum(map(str.isdigit, word)) > len(word) else word.replace("0", "o").replace("1", "l")
