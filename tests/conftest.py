"""What every test may ask for, and the rule that under FRAMEGATE_TESTS=all nothing is skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

ALL = os.environ.get("FRAMEGATE_TESTS") == "all"


@pytest.fixture
def needs() -> Callable[[str], str]:
    """A program of the system; the test is skipped in words where it is absent, and fails under FRAMEGATE_TESTS=all."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is not installed here; .ci/run installs it")
        return path

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    """Turn a skip into a failure where everything must run."""
    report = yield
    if ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and FRAMEGATE_TESTS=all allows no skip: {report.longrepr}"
    return report
