"""What `quality` means to each family of image models: the same word is not the same picture.

By the tokens that a picture of 1024x1024 takes, "high" of gpt-image-2.5 (1,756) is "medium" of gpt-image-2, and "high"
of gpt-image-2 (7,024) is "max" of gpt-image-2.5. A word that went over as it is would draw a quarter of the detail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Families by what a name holds: deployments and resellers put words before and behind it. gpt-image-2.6 is none of
# these: how much detail its words mean is not published.
FAMILIES = {
    "dall-e-3": "dall-e",
    "dall-e-2": "dall-e",
    "chatgpt-image": "1",
    "gpt-image-1": "1",
    "gpt-image-1.5": "1",
    "gpt-image-2": "2",
    "gpt-image-2.5": "2.5",
}
_NAMES = "|".join(sorted(map(re.escape, FAMILIES), key=len, reverse=True))
_FAMILY = re.compile(rf"(?<![a-z0-9])({_NAMES})(?![0-9]|\.[0-9])")

# From one family to another, the nearest in tokens at 1024x1024: 1 has 272, 1056, 4160; 2 has 196, 1756, 7024; 2.5 has
# 196, 439, 1756, 3122, 7024. Words of DALL-E, which the others refuse, go by price: 0.04 and 0.08 USD. What is not here
# means the same in both, or nothing.
NEAREST: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("dall-e", "1"): {"standard": "medium", "hd": "high"},
    ("dall-e", "2"): {"standard": "medium", "hd": "high"},
    ("dall-e", "2.5"): {"standard": "high", "hd": "xhigh"},
    ("1", "2.5"): {"medium": "high", "high": "xhigh"},
    ("2", "2.5"): {"medium": "high", "high": "max"},
    ("2.5", "1"): {"medium": "low", "high": "medium", "xhigh": "high", "max": "high"},
    ("2.5", "2"): {"medium": "low", "high": "medium", "xhigh": "medium", "max": "high"},
}


def family(model: str) -> str | None:
    """The family of an image model by its name; None where that does not tell."""
    found = _FAMILY.search(model.lower())
    return FAMILIES[found[1]] if found else None


def mapped(quality: str, old: str, new: str) -> str | None:
    """What that word of the old model's is to the new one; None where it stays."""
    before, after = family(old), family(new)
    if before is None or after is None:
        return None
    return NEAREST.get((before, after), {}).get(quality)
