"""What a table of answers is made of: an answer, and what is to be seen in it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from proxy.openai.scan import Verdict

PLAUSIBLE = 16  # characters of base64 that are believed


@dataclass(frozen=True)
class Seen:
    """A picture: `what` is its SHA-256, or its URL."""

    what: str
    kind: str = "final"
    index: int | None = 0
    form: str = "base64"
    partial: int | None = None
    item: str | None = None
    sniffed: str | None = "png"


@dataclass(frozen=True)
class Shape:
    """An answer; the verdict is there at the end of the text `known`, or (None) only when the answer has ended."""

    kind: Literal["json", "sse"]
    data: bytes
    verdict: Verdict
    known: bytes | None = None
    images: list[Seen] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    complete: bool = True

    def known_at(self) -> int | None:
        """After how many bytes the verdict is there."""
        return None if self.known is None else self.data.index(self.known) + len(self.known)


class Drawn:
    """A picture of some size, as it stands in an answer and as it is seen."""

    def __init__(self, number: int, size: int, head: bytes = b"\x89PNG\r\n\x1a\n") -> None:
        raw = head + bytes((number,)) * (size - len(head))
        self.text = base64.b64encode(raw).decode()
        self.sha256 = hashlib.sha256(raw).hexdigest()

    def begun(self, before: str) -> bytes:
        """As much of it as is believed."""
        return (before + self.text[:PLAUSIBLE]).encode()

    def seen(self, **more: Any) -> Seen:
        return Seen(self.sha256, **more)


def told(answer: Any) -> bytes:
    """Compact JSON, as the service writes it."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def stream(*events: Any, named: bool = True, done: bool = False) -> bytes:
    """Events as the service writes them."""
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if named and "type" in event else ""
        lines.append(name.encode() + b"data: " + told(event) + b"\n\n")
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


USAGE = {"input_tokens": 10, "output_tokens": 196, "total_tokens": 206}
SVG = {"input_tokens": 1, "output_tokens": 2, "reasoning_tokens": 0, "total_tokens": 3, "model": "m"}
DRAWING = {"image_gen": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}
ERROR = {"message": "Blocked.", "type": "image_generation_user_error", "param": None, "code": "moderation_blocked"}
SAID = {"size": "1024x1024", "quality": "low", "output_format": "png"}
LINK = "https://example.com/a.png?sig=x%2Fy&se=1"
