"""The kit as a plugin's author gets it: from a wheel, in an environment with nothing else in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from . import page

PARTS = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "proxy", "plugins", "templates")
QUIET = ("--quiet", "--disable-pip-version-check", "--retries", "0", "--timeout", "20")


def pip(*words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--python", python, *words[:1], *QUIET, *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


@pytest.fixture
def index(tmp_path: Path) -> None:
    """A package index to install from; the test is skipped in words where there is none, or no pip to ask it."""
    tried = pip("download", "--no-deps", "--dest", str(tmp_path / "tried"), "iniconfig")
    if tried.returncode:
        why = (tried.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        pytest.skip(f"nothing can be installed from here: {why}")


@pytest.mark.long  # a wheel is built and installed in a fresh venv
@pytest.mark.usefixtures("index")
def test_the_plugins_and_tests_of_the_page_run_with_nothing_installed_but_the_kit(tmp_path: Path) -> None:
    source, environment, project = (tmp_path / name for name in ("source", "environment", "project"))
    source.mkdir()
    for name in PARTS:  # a copy, since a build leaves things behind
        path = page.ROOT / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, source / name)
    venv.create(environment, with_pip=False)
    python = str(environment / "bin" / "python")
    # One call builds the wheel and installs it: two would resolve twice.
    wanted = f"framegate[test] @ {source.as_uri()}"
    versions = str(page.ROOT / "constraints.txt")
    installed = pip("install", "--no-compile", "--constraint", versions, wanted, python=python)
    assert installed.returncode == 0, installed.stderr
    project.mkdir()
    page.written(project)
    ran = subprocess.run(
        [python, "-W", "error", "-m", "pytest"],
        cwd=project,
        env={name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0 and re.search(r"\b6 passed\b(?!.*warning)", ran.stdout), ran.stdout + ran.stderr
