"""Whatever is asked when: in no sliding minute do more pictures come than may."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from plugins.quota import Quota
from proxy.api import CALLER
from proxy.testkit import Stage
from proxy.testkit.playing import Playing

from .cases import ASK, IMAGE, ann, drawn, refusal

LIMIT, WINDOW = 12, 60.0
LONG = 600.0  # seconds of load


class SlidingMinute(RuleBasedStateMachine):
    """Random load on one key through the plugin, for ten minutes of a turned clock."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.gates: list[tuple[Playing, asyncio.Event, int, float]] = []
        self.came: list[tuple[float, int]] = []  # when pictures were taken upstream, and how many
        self.refused = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        async def opened() -> Stage:
            stage = Stage(Quota(warn=0.0), upstream=self.answered, facts={CALLER: ann(images=f"{LIMIT} / 1m")})
            return await stage.__aenter__()

        self.stage: Stage = self.run(opened())
        self.began: float = self.stage.clock.now()

    async def answered(self, asked: Any) -> Any:
        body = asked.json()
        if body["prompt"] == "fails":
            return refusal(500)
        self.came.append((self.stage.clock.now(), body["n"]))
        return drawn(body["n"])

    @property
    def over(self) -> bool:
        return bool(self.stage.clock.now() - self.began > LONG)

    @rule(counts=st.lists(st.integers(1, 5), min_size=1, max_size=8), fails=st.booleans())
    def burst(self, counts: list[int], fails: bool) -> None:
        """Several at once."""
        if self.over:
            return

        async def asked() -> None:
            prompt = "fails" if fails else "tea"
            playing = [self.stage.begin(IMAGE, json={**ASK, "n": n, "prompt": prompt}) for n in counts]
            for one in playing:
                played = await one
                assert played.status in ((500, 429) if fails else (200, 429)), played
                self.refused += played.status == 429

        self.run(asked())

    @rule(seconds=st.floats(0.01, 40))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.run(self.turned(seconds))

    @rule(seconds=st.sampled_from((-86400.0, -3600.0, 3600.0, 86400.0)))
    def step(self, seconds: float) -> None:
        """An operator sets the wall clock: no time has passed. (A step of up to two seconds is followed.)"""
        self.stage.clock.step(seconds)

    @rule()
    def come_when_told(self) -> None:
        """Who was refused and waits as long as they were told is served."""
        if self.over:
            return

        async def asked() -> None:
            played = await self.stage.play(IMAGE, json={**ASK, "n": LIMIT})
            if played.status == 429:
                told = played.headers.get("retry-after")
                assert told is not None
                await self.turned(float(told))
                played = await self.stage.play(IMAGE, json={**ASK, "n": LIMIT})
            assert played.status == 200, played.body

        self.run(asked())

    async def turned(self, seconds: float) -> None:
        self.stage.clock.turn(seconds)
        await asyncio.sleep(0)

    @invariant()
    def never_more_in_any_minute(self) -> None:
        for start, _ in self.came:
            inside = sum(count for at, count in self.came if start <= at < start + WINDOW - 0.2)
            assert inside <= LIMIT, (start - self.began, inside)

    def teardown(self) -> None:
        if hasattr(self, "stage"):
            self.run(self.stage.__aexit__(None, None, None))
        self.runner.close()


TestSlidingMinute = SlidingMinute.TestCase
TestSlidingMinute.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
