"""What the tests of the operator's commands share."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from proxy.core.config import load
from proxy.model.errors import Rejected
from proxy.model.slots import Caller
from proxy.state import State
from proxy.testkit import TurnedClock

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "proxy"]
Say = Callable[..., tuple[int, str, str]]


def piped(*words: str, text: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*COMMAND, *words], input=text, capture_output=True, text=True, timeout=60, cwd=cwd, env=environment
    )


def owner(key: str, config: Path, *, later: float = 0.0, environ: Mapping[str, str] = os.environ) -> Caller | None:
    """Whose key it is to a server on that store, or None."""

    async def find() -> Caller | None:
        clock = TurnedClock()
        clock.turn(later)
        state = State(load(config, {**environ, "WEB_KEY": "x"}, kept=lambda _: lambda _: "x"), environ, clock)
        try:
            return await state.callers([], {"marketing", "build", "a"}).find(key)
        except Rejected:
            return None
        finally:
            await state.aclose()

    return asyncio.run(find())


def records(folder: Path) -> list[tuple[str, str, bytes]]:
    """All that the store in that folder holds."""
    db = sqlite3.connect(folder / "state/framegate.db")
    try:
        return db.execute("SELECT space, key, value FROM records ORDER BY 1, 2").fetchall()
    finally:
        db.close()
