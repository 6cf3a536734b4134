"""Whatever is kept, deleted, outlived, cleared away and broken off, in any order: what a name needs is there."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from proxy.images.base import Images
from proxy.images.collector import GRACE
from proxy.images.index import LONGER, new_name
from proxy.model.images import Stored

from .pictures import png
from .shelf import StandingClock, blobs, content, keep, references, shelf

T = TypeVar("T")
CONTENTS = st.integers(0, 2)
LIVES = st.sampled_from([60.0, 3600.0, "forever"])


class Shelf(RuleBasedStateMachine):
    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="framegate-index-"))
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.clock = StandingClock()
        self.alive: dict[str, tuple[Stored, int]] = {}

        async def begin() -> Images:
            return await self.stack.enter_async_context(shelf(self.folder, self.clock))

        self.images = self.run(begin())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(target=names, seed=CONTENTS, ttl=LIVES, owner=st.sampled_from(["a", "b"]))
    def keep(self, seed: int, ttl: Any, owner: str) -> str:
        stored = self.run(keep(self.images, png(200, seed=seed), owner=owner, ttl=ttl))
        assert stored.name not in self.alive and stored.owner == owner
        self.alive[stored.name] = (stored, seed)
        return stored.name

    @rule(name=consumes(names))
    def delete(self, name: str) -> None:
        assert self.run(self.images.delete(name)) is (name in self.alive)
        self.alive.pop(name, None)
        assert self.run(self.images.delete(name)) is False

    @rule(seed=CONTENTS, steps=st.integers(1, 2), ttl=LIVES)
    def break_off(self, seed: int, steps: int, ttl: Any) -> None:
        """A process that is killed between two steps of keeping a picture."""

        async def work() -> None:
            async with self.images.spool() as spool:
                spool.write(png(200, seed=seed))
                [_ async for _ in spool.read()]
                finished = await spool.finish(self.images.blobs.placing)
                if steps == 2:
                    name = new_name("png")
                    await self.images.index.refer(finished.sha256, name, None if ttl == "forever" else ttl)

        self.run(work())

    @rule(seconds=st.sampled_from([30.0, 61.0, GRACE + 1, 3601.0]))
    def wait(self, seconds: float) -> None:
        self.clock.turn(seconds)
        now = self.clock.wall()
        self.alive = {
            name: (stored, seed)
            for name, (stored, seed) in self.alive.items()
            if stored.expires is None or stored.expires > now
        }

    @rule()
    def collect(self) -> None:
        done = self.run(self.images.collector.collect())
        assert (done.kept, done.kept_bytes) == (len(blobs(self.images)), 200 * len(blobs(self.images)))

    @rule()
    def settle(self) -> None:
        """When everything that may be young has had its time, what is there is what is needed, and no more."""
        self.wait(2 * GRACE + LONGER)
        self._age()
        self.run(self.images.collector.collect())
        needed = {stored.sha256 for stored, _ in self.alive.values()}
        assert blobs(self.images) == needed and self.run(references(self.images)) == needed

    def _age(self) -> None:
        """The disk's clock is not ours: what lies there has lain there for long."""
        for path in (self.folder / "images/blobs").rglob("*"):
            if path.is_file():
                os.utime(path, (1, 1))

    @invariant()
    def every_name_leads_to_its_picture(self) -> None:
        for name, (stored, seed) in self.alive.items():
            found = self.run(self.images.find(name))
            assert found == stored and self.run(content(self.images, name)) == png(200, seed=seed)

    @invariant()
    def no_other_name_leads_anywhere(self) -> None:
        async def work() -> set[str]:
            return {stored.name async for page in self.images.index.all() for stored in page}

        assert self.run(work()) == set(self.alive)


TestShelf = Shelf.TestCase
TestShelf.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
