"""Installed as `framegate_pytest`: by this name pytest finds the kit's fixtures, wherever Framegate is installed.

By the name `proxy` it would take a project's own proxy.py for ours, run it too early, and fail before the first test.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def _ours() -> bool:
    """Whether `proxy` is Framegate's; nothing is imported to find out."""
    try:
        spec = find_spec("proxy")
    except ValueError:  # something without a spec stands there already
        return False
    places = (spec.submodule_search_locations if spec is not None else None) or ()
    return any(Path(place, "testkit", "fixtures.py").exists() for place in places)


if _ours():
    from proxy.testkit.fixtures import framegate_clock, framegate_sandbox, framegate_serve, framegate_stage

    __all__ = ["framegate_clock", "framegate_sandbox", "framegate_serve", "framegate_stage"]
else:

    def pytest_report_header() -> str:
        """Say why the fixtures are not there."""
        return "framegate: no fixtures, since another module named 'proxy' stands in front of its own"
