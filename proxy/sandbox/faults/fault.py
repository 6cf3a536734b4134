"""What a fault is, and what it has in hand when it is played."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from ..answer import Answer, Events, Said
from ..refusal import Refusal
from ..wire import Wire


@dataclass(frozen=True, slots=True)
class Argument:
    """What may stand behind the name: in words, as read, and when nothing does."""

    words: str
    read: Callable[[str], Any]
    default: Any


@dataclass(slots=True)
class Play:
    """One fault being played."""

    wire: Wire
    value: Any  # the argument
    request: web.Request
    kind: str
    wall: float
    _genuine: Said | None = None

    @property
    def genuine(self) -> Said:
        """The endpoint's own answer; only faults that are billed have one."""
        if self._genuine is None:
            raise AssertionError("this fault never asks the endpoint")
        return self._genuine

    async def pieces(self) -> list[bytes]:
        """The genuine body: frame by frame, or all in one."""
        genuine = self.genuine
        if isinstance(genuine, Answer):
            return [genuine.body]
        return [frame async for frame in genuine.frames]

    @property
    def streamed(self) -> bool:
        """The genuine answer is a stream of events."""
        return isinstance(self.genuine, Events)


# Gives back what is to be sent as ever, or what aiohttp is to be told when the fault has sent its bytes itself.
How = Callable[[Play], Awaitable[Said | web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table. `billed`: the endpoint does its work, and OpenAI would have charged for it."""

    name: str
    sentence: str  # what a client with a plain socket sees
    billed: bool
    how: How
    argument: Argument | None = None
    early: bool = False  # it comes before the body is read


def seconds(default: float) -> Argument:
    """An argument that is a time."""
    return Argument(f"seconds (default {default:g})", _positive, default)


def words(*allowed: str) -> Argument:
    """An argument that is one of some words, by default the first."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return Argument(f"{' or '.join(allowed)} (default {allowed[0]})", read, allowed[0])


def does_not_fit(what: str) -> Refusal:
    """A fault was asked for where it makes no sense: said aloud, lest a test passes for nothing."""
    return Refusal(f"This fault can't be played here: {what}.", code="sandbox_fault")


def _positive(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0 or value > 86_400:
        raise ValueError(text)
    return value
