"""The machine's own time."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Time as it passes; what tests turn takes its place."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    sleep = staticmethod(asyncio.sleep)
