from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.__main__ import main
from proxy.core.config import load

from .desk import ROOT


@pytest.mark.parametrize(
    "words",
    ["keys", "keys create", "keys rotate", "secrets", "secrets set", "store", "store backup", "images", "images gc"],
)
def test_every_command_explains_itself(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*words.split(), "--help"])
    assert caught.value.code == 0
    assert f"usage: framegate {words}" in capsys.readouterr().out


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs/keys.md").read_text(), re.MULTILINE | re.DOTALL)
    environ = {"OPENAI_API_KEY": "x" * 40, "TEAM_A": "a" * 40, "WEB_KEY": "w" * 40, "LAB_KEY": "l" * 40}
    for n, text in enumerate(text for kind, text in blocks if kind == "toml"):
        (tmp_path / f"{n}.toml").write_text(text)
        load(tmp_path / f"{n}.toml", environ, kept=lambda _: lambda _: "x")
    (tmp_path / "0.toml").rename(tmp_path / "framegate.toml")
    script = "".join(text for kind, text in blocks if kind == "sh").replace(
        "eql7vuofmf", '"$(id=${KEY#sk-fg-}; echo "${id%%-*}")"'
    )
    start = f'set -eu\nframegate() {{ {sys.executable} -m proxy "$@"; }}\ncurl() {{ :; }}\nLAB_OPENAI_KEY=abc\n'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", start + script], capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment
    )
    assert (done.returncode, (tmp_path / "backup.db").exists()) == (0, True), done.stderr
