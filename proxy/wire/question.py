"""One request on a connection to an upstream, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .internals import EMPTY_PAYLOAD, StreamReader
from .turn import Round, Turn


class Question:
    """One request on a link, from its first byte to the end of its answer.

    It carries message and stream itself: a small answer may be complete, and its link in use again, before the task
    that waits for it has run.
    """

    __slots__ = ("broken", "chunked", "head", "heard", "sent", "sink", "stream", "turn", "upload")

    def __init__(self, round: Round) -> None:
        self.head: tuple[Any, StreamReader] | None = None
        self.broken: BaseException | None = None  # why there is no head
        self.heard = False  # the answer's head has come
        self.chunked = False  # and its body comes in chunks
        self.sent = False  # bytes of the request may have reached the upstream
        self.stream: StreamReader = EMPTY_PAYLOAD
        self.upload: asyncio.Task[None] | None = None
        # While nobody looks at the answer, its bytes go here the moment they come. False: enough for now.
        self.sink: Callable[[bytes], bool] | None = None
        self.turn: Turn | None = Turn(round)  # who asked waits for the head, then for bytes, the end, a break

    def wake(self) -> None:
        """Tell who takes the answer that something has changed."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.later()

    def run(self) -> None:
        """Let who takes the answer go on at once: there are bytes. For callbacks of the loop, as their last act."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.take()
