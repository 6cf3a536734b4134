"""What the sandbox says, in whole and in pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LONGEST_ECHO = 400
_WORDS_A_PIECE = 3
_CHARACTERS_A_TOKEN = 4  # as usage counts them
_WORDS = re.compile(r"\s*\S+|\s+$")


def echo(heard: str | None, *, tool: bool = False) -> str:
    """The answer to what was heard last, by a person or from a tool."""
    if heard is None:
        return "This is the sandbox. There was no user message to answer."
    if len(heard) > _LONGEST_ECHO:
        heard = heard[:_LONGEST_ECHO] + "…"
    return f"This is the sandbox. The tool said: {heard}" if tool else f"This is the sandbox. You said: {heard}"


def cut(text: str, most_tokens: int | None, stops: Sequence[str] = ()) -> tuple[str, bool]:
    """The text up to the first stop word, and no longer than allowed; whether it had to end for its length."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    if ends:
        text = text[: min(ends)]
    if most_tokens is not None and len(text) > most_tokens * _CHARACTERS_A_TOKEN:
        return text[: most_tokens * _CHARACTERS_A_TOKEN], True
    return text, False


def pieces(text: str) -> list[str]:
    """The text as a stream would bring it."""
    words = _WORDS.findall(text)
    return ["".join(words[at : at + _WORDS_A_PIECE]) for at in range(0, len(words), _WORDS_A_PIECE)]
