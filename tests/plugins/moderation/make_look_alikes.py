"""Writes plugins/moderation/look_alikes.toml from Unicode's confusables (UTS #39), as confusable-homoglyphs holds them.

python -m tests.plugins.moderation.make_look_alikes > plugins/moderation/look_alikes.toml
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from importlib.resources import files
from itertools import groupby

# Letters in other clothes that UTS #39 leaves out, as they look like no other letter.
CLOTHES = re.compile(r"(?:LATIN LETTER SMALL CAPITAL|NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER) ([A-Z])")
HEAD = """\
# Letters that look like others: made by tests/plugins/moderation/make_look_alikes.py from confusable-homoglyphs
# {version}, which holds Unicode's confusables.txt (UTS #39; https://www.unicode.org/license.txt). Kept are letters and
# numbers that look like letters of ASCII; marks, signs, and what ASCII itself confuses (rn and m, I and l) are not.
# Copyright (c) Unicode, Inc., for what stands in it.
"""


def confusables() -> dict[str, str]:
    """Each character that has a prototype, and that."""
    raw = json.loads((files("confusable_homoglyphs") / "confusables.json").read_text("utf-8"))
    sides = {_bare(one): [_bare(other["c"]) for other in others] for one, others in raw.items()}
    # The package holds both directions. Who is confused with one alone is no prototype, but for pairs.
    return {one: others[0] for one, others in sides.items() if len(one) == 1 and len(others) == 1}


def _bare(text: str) -> str:
    return text.replace("\u200e", "")  # it stands round letters that are written from right to left


def plain(char: str) -> str:
    """Without compatibility forms, case and marks."""
    bare = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    return "".join(one for one in bare if not unicodedata.category(one).startswith("M"))


def target(char: str, table: dict[str, str]) -> str | None:
    """The letters of ASCII that a character looks like."""
    if dressed := CLOTHES.fullmatch(unicodedata.name(char, "")):
        return dressed[1].lower()
    if unicodedata.category(char)[0] not in "LN" or char not in table:
        return None
    found = table[char]
    if len(found) == 1 and (dressed := CLOTHES.fullmatch(unicodedata.name(found, ""))):
        return dressed[1].lower()
    bare = "".join(one for one in unicodedata.normalize("NFKD", found) if not unicodedata.category(one).startswith("M"))
    return bare.lower().replace("rn", "m") if bare.isascii() and bare.isalnum() else None


def made() -> tuple[dict[str, str], dict[str, str]]:
    """What small letters look like, and capitals where that is something else."""
    table = confusables()
    every = [char for char in map(chr, range(0x80, sys.maxunicode + 1)) if not 0xD800 <= ord(char) < 0xE000]
    small = {}
    for char in every:
        if plain(char) == char:  # the others come here as what they are without case
            upper = char.upper()
            found = target(char, table)
            if found is None and len(upper) == 1 and upper != char:
                found = target(upper, table)
            if found is not None:
                small[char] = found
    capitals = {}
    for char in every:
        if unicodedata.category(char) != "Lu":
            continue
        found, bare = target(char, table), plain(char)
        if found is not None:
            now = "".join(small.get(one, one) for one in bare)
            if now != found and not (found == "l" and now == "i"):
                capitals[char] = found
    return small, capitals


def lines(table: dict[str, str]) -> Iterable[str]:
    """A line for each that is looked like."""
    alike = defaultdict(list)
    for char, found in table.items():
        alike[found].append(char)
    for found in sorted(alike, key=lambda one: (len(one), one)):
        written = "".join(_escaped(char) for char in alike[found])
        yield f'{found if found.isalpha() else json.dumps(found)} = "{written}"'


def _escaped(char: str) -> str:
    """Those from right to left would turn the line about in an editor."""
    if unicodedata.bidirectional(char) in ("L", "ON", "EN"):
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def main() -> None:
    """Write it to standard output."""
    small, capitals = made()
    parts = [HEAD.format(version=version("confusable-homoglyphs"))]
    parts += ["", "# After case is folded", "[letters]", *lines(small)]
    parts += ["", "# Capitals that look like another letter than their small ones do", "[capitals]", *lines(capitals)]
    print("\n".join(line for line, _ in groupby(parts)))


if __name__ == "__main__":
    main()
