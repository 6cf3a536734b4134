"""A test's story on either of the two loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test's story on one of the two loops."""
    factory = None
    if request.param == "uvloop":
        factory = pytest.importorskip(
            "uvloop", reason="uvloop is not installed here; the extra 'speed' brings it"
        ).new_event_loop

    def go(story: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(story)

    return go
