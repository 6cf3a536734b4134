"""How many tokens a request is said to have cost: plausible, the same every time, and nobody's bill."""

from __future__ import annotations

from typing import Any

# gpt-image-2 and later: image tokens follow a grid whose short side is this factor scaled by the ratio of the sides.
# The formula is the community's reconstruction; it gives 196, 1756 and 7024 for gpt-image-2 at 1024x1024.
_GRID_2 = {"low": 16, "medium": 48, "high": 96}
_GRID_2_5 = {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96}
# The older models have a published table (272, 1056, 4160 at 1024x1024) that grows, nearly, with the area.
_SQUARE_1 = {"low": 272, "medium": 1056, "high": 4160}


def text_tokens(text: str) -> int:
    """Four characters to a token, the usual rule of thumb."""
    return max(1, -(-len(text) // 4))


def qualities(model: str) -> tuple[str, ...]:
    """The qualities that a model draws in."""
    return tuple(_GRID_2_5 if _is_2_5(model) else _GRID_2)


def image_tokens(model: str, quality: str, width: int, height: int) -> int:
    """The output tokens of one image."""
    if not model.startswith("gpt-image-2"):
        return -(-_SQUARE_1[quality] * width * height // (1024 * 1024))
    factor = (_GRID_2_5 if _is_2_5(model) else _GRID_2)[quality]
    long, short = max(width, height), min(width, height)
    rows = (2 * factor * short + long) // (2 * long)
    return -(-factor * rows * (2_000_000 + width * height) // 4_000_000)


def of_images(prompt: str, output: int) -> dict[str, Any]:
    """The usage member of an image answer."""
    spent = text_tokens(prompt)
    return {
        "input_tokens": spent,
        "output_tokens": output,
        "total_tokens": spent + output,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": spent},
        "output_tokens_details": {"image_tokens": output, "text_tokens": 0},
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


def _is_2_5(model: str) -> bool:
    # 2.6 has no figures anywhere yet; the sandbox lets it cost what 2.5 costs.
    return model.startswith(("gpt-image-2.5", "gpt-image-2.6"))
