"""Settings of a later version: read and checked already, and named at start as what does nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .words import at

# What is read and checked but does nothing yet, with the value that asks for nothing (None: any value asks for
# something). Building a feature is deleting its lines here; a test holds docs and deploy/config to this list.
UNBUILT: dict[str, object] = {
    "admin": None,
    "server.trusted_proxies": [],
    "server.max_json": None,
    "routes.*.max_json": None,
}


def unbuilt_in(raw: dict[str, Any]) -> Iterator[str]:
    """The addresses of what the file gives and this version does nothing with."""
    for pattern, idle in UNBUILT.items():
        for address, value in _given(raw, pattern.split("."), ""):
            if value != idle:
                yield address


def _given(raw: object, parts: Sequence[str], where: str) -> Iterator[tuple[str, object]]:
    if not parts:
        yield where, raw
    elif isinstance(raw, list) and parts[0] == "*":
        for i, item in enumerate(raw):
            yield from _given(item, parts[1:], f"{where}[{i}]")
    elif isinstance(raw, dict):
        for key in raw if parts[0] == "*" else [parts[0]]:
            if key in raw:
                yield from _given(raw[key], parts[1:], at(where, key))
