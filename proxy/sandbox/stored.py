"""What one running sandbox remembers from one request for later ones, up to a bound."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

# Pictures in answers weigh megabytes, small answers come by the thousand: of the oldest, what is over is forgotten.
_MOST_IN_RESPONSES = 128 * 2**20
_MOST_RESPONSES = 10_000
_MOST_IN_FILES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of the Responses API, and what was asked."""

    response: dict[str, Any]
    asked: tuple[dict[str, Any], ...]
    weight: int  # in bytes
    tokens: int  # of the conversation up to and with this answer


@dataclass(slots=True)
class Stored:
    """Files and responses by id, and the sockets that are open."""

    files: dict[str, tuple[dict[str, Any], bytes]] = field(default_factory=dict)  # the object as told, and its content
    responses: dict[str, Turn] = field(default_factory=dict)
    sockets: set[web.WebSocketResponse] = field(default_factory=set)
    weight: int = 0  # of all responses together

    def room(self) -> int:
        """How many bytes of files may still come."""
        return _MOST_IN_FILES - sum(len(content) for _, content in self.files.values())

    def file(self, name: str) -> tuple[dict[str, Any], bytes] | None:
        """A file, unless it has expired."""
        self.expire()
        return self.files.get(name)

    def expire(self) -> None:
        """Forgets the files whose time is over."""
        now = time.time()
        over = [name for name, (told, _) in self.files.items() if (told.get("expires_at") or now + 1) <= now]
        for name in over:
            del self.files[name]

    def keep(self, turn: Turn) -> None:
        """Remembers an answer, and forgets the oldest ones when there are too many."""
        self.responses[turn.response["id"]] = turn
        self.weight += turn.weight
        while self.weight > _MOST_IN_RESPONSES or len(self.responses) > _MOST_RESPONSES:
            self.forget(next(iter(self.responses)))

    def forget(self, name: str) -> bool:
        """Whether there was such an answer."""
        turn = self.responses.pop(name, None)
        if turn is not None:
            self.weight -= turn.weight
        return turn is not None

    def before(self, turn: Turn) -> list[dict[str, Any]]:
        """All that stood before an answer in its conversation, as far back as it is remembered."""
        # By links, not by copies: a conversation would else hold on to everything that was to be forgotten.
        turns: list[Turn] = [turn]
        while (previous := self.responses.get(turns[-1].response["previous_response_id"] or "")) is not None:
            turns.append(previous)
        found: list[dict[str, Any]] = []
        for one in reversed(turns):
            found += one.asked
            if one is not turn:
                found += one.response["output"]
        return found

    def item(self, name: str) -> dict[str, Any] | None:
        """An item of any remembered answer."""
        for turn in reversed(self.responses.values()):
            for item in turn.response["output"]:
                if item["id"] == name:
                    found: dict[str, Any] = item
                    return found
        return None


STORED = web.AppKey("stored", Stored)
