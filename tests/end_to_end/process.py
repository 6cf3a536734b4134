"""Framegate as a process of its own, started as people start it; and what this process has open."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


class Process:
    """One command of framegate's that runs; `heard` is what it has written so far."""

    def __init__(self, running: asyncio.subprocess.Process) -> None:
        self._running = running
        self.heard: list[str] = []
        self.pid = running.pid

    async def line(self) -> str:
        """The next line that it writes."""
        assert self._running.stdout is not None
        raw = await self._running.stdout.readline()
        assert raw, f"it ended with {await self._running.wait()}: {self.heard}"
        self.heard.append(raw.decode())
        return self.heard[-1]

    async def event(self, name: str) -> dict[str, Any]:
        """The next line of its JSON log with this event."""
        while True:
            line = json.loads(await self.line())
            if line["event"] == name:
                found: dict[str, Any] = line
                return found

    async def serving(self) -> int:
        """The port on which it serves, once it does."""
        return int((await self.event("serving"))["address"].rpartition(":")[2])

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._running.send_signal(number)

    async def ended(self) -> int:
        """Read it to its end; its exit status."""
        assert self._running.stdout is not None
        self.heard += (await self._running.stdout.read()).decode().splitlines()
        return await self._running.wait()

    def memory(self, field: str) -> int:
        """A field of /proc/PID/status, in bytes: VmRSS is what it holds, VmHWM the most it ever held."""
        found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


def opened(inside: Path | None = None) -> list[str]:
    """What this process has open, or only the files of one folder, those without a name among them."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # the descriptor that listed them
            continue
    return [one for one in found if inside is None or one.startswith(str(inside))]


@asynccontextmanager
async def program(*words: str | Path, **environ: str) -> AsyncIterator[Process]:
    """Run a program; what is left of it and of its children at the end is ended."""
    running = await asyncio.create_subprocess_exec(
        *words,
        cwd=ROOT,
        env={**os.environ, **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    process = Process(running)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        await process.ended()


def command(*words: str | Path, **environ: str) -> AbstractAsyncContextManager[Process]:
    """Run `framegate WORDS`."""
    return program(sys.executable, "-W", "error", "-m", "proxy", *words, **environ)


@asynccontextmanager
async def serving(config: str, folder: Path) -> AsyncIterator[tuple[Process, int]]:
    """Serve this config on a free port: the process and its port."""
    path = folder / "framegate.toml"
    path.write_text(config if "[server]" in config else f'[server]\nlisten = "127.0.0.1:0"\n{config}')
    async with command("serve", "--config", path) as process:
        yield process, await process.serving()
