"""The rig: the proxy alone on one core, everything else on another; what is started here is ended here."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .measure import Process

ROOT = Path(__file__).parent.parent
FILES = 16_000  # open files that five thousand held requests ask of a proxy, with room
GRACE = 5.0  # seconds for a process to end by itself


class RigError(Exception):
    """The rig can't do what was asked; says why."""


@dataclass(frozen=True)
class Command:
    """A program to run: its words, its folder, what its environment holds besides the bare minimum."""

    words: Sequence[str | Path]
    folder: Path = ROOT
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Started:
    """A server that runs and has answered once."""

    process: Process
    port: int
    seconds: float  # from its start to its first answer


class Rig:
    """Two cores, a scratch folder, and a way to start programs on either core."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.cores = os.sched_getaffinity(0)
        cores = sorted(self.cores)
        self.proxy_core, self.load_core = cores[0], cores[min(1, len(cores) - 1)]
        self.warnings: list[str] = []
        if len(cores) < 2:
            self.warnings.append("one core only: proxy and load share it, so no figure here means much")
        busy = os.getloadavg()[0]
        if busy > 0.5:
            self.warnings.append(f"the machine was not quiet: its load was {busy:.1f} before the first run")
        self.files = raise_open_files()
        if self.files < FILES:
            self.warnings.append(
                f"open files are limited to {self.files}, 5,000 held requests need {FILES}: `ulimit -n {FILES}`"
            )
        os.sched_setaffinity(0, {self.load_core})

    def close(self) -> None:
        """Let this process run on all its cores again."""
        os.sched_setaffinity(0, self.cores)

    @contextmanager
    def started(
        self, command: Command, port: int, question: bytes, *, cores: Collection[int], patience: float = 10.0
    ) -> Iterator[Started]:
        """Run a server on these cores until the end of the block, which begins at its first 200.

        Raises RigError when none comes.
        """
        log = self.scratch / f"{port}.log"
        with log.open("wb") as output:
            os.sched_setaffinity(0, cores)  # children inherit it, their threads too
            began = time.perf_counter()
            try:
                running = subprocess.Popen(
                    [str(word) for word in command.words],
                    cwd=command.folder,
                    env=self._environ(command.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as exc:
                raise RigError(f"{command.words[0]} can't be started: {exc.strerror}") from exc
            finally:
                os.sched_setaffinity(0, {self.load_core})
        try:
            first_answer(port, question, running, log, began + patience)
            yield Started(Process(running.pid), port, time.perf_counter() - began)
        finally:
            end(running)
            log.unlink(missing_ok=True)

    def _environ(self, more: Mapping[str, str]) -> dict[str, str]:
        # Byte code is kept apart from the checkout, and kept: else each start would compile everything.
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.scratch),
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(self.scratch / "bytecode"),
            **more,
        }


def python(module: str, *words: str | Path) -> list[str | Path]:
    """The words that run a module with the Python that runs us."""
    return [sys.executable, "-m", module, *words]


def raise_open_files() -> int:
    """Allow as many open files as we may; returns how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(FILES, soft), hard):
        with suppress(ValueError, OSError):  # the hard limit itself can be raised by root alone
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_answer(port: int, question: bytes, running: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    """Ask until the answer is a 200. Raises RigError with what the server wrote when it ended or time is up."""
    heard = b""
    while time.perf_counter() < deadline:
        if running.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=deadline - time.perf_counter()) as line:
                line.sendall(question)
                heard = line.recv(4096)
        except OSError:
            time.sleep(0.001)
            continue
        if heard.startswith(b"HTTP/1.1 200"):
            return
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-600:].strip()
    raise RigError(f"no good answer; last heard {heard[:300]!r}; it wrote: {said or 'nothing'}")


def end(running: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then see to it; its children with it."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        running.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
