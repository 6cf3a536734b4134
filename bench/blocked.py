"""`python -m bench.blocked`: how long the loop stands still while several processes count in one SQLite file.

Each claims and settles for many callers at once, and looks a thousand times a second how late its loop is. On a machine
with fewer cores than processes most of that is waiting for a core, which the kernel tells (`/proc/TID/schedstat`): of
the loop's own thread, and of the store's, which may have to wait with the interpreter's lock in its hand. Without both,
what is left is what our code has blocked, or a hypervisor that took the whole machine away: one more process that only
looks, and counts nothing, says how much of that there was. Where it was held up as well, the run says nothing. The
command ends with 1 where a loop was blocked for longer than it may be, or with 2 where nobody can tell.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import sys
import tempfile
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TextIO

import structlog

from proxy.app import settle
from proxy.core.claims import Claims
from proxy.core.clock import SystemClock
from proxy.model.quota import Line
from proxy.store.sqlite import SQLiteStore

MOST = 2.0  # milliseconds
LINES = (Line("key:all|requests|60000", 10**9, window=60_000), Line("key:all|concurrent", 10**6))
Figures = tuple[int, list[float], list[float]]  # claims a second, how late the loop was, and by our own doing (ms)


def waited(of: list[TextIO]) -> float:
    """Milliseconds that these threads have waited for a core so far."""
    for file in of:
        file.seek(0)
    return sum(int(file.read().split()[1]) for file in of) / 1e6


async def work(path: Path, claims: int, callers: int, over: Event) -> Figures:
    """What one process does, and sees."""
    store = SQLiteStore(path, SystemClock())
    held = Claims(store, SystemClock(), structlog.get_logger(), timeout=3.0)
    count = itertools.count()
    late: list[float] = []
    own: list[float] = []

    async def call() -> None:
        for _ in range(claims // callers):
            id = str(next(count))
            assert (await held.claim(id, LINES, (1, 1))).taken
            await asyncio.sleep(0.01)
            held.settle(id, LINES, (1, 0))

    async def watch(threads: list[TextIO]) -> None:
        while True:
            before, began = waited(threads), time.perf_counter()
            await asyncio.sleep(0.001)
            late.append((time.perf_counter() - began) * 1000 - 1)
            own.append(max(0.0, late[-1] - (waited(threads) - before)))

    ids = [one.native_id for one in threading.enumerate() if one.name in ("MainThread", "framegate-sqlite")]
    files = [_opened(f"/proc/self/task/{id}/schedstat") for id in ids]
    settle()
    watching, began = asyncio.create_task(watch(files)), time.perf_counter()
    if callers:
        await asyncio.gather(*[call() for _ in range(callers)])
    else:
        await asyncio.to_thread(over.wait)
    seconds = time.perf_counter() - began
    watching.cancel()
    await held.aclose()
    await store.aclose()
    for file in files:
        file.close()
    return int(claims / seconds), sorted(late), sorted(own)


def process(path: Path, claims: int, callers: int, over: Event, told: multiprocessing.Queue[Figures]) -> None:
    """One of them; without callers, the one that only looks until it is `over`."""
    told.put(asyncio.run(work(path, claims, callers, over)))


def main() -> int:
    """Run them at once, and say what each has seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.blocked", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--callers", type=int, default=32, help="of each process, at once")
    parser.add_argument("--claims", type=int, default=8000, help="of each process")
    asked = parser.parse_args()
    told: multiprocessing.Queue[Figures] = multiprocessing.Queue()
    machine: multiprocessing.Queue[Figures] = multiprocessing.Queue()
    over = multiprocessing.Event()
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="framegate-blocked-") as folder:
        path = Path(folder) / "blocked.db"
        running = [
            multiprocessing.Process(target=process, args=(path, asked.claims, asked.callers, over, told))
            for _ in range(asked.processes)
        ]
        running.append(multiprocessing.Process(target=process, args=(path, 0, 0, over, machine)))
        for one in running:
            one.start()
        for _ in range(asked.processes):
            rate, late, own = told.get()
            print(f"{rate} claims/s; late: {_spread(late)}; of which blocked: {_spread(own)}")
            worst = max(worst, own[-1])
        over.set()
        _, _, idle = machine.get()
        for one in running:
            one.join()
    print(f"a loop with nothing to do: {_spread(idle)}")
    print(f"a loop that counts was blocked for {worst:.2f} ms at the most; it may be {MOST:g}")
    if worst <= MOST:
        return 0
    if idle[-1] > MOST:
        print("the machine held up even the loop with nothing to do, so this says nothing: try again when it is quiet")
        return 2
    return 1


def _opened(path: str) -> TextIO:
    return open(path)


def _spread(sample: list[float]) -> str:
    half, most = sample[len(sample) // 2], sample[int(len(sample) * 0.99)]
    return f"median {half:.2f}, p99 {most:.2f}, most {sample[-1]:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
