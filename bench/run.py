"""One run: two upstreams, and every workload in rounds whose order alternates."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import goals, load, nginx
from .catalogue import IMAGES, Plan
from .figures import Rounds, Sample, concluded
from .rig import ROOT, Command, Rig, RigError, free_port, python
from .rows import Row
from .workloads import FIRST, Ground, Scale, Workload

FORMAT = 1
NOTABLE = 5  # % of the proxy's core
Say = Callable[[str], None]


@contextmanager
def ground(scale: Scale) -> Iterator[Ground]:
    """A rig with both upstreams running. Raises RigError with what is missing."""
    load.program()
    with tempfile.TemporaryDirectory(prefix="framegate-bench-") as folder:
        rig = Rig(Path(folder))
        try:
            fast, slow = free_port(), free_port()
            ready = FIRST.raw({"Connection": "close"})
            upstream = nginx.upstream(rig.scratch / "upstream", fast, IMAGES, slow)
            with (
                rig.started(upstream, fast, ready, cores={rig.load_core}),
                rig.started(_streaming(slow), slow, ready, cores={rig.load_core}),
            ):
                yield Ground(rig, fast, slow, scale)
        finally:
            rig.close()


def _streaming(port: int) -> Command:
    return Command(python("bench.upstream", str(port)))


def measured(ground: Ground, workload: Workload, rows: Sequence[Row], rounds: int, say: Say) -> dict[str, Rounds]:
    """Every row in every round, there and back again, so that what drifts hits all alike."""
    found = {row.name: Rounds() for row in rows}
    for number in range(rounds):
        for row in rows if number % 2 == 0 else reversed(rows):
            if found[row.name].void:
                continue  # nothing that it does now can be concluded from
            say(f"{workload.name}, round {number + 1} of {rounds}: {row.name}")
            try:
                sample = workload.measure(ground, row)
            except RigError as error:
                sample = Sample({}, [str(error)])
            found[row.name].samples.append(sample)
    return found


def run(ground: Ground, plan: Plan, *, quick: bool, left_out: Sequence[str], say: Say) -> dict[str, Any]:
    """The whole plan; returns what stands in the JSON."""
    began = datetime.now(UTC)
    workloads = []
    for workload, rows in plan:
        rounds = ground.scale.rounds if workload.name not in ground.scale.once else 1
        found = measured(ground, workload, rows, rounds, say)
        what = {row.name: row.what for row in rows}
        shown = concluded(found)
        workloads.append(
            {
                "name": workload.name,
                "what": workload.what,
                "rounds": rounds,
                "rows": {name: {"what": what[name], **each} for name, each in shown.items()},
            }
        )
    result: dict[str, Any] = {
        "format": FORMAT,
        "date": began.date().isoformat(),
        "seconds": round((datetime.now(UTC) - began).total_seconds()),
        "quick": quick,
        "machine": machine(),
        "scale": {name: getattr(ground.scale, name) for name in Scale.__dataclass_fields__},
        "warnings": ground.rig.warnings,
        "left_out": list(left_out),
        "workloads": workloads,
    }
    result["warnings"] += disturbed(result)
    result["goals"] = goals.judged(result)
    return result


def disturbed(result: dict[str, Any]) -> list[str]:
    """A warning when others had a notable share of the proxy's core."""
    shares = [
        row["figures"]["others"]["median"]
        for workload in result["workloads"]
        for row in workload["rows"].values()
        if "others" in row["figures"]
    ]
    if not shares or (share := statistics.median(shares)) < NOTABLE:
        return []
    return [f"other work had {share:.0f} % of the proxy's core (median of all rows): these figures are noisy"]


def void(result: dict[str, Any]) -> list[str]:
    """The rows of which nothing can be concluded, and why."""
    return [
        f"{workload['name']}, {name}: {row['void']}"
        for workload in result["workloads"]
        for name, row in workload["rows"].items()
        if row["void"]
    ]


def machine() -> dict[str, str]:
    """On what it ran, in general words, and with which versions."""
    cores = os.cpu_count() or 1
    found = {
        "cores": f"{cores} cores, {platform.machine()}",
        "system": _system(),
        "python": platform.python_version(),
        "nginx": _first_line([nginx.program(), "-v"]).rpartition("/")[2],
        "wrk": _first_line([load.program(), "-v"]).partition(" [")[0].removeprefix("wrk ").strip(),
        "framegate": _first_line(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
    }
    for package in ("aiohttp", "uvloop", "orjson"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return {name: value for name, value in found.items() if value}


def _system() -> str:
    with suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", sys.platform)
    return sys.platform


def _first_line(words: Sequence[str]) -> str:
    with suppress(OSError):
        ran = subprocess.run(words, capture_output=True, text=True)
        return next(iter((ran.stdout + ran.stderr).splitlines()), "")
    return ""
