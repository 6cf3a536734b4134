"""What several tests from end to end ask for."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

NODE = Path(__file__).parent.parent / "node"


@pytest.fixture(scope="session")
def installed() -> Callable[[str], None]:
    """Install the Node SDK as the lock file says, once, where it is not there yet."""

    def install(npm: str) -> None:
        lock = (NODE / "package-lock.json").read_bytes()
        stamp = NODE / "node_modules" / ".installed"
        if not stamp.exists() or stamp.read_bytes() != lock:
            subprocess.run([npm, "ci", "--ignore-scripts"], cwd=NODE, check=True, stdout=subprocess.DEVNULL)
            stamp.write_bytes(lock)

    return install
