"""The whole house in this process, from a config as an operator would write it."""

from __future__ import annotations

import asyncio
import io
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ..app import House
from ..core.config import Config, load
from ..model.services import Clock
from ..state import kept
from ..telemetry.log import make

ANYWHERE = '[server]\nlisten = "127.0.0.1:0"\n'


@dataclass(slots=True)
class Served:
    """A house that serves, and what it has logged."""

    house: House
    _lines: io.BytesIO = field(repr=False)

    @property
    def url(self) -> str:
        """Where it listens: http://127.0.0.1:PORT, or unix:PATH."""
        return self.house.address

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self.house.address.rpartition(":")[2])

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every line logged so far."""
        return [orjson.loads(line) for line in self._lines.getvalue().splitlines()]

    @property
    def raw_log(self) -> bytes:
        """The log as written."""
        return self._lines.getvalue()

    def exchanges(self) -> list[dict[str, Any]]:
        """The lines of ended exchanges."""
        return [line for line in self.log if line["event"] == "exchange"]

    async def ended(self, count: int) -> list[dict[str, Any]]:
        """Wait until that many exchanges have ended; a test's own time limit is the only other end."""
        while len(lines := self.exchanges()) < count:  # noqa: ASYNC110 - the log has no event to wait for
            await asyncio.sleep(0.005)
        return lines


@asynccontextmanager
async def serve(
    config: str, *, environ: Mapping[str, str] | None = None, clock: Clock | None = None, drain: bool = True
) -> AsyncIterator[Served]:
    """Serve a TOML config; without a [server] table, on a free port of 127.0.0.1. Stops, drained, at the end.

    A plugin of the test's own is named as `module:Class`: `use = "test_gate:Gate"` for a class of test_gate.py.
    Its state is kept in a folder of its own, which is gone afterwards. A secret of the config's that shows in what the
    house has written, log or state, fails the test.
    """
    if "[server]" not in config:
        config = ANYWHERE + config
    known = environ or {}
    lines = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="framegate-test-") as folder:
        read = _read(Path(folder), config, known)
        house = House(read, environ=known, log=make("json", lines), clock=clock)
        await house.start()
        try:
            yield Served(house, lines)
        finally:
            if not drain:
                house.engine.draining = True
            await house.stop()
            leaks_nothing(config, known, lines.getvalue(), Path(folder))


def _read(folder: Path, config: str, environ: Mapping[str, str]) -> Config:
    path = folder / "framegate.toml"
    path.write_text(config)
    before = list(sys.path)
    try:
        return load(path, environ, kept=kept(environ))
    finally:
        sys.path[:] = before  # where modules beside the file would be found: this folder is soon gone


def leaks_nothing(config: str, environ: Mapping[str, str], log: bytes, folder: Path) -> None:
    """Raise AssertionError where a secret that the config takes from the environment stands in what was written."""
    secrets = {name: environ[name].encode() for name in re.findall(r"env:(\w+)", config) if environ.get(name)}
    written = {"the log": log} | {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, secret in secrets.items():
        for place, text in written.items():
            if secret in text and place != "framegate.toml":
                raise AssertionError(f"the secret {name} stands in {place}")
