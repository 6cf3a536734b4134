"""What the tests of the queue before an upstream stand on: a stage, a clock that is turned a little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from proxy.api import CALLER, Caller, Plugin
from proxy.model.quota import Bound, Bounds, Line
from proxy.testkit import Asked, Playing, Stage, TurnedClock, answer

DRAW = "POST /v1/images/generations"
PICTURE = {"created": 1, "data": [{"b64_json": "iVBORw0KGgoAAAANSUhEUg=="}]}
MAIN = '[upstreams.main]\nbase_url = "http://main.invalid/v1"\n'
LIMITED = answer(429, json={"error": {"message": "no", "type": "requests", "code": "rate_limit_exceeded"}})
SPENT = answer(429, json={"error": {"message": "no", "type": "insufficient_quota", "code": "insufficient_quota"}})


def of(limits: str, queue: str = 'wait = "10m"', name: str = "main") -> str:
    return (
        f'[upstreams.{name}]\nbase_url = "http://{name}.invalid/v1"\nlimits = {{ {limits} }}\nqueue = {{ {queue} }}\n'
    )


def asks(prompt: str, n: int = 1) -> dict[str, Any]:
    return {"model": "gpt-image-2", "prompt": prompt, "n": n}


def begin(stage: Stage, prompt: str, n: int = 1, caller: str = "", **more: Any) -> Playing:
    facts = {CALLER: Caller(caller)} if caller else None
    return stage.begin(DRAW, json=asks(prompt, n), facts=facts, **more)


def prompts(stage: Stage) -> list[str]:
    return [asked.json()["prompt"] for asked in stage.asked]


async def turned(stage: Stage, until: Callable[[], bool], step: float = 3.0, most: float = 3600.0) -> float:
    """Turn the clock until that is true, and say by how much; a little at a time, as what is held needs a pulse."""
    total = 0.0
    while not until():
        assert total < most, "it never came about"
        await quiet()
        while any(line.head is not None and line.outlook is None for line in lines(stage)):
            await asyncio.sleep(0.001)  # the first in line asks the store
        if until():
            break
        stage.clock.turn(step)
        total += step
    return total


async def quiet() -> None:
    """Let everybody who can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0.001)


@asynccontextmanager
async def staged(
    *plugins: Plugin, settings: str, holds: tuple[str, ...] = ("main",), **more: Any
) -> AsyncIterator[Stage]:
    """A stage on which nothing is held at the end."""
    async with Stage(*plugins, settings=settings, **more) as stage:
        yield stage
        for name in holds:
            assert await level(stage, f"upstream:{name}|concurrent") == 0
        assert not any(len(line) or line.head is not None for line in lines(stage))


def lines(stage: Stage) -> list[Any]:
    """Who stands before the upstreams that have a queue."""
    upstreams: Any = stage.services.upstreams
    return [inner._line for name in upstreams.names() for layer, inner in upstreams[name].layers if layer == "queue"]


async def level(stage: Stage, counter: str, window: int = 0) -> int:
    """What counts against a limit now."""
    looked = Bounds([Bound(Line(counter, 10**6, window=window), "concurrent", "upstream", "", 0.0)])
    return (await stage.services.quotas.claim("", looked, (0,))).levels[0]


class Sliding:
    """An upstream that says 429 to more than so many pictures in any minute."""

    def __init__(self, clock: TurnedClock, most: int) -> None:
        self.clock, self.most = clock, most
        self.drawn: list[tuple[float, int]] = []
        self.refused = 0

    def __call__(self, asked: Asked) -> Any:
        now, n = self.clock.now(), asked.json()["n"]
        if sum(count for at, count in self.drawn if at > now - 60) + n > self.most:
            self.refused += 1
            return LIMITED
        self.drawn.append((now, n))
        return answer(json={"data": PICTURE["data"] * n})
