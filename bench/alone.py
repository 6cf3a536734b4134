"""Questions apart from the tables: what does one plugin cost, and where does the time of a request go?"""

from __future__ import annotations

import shutil
import subprocess

from . import load
from .catalogue import IMAGES, SMALL
from .figures import Spread, differences, ratios
from .rig import RigError
from .rows import framegate
from .rows.others import LOW
from .run import Say, measured
from .workloads import Ground, image

PROFILED = 5  # seconds
LINES = 40
UNKNOWN = "perf is not installed: apt-get install linux-perf"


def compared(ground: Ground, plugin: str, settings: str, say: Say) -> str:
    """The plugin's price for a small request and for an image: the same chain with and without it, round by round.

    Microseconds are the machine's; as a share of what the floor `low` takes in the same round they can be compared.
    """
    without, whole = framegate.with_and_without(plugin, settings)
    rounds = 2 * ground.scale.rounds - 1  # a difference of two wanders more than either
    lines = [f"{whole.what} beside {without.what}, {rounds} rounds"]
    for workload in (SMALL, image(IMAGES[0], 32)):
        found = measured(ground, workload, (LOW, without, whole), rounds, say)
        if failures := [f"{name}: {rounds.void}" for name, rounds in found.items() if rounds.void]:
            raise RigError("void: " + "; ".join(failures))
        price = Spread.of(differences(found["with"], found["without"], "cpu_us"))
        before = Spread.of(found["without"].values("cpu_us"))
        dearer, cheaper = (ratios(found[name], found["low"], "cpu_us") for name in ("with", "without"))
        share = Spread.of([a - b for a, b in zip(dearer, cheaper, strict=True)])
        lines.append(
            f"  {workload.name}: {price.median:+.1f} µs of CPU a request "
            f"({price.least:+.1f}..{price.most:+.1f}), on top of {before.median:.1f}; "
            f"that is {share.median:+.2f} x low ({share.least:+.2f}..{share.most:+.2f})"
        )
    return "\n".join(lines)


def profiled(ground: Ground, say: Say) -> str:
    """Where the CPU time of a small request goes, by function of the C level."""
    perf = shutil.which("perf")
    if perf is None:
        raise RigError(UNKNOWN)
    with ground.serving(framegate.KEYS, ground.fast) as (port, process, _):
        assert process is not None
        record = ground.rig.scratch / "perf.data"
        words = [perf, "record", "-q", "-o", str(record), "-p", str(process.pid), "--", "sleep", str(PROFILED)]
        wanted = load.script(ground.rig.scratch / "wrk.lua", SMALL.question, framegate.KEYS.headers)
        say("profiling")
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as recording:
            load.run(port, SMALL.question, wanted, connections=SMALL.connections, seconds=PROFILED + 1)
        if recording.returncode:
            raise RigError(f"perf ended with {recording.returncode}; it may need kernel.perf_event_paranoid <= 1")
        shown = [perf, "report", "--stdio", "-q", "-i", str(record), "--sort", "dso,symbol"]
        ran = subprocess.run(shown, capture_output=True, text=True, check=True)
    return "\n".join([line for line in ran.stdout.splitlines() if line.strip()][:LINES])
