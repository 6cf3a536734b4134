"""What tests stand on: a stage for plugins, the whole house over sockets, upstreams that do as they are told."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Answer, RawClient
    from .clock import TurnedClock
    from .house import Served, serve
    from .playing import Played, Playing
    from .script import Asked, Reply, answer, broken
    from .split import same_at_every_split
    from .stage import LeftOpen, Stage, play
    from .upstream import Call, Received, ScriptedUpstream

__all__ = [
    "Answer",
    "Asked",
    "Call",
    "LeftOpen",
    "Played",
    "Playing",
    "RawClient",
    "Received",
    "Reply",
    "ScriptedUpstream",
    "Served",
    "Stage",
    "TurnedClock",
    "answer",
    "broken",
    "play",
    "same_at_every_split",
    "serve",
]

# pytest imports this package in every project that has Framegate beside it, so nothing is loaded before it is used.
_HOMES = {
    "client": ("Answer", "RawClient"),
    "clock": ("TurnedClock",),
    "house": ("Served", "serve"),
    "playing": ("Played", "Playing"),
    "script": ("Asked", "Reply", "answer", "broken"),
    "split": ("same_at_every_split",),
    "stage": ("LeftOpen", "Stage", "play"),
    "upstream": ("Call", "Received", "ScriptedUpstream"),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f".{home}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
