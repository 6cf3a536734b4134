"""What backends are given, and a house whose services they are lent, with real sockets to its upstreams."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from plugins.moderation.asking import OpenAI
from plugins.moderation.verdict import About, Matter, Sight, Unreadable, View
from proxy.api import Exchange, Forward, Plugin, Request, Response, Services, Text
from proxy.sandbox.markers import mark
from proxy.testkit import Stage, TurnedClock, answer
from proxy.testkit.house import serve
from proxy.testkit.script import Asked, Reply

ABOUT = About("ex-1", caller="ann", group="press", kind="chat", model="gpt-image-2")
CONFIG = """
[upstreams.openai]
base_url = "{url}"
api_key = "env:UPSTREAM"
[plugins.lent]
use = "tests.plugins.moderation.judging:Lent"
[plugins.keys]
mode = "open"
[[routes]]
match = "* /v1/*"
chain = ["keys", "lent"]
"""
KEY = "sk-upstream-0123456789abcdef"


def digest(of: bytes) -> bytes:
    """A digest without a key."""
    return hashlib.sha256(of).digest()


def picture(*categories: str, width: int = 64) -> bytes:
    """A PNG, marked for these."""
    out = io.BytesIO()
    mark(Image.new("RGB", (width, 64), "teal"), *categories).save(out, "PNG")
    return out.getvalue()


@dataclass
class Seen:
    """A picture that is to be judged, which counts how often somebody wanted to see it."""

    path: str
    data: Sequence[bytes]
    why: str = ""  # it can't be seen
    asked: int = field(default=0)

    @property
    def digest(self) -> bytes:
        """Of its bytes."""
        return digest(b"".join(self.data))

    async def views(self) -> Sequence[View]:
        """As it came."""
        self.asked += 1
        if self.why:
            raise Unreadable(self.why)
        return [View("png", one) for one in self.data]


def matter(*texts: str, pictures: Sequence[Sight] = ()) -> Matter:
    """These texts, and these pictures."""
    said = tuple([Text(f"messages[{at}].content", text, "user") for at, text in enumerate(texts)])
    return Matter("input", said, tuple(pictures))


class Lent(Plugin):
    """Shows tests what plugins are lent."""

    held = []  # noqa: RUF012 - a field would be a setting

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Hand it on."""
        self.held.append(services)
        yield
        self.held.remove(services)

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        """Do nothing."""
        return await forward(request)


@asynccontextmanager
async def lent(url: str, *, key: str = KEY, clock: TurnedClock | None = None) -> AsyncIterator[Services]:
    """The services of a house with the upstream `openai` there."""
    async with serve(CONFIG.format(url=url), environ={"UPSTREAM": key}, clock=clock):
        yield Lent.held[-1]


HARMLESS = {"flagged": False, "categories": {"violence": False, "illicit": None}, "category_scores": {"violence": 0.01}}


def backend(services: Services, *, model: str = "omni-moderation-latest", **more: Any) -> OpenAI:
    """One that asks the upstream of a stage."""
    return OpenAI("main", services, model=model, timeout=5.0, digest=digest, **more)


def harmless(asked: Asked) -> Reply:
    """As many results as inputs."""
    given = asked.json()["input"]
    return answer(json={"results": [HARMLESS] * (1 if isinstance(given[0], dict) else len(given))})


async def paused(stage: Stage, seconds: float = 0.2) -> None:
    """Wait until somebody pauses, and let it be over."""
    before = len(stage.clock.watchers)
    while len(stage.clock.watchers) == before:
        await asyncio.sleep(0)
    stage.clock.turn(seconds)
