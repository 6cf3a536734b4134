"""The kit's own pytest plugin, where Framegate is not installed but run from its checkout."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin("framegate"):
        from proxy.testkit import fixtures

        config.pluginmanager.register(fixtures, "framegate")
