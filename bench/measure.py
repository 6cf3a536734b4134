"""What the kernel says of a process and its children: CPU time, memory, peak memory."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
RESET_PEAK = "5"  # to /proc/PID/clear_refs: the peak is what is resident now (proc(5))


TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds in which /proc/stat counts
IDLE = (3, 4)  # the columns of a core's line in which it did nothing: idle, iowait


def busy(core: int) -> float:
    """Seconds that this core has worked since the machine started, for anybody; what the host took of it among them."""
    for line in (PROC / "stat").read_text().splitlines():
        name, *columns = line.split()
        if name == f"cpu{core}":
            return sum(int(one) for number, one in enumerate(columns[:8]) if number not in IDLE) * TICK
    return 0.0


@dataclass(frozen=True)
class Process:
    """A process with all its children, as /proc shows it."""

    pid: int

    def family(self) -> list[int]:
        """Its number and those of its children, theirs among them."""
        found, left = [], [self.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            for children in (PROC / str(pid) / "task").glob("*/children"):
                with suppress(OSError):  # a thread may end while we look
                    left += map(int, children.read_text().split())
        return found

    def cpu(self) -> float:
        """Seconds of CPU time that all its threads have had; the kernel counts nanoseconds."""
        total = 0
        for pid in self.family():
            for thread in (PROC / str(pid) / "task").glob("*/schedstat"):
                with suppress(OSError):
                    total += int(thread.read_text().split()[0])
        return total / 1e9

    def forget_peak(self) -> None:
        """Have the peak start from what is resident now."""
        for pid in self.family():
            (PROC / str(pid) / "clear_refs").write_text(RESET_PEAK)

    def peak(self) -> int:
        """The most memory that was resident since the peak was forgotten, in bytes."""
        return self._status("VmHWM")

    def resident(self) -> int:
        """Memory that is resident now, in bytes."""
        return self._status("VmRSS")

    def _status(self, field: str) -> int:
        total = 0
        for pid in self.family():
            with suppress(FileNotFoundError, ProcessLookupError):
                status = (PROC / str(pid) / "status").read_text()
                if found := re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE):
                    total += int(found[1]) * 1024
        return total
