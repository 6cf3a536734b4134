"""The demo: offline, quick, and true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from plugins.keys import Keys
from proxy.__main__ import main


def demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FRAMEGATE_")}
    # Whoever tried to get out would fail here.
    dead = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "COLUMNS": "200"}
    command = [sys.executable, "-m", "proxy", "demo", *options]
    return subprocess.run(command, cwd=folder, env=environ | dead, capture_output=True, text=True, timeout=60)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m proxy` finds this checkout from any folder."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def test_tells_what_each_layer_did_and_saves_the_picture(house: None, tmp_path: Path) -> None:
    began = time.monotonic()
    done = demo(tmp_path, "--prompt", "two herons [at] dusk")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 10
    told = done.stdout
    assert "two herons [at] dusk" in told
    assert (Keys.__doc__ or "").splitlines()[0] in " ".join(told.split())
    layers = [told.index(f"{layer} ") for layer in ("  keys", "  rehost", "  failover", "    sandbox ")]
    assert layers == sorted(layers) and "its own key in the place of yours" in " ".join(told.split())
    assert re.search(r"sk-fg-[a-z2-7]+-…", told) and re.search(r"http://127.0.0.1:\d+/files/[a-z2-7]{26}\.png", told)
    with Image.open(tmp_path / "framegate-demo.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1024, 1024))
    assert [path.name for path in tmp_path.iterdir()] == ["framegate-demo.png"]


def test_saves_where_it_is_told(house: None, tmp_path: Path) -> None:
    assert demo(tmp_path, "--save", "mine.png").returncode == 0
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")


def test_says_where_it_can_not_write(house: None, tmp_path: Path) -> None:
    done = demo(tmp_path, "--save", "no/such/folder.png")
    assert done.returncode == 1
    assert done.stderr == "framegate: no/such/folder.png: No such file or directory\n"


@pytest.mark.parametrize(("module", "extra"), [("rich.console", "demo"), ("PIL", "images")])
def test_says_what_to_install(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["demo"]) == 1
    told = capsys.readouterr().err
    assert f"pip install 'framegate[{extra}]'" in told and "Traceback" not in told
