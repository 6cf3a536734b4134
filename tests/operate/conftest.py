from __future__ import annotations

from pathlib import Path

import pytest

from proxy.__main__ import main

from .desk import Say

FILE = """
[upstreams.openai]
base_url = "https://api.openai.com/v1"
api_key = "secret:openai"
[groups.marketing]
[keys.web]
secret = "env:WEB_KEY"
group = "marketing"
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No master key, no state of the person who runs the tests, and none of the config's secrets."""
    for name in ("FRAMEGATE_MASTER_KEY", "OPENAI_API_KEY", "WEB_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "framegate.toml").write_text(FILE)
    return tmp_path / "framegate.toml"


@pytest.fixture
def say(config: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run `framegate ... --config`; its status and what it said on standard output and standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        status = main([*words, "--config", str(config)])
        return status, *capsys.readouterr()

    return run
