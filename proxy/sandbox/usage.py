"""How many tokens a request is said to have cost: by the price book's tables and formulas, the same every time."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

# Read as data: the sandbox shares the prices with the house, and no code.
_SEED = ("proxy.prices", "seed.toml")
# What OpenAI's guide says of pictures that come in at low fidelity: scaled to a short side of 512 pixels, 65 tokens and
# 129 for each tile of 512.
_TILE, _BASE, _PER_TILE = 512, 65, 129
_PARTIAL = 100  # where the book says nothing of a partial picture's price


def text_tokens(text: str) -> int:
    """Four characters to a token, the usual rule of thumb."""
    return max(1, -(-len(text) // 4))


def qualities(model: str) -> tuple[str, ...]:
    """The qualities that a model draws in."""
    factors = _book()["formula"].get(_table(model), {}).get("factors")
    return tuple(factors) if factors else ("low", "medium", "high")


def image_tokens(model: str, quality: str, width: int, height: int) -> int:
    """The output tokens of one image: as the table has them, else by the formula, else the square's by area."""
    book, table = _book(), _table(model)
    fixed = book["tokens"][table].get(f"{width}x{height}", {})
    if quality in fixed:
        return int(fixed[quality])
    formula = book["formula"].get(table)
    if formula is None:
        return -(-int(book["tokens"][table]["1024x1024"][quality]) * width * height // 2**20)
    factor = int(formula["factors"][quality])
    long, short = max(width, height), min(width, height)
    rows: int = (2 * factor * short + long) // (2 * long)
    return -(-factor * rows * (2_000_000 + width * height) // 4_000_000)


def partial_tokens(model: str) -> int:
    """What each partial image costs besides."""
    return int(_entry(model).get("partial_image_extra_tokens", _PARTIAL))


def input_tokens(width: int, height: int) -> int:
    """The tokens of a picture that comes in."""
    short = min(width, height)
    across, down = (-(-side * _TILE // short) for side in (width, height))
    return _BASE + _PER_TILE * -(-across // _TILE) * -(-down // _TILE)


def of_images(
    prompt: str, output: int, inputs: Sequence[tuple[int, int]] = (), *, details: bool = True
) -> dict[str, Any]:
    """The usage member of an image answer; `inputs` are the sizes of the pictures that came in."""
    text, pictures = text_tokens(prompt), sum(input_tokens(*size) for size in inputs)
    spent: dict[str, Any] = {
        "input_tokens": text + pictures,
        "output_tokens": output,
        "total_tokens": text + pictures + output,
        "input_tokens_details": {"image_tokens": pictures, "text_tokens": text},
    }
    if details:  # the last event of a stream has none
        spent["output_tokens_details"] = {"image_tokens": output, "text_tokens": 0}
    return spent


def of_svg(prompt: str, document: str, model: str) -> dict[str, Any]:
    """The svg_usage member: the text model that writes the document is billed apart."""
    asked, written = text_tokens(prompt), text_tokens(document)
    return {
        "input_tokens": asked,
        "output_tokens": written,
        "reasoning_tokens": 0,
        "total_tokens": asked + written,
        "model": model,
    }


def of_chat(asked: int, answered: int) -> dict[str, Any]:
    """The usage member of a chat completion."""
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@cache
def _book() -> dict[str, Any]:
    return tomllib.loads(files(_SEED[0]).joinpath(_SEED[1]).read_text(encoding="utf-8"))


@cache
def _entry(model: str) -> dict[str, Any]:
    for entry in _book()["model"]:
        if entry["id"] == model or model in entry.get("aliases", ()):
            found: dict[str, Any] = entry
            return found
    return {}


@cache
def _table(model: str) -> str:
    named = _entry(model).get("tokens_table")
    if named is not None:
        return str(named)
    # The book has no table for these: 2.6 is let cost what 2.5 costs, the small old one what its large sister does.
    return "gpt-image-2.5" if model.startswith("gpt-image-2.6") else "gpt-image-1.5"
