"""The list of models, narrowed to what somebody may use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson


def narrowed(document: bytes, allowed: Callable[[str], bool]) -> bytes:
    """The answer to GET /models without those that are not allowed. Raises ValueError when it is no such answer."""
    try:
        read: dict[str, Any] = orjson.loads(document)
        read["data"] = [model for model in read["data"] if allowed(model["id"])]
    except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
        raise ValueError("this is not a list of models") from exc
    return orjson.dumps(read)
