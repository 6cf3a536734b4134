"""How long OpenAI would have taken, roughly: by quality and size, and word by word."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from .answer import Answer, Events, Said
from .asked import Asked
from .clock import Time
from .heard import Heard

# Seconds at 1024x1024, with the time growing like the longer way round a picture: high at 3840x2160 comes to two
# minutes, which is what people report. Nobody publishes figures.
_SECONDS = {"low": 8.0, "auto": 18.0, "medium": 18.0, "high": 43.0, "xhigh": 60.0, "max": 80.0}
_SQUARE = 1024 * 1024
_FIRST_WORD = 0.5
_NEXT_WORDS = 0.02
_WHOLE_REPLY = 1.0


class Latency:
    """Lets each answer take its time; `factor` 1 is real, 0.1 a tenth of it, 0 none at all."""

    def __init__(self, time: Time, factor: float) -> None:
        self._time = time
        self._factor = factor

    @property
    def on(self) -> bool:
        """Whether there is any."""
        return self._factor > 0

    async def delay(self, said: Said, asked: Asked, kind: str, heard: Heard, since: float) -> Said:
        """Waits as long as the answer would have taken since then; a stream's frames are spread over the time."""
        if not self._factor or not said.billed:
            return said
        total = self._factor * (seconds(asked) if asked.pictures else _WHOLE_REPLY)
        if isinstance(said, Answer):
            await self._time.pause(total - (self._time.now() - since), heard)
            return said
        first, next_ = (total / (asked.partials + 1),) * 2
        if not asked.pictures:
            first, next_ = self._factor * _FIRST_WORD, self._factor * _NEXT_WORDS
        return replace(said, frames=self._spread(said, first, next_, total if asked.pictures else None, heard))

    async def _spread(
        self, said: Events, first: float, next_: float, total: float | None, heard: Heard
    ) -> AsyncIterator[bytes]:
        spent, pause = 0.0, first
        async for frame in said.frames:
            if total is None or spent + pause <= total * 1.001:  # the frames behind a picture cost no time
                await self._time.pause(pause, heard)
                spent += pause
            yield frame
            pause = next_


def seconds(asked: Asked) -> float:
    """How long the pictures take, all of them at once."""
    width, _, height = asked.size.partition("x")
    try:
        pixels = int(width) * int(height)
    except ValueError:
        pixels = _SQUARE
    return float(_SECONDS.get(asked.quality, _SECONDS["auto"]) * (max(1, pixels) / _SQUARE) ** 0.5)
