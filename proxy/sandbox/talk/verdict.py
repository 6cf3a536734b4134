"""One verdict on texts and pictures: the thirteen categories, their scores, and what each was scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from .. import markers


def verdict(texts: Sequence[str], pictures: Sequence[tuple[str, ...]], *, old: bool = False) -> dict[str, Any]:
    """A moderation result; `pictures` are the categories of each, `old` is for models that don't know `illicit`."""
    found = {name for text in texts for name in markers.flagged(text)}
    found.update(name for names in pictures for name in names)
    if old:
        found -= {"illicit", "illicit/violent"}
    text = bool(texts)
    noise = hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).digest()
    categories: dict[str, bool | None] = {}
    scores: dict[str, float] = {}
    applied: dict[str, list[str]] = {}
    for at, name in enumerate(markers.CATEGORIES):
        unknown = old and name.startswith("illicit")
        categories[name] = None if unknown else name in found
        # Small and never quite the same, as OpenAI's are; a flagged one is near to certain.
        scores[name] = 0.0 if unknown else (0.97 if name in found else 0.0) + noise[at] / 10_000
        seen = bool(pictures) and name in markers.IN_IMAGES
        applied[name] = [] if unknown else ["text"] * text + ["image"] * seen
    return {
        "flagged": bool(found),
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": applied,
    }


def rider(model: str, texts: Sequence[str], pictures: Sequence[tuple[str, ...]] = ()) -> dict[str, Any]:
    """The verdict as an answer of chat or of Responses carries it along."""
    return {**verdict(texts, pictures), "model": model, "type": "moderation_result"}
