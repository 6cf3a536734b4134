"""What every test may ask for, and the rule that under FRAMEGATE_TESTS=all nothing is skipped."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .loops import run  # noqa: F401 - a fixture of all tests
from .redis_server import own_server, prefix, redis_program, shared_server  # noqa: F401 - fixtures of all tests

NODE = Path(__file__).parent / "node"
ALL = os.environ.get("FRAMEGATE_TESTS") == "all"


@pytest.fixture(scope="session")
def needs() -> Callable[[str], str]:
    """A program of the system; the test is skipped in words where it is absent, and fails under FRAMEGATE_TESTS=all."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is not installed here; .ci/run installs it")
        return path

    return find


@pytest.fixture(scope="session")
def installed() -> Callable[[str], None]:
    """Install the Node SDK as the lock file says, once, where it is not there yet."""

    def install(npm: str) -> None:
        with (NODE / "package-lock.json").open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # the suite runs in several processes
            lock = held.read()
            stamp = NODE / "node_modules" / ".installed"
            if not stamp.exists() or stamp.read_bytes() != lock:
                subprocess.run([npm, "ci", "--ignore-scripts"], cwd=NODE, check=True, stdout=subprocess.DEVNULL)
                stamp.write_bytes(lock)

    return install


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    """Turn a skip into a failure where everything must run."""
    report = yield
    if ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and FRAMEGATE_TESTS=all allows no skip: {report.longrepr}"
    return report
