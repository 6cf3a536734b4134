"""What one running sandbox remembers from one request for later ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(slots=True)
class Stored:
    """Files and responses by id."""

    files: dict[str, tuple[dict[str, Any], bytes]] = field(default_factory=dict)  # the object as told, and its content
    responses: dict[str, dict[str, Any]] = field(default_factory=dict)


STORED = web.AppKey("stored", Stored)
