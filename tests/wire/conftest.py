from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from .authority import Authority
from .securing import Run


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


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)
