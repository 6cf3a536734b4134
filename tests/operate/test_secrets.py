from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from proxy.core.config import load
from proxy.state import kept

from .desk import COMMAND, ROOT, Say, owner, piped, records

TEXT = "hunter2-the-upstream's-own-key"


def test_a_secret_stands_on_no_command_line_and_in_no_file(say: Say, config: Path, tmp_path: Path) -> None:
    say("keys", "create", "ci")
    held = sqlite3.connect(tmp_path / "state/framegate.db")  # so that the -wal file stays
    held.execute("SELECT count(*) FROM records").fetchall()
    words = [*COMMAND, "secrets", "set", "openai", "--config", str(config)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert TEXT not in Path(f"/proc/{process.pid}/cmdline").read_text()
        out, _ = process.communicate(f"{TEXT}\n", timeout=60)
    assert process.returncode == 0 and TEXT not in out and '"secret:openai"' in out
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "state/framegate.db-wal" in files
    assert not any(TEXT.encode() in path.read_bytes() for path in files)
    held.close()
    loaded = load(config, {"WEB_KEY": "x"}, kept=kept(os.environ))
    assert [key.reveal() for key in loaded.upstreams["openai"].api_key] == [TEXT]
    assert say("secrets", "list") == (0, "openai\n", "")
    assert say("secrets", "delete", "openia")[2] == "no secret has the name 'openia'; did you mean 'openai'?\n"
    assert say("secrets", "delete", "openai")[0] == 0
    assert say("secrets", "list") == (0, "", "")


@pytest.mark.parametrize("words", [["openai", TEXT], ["openai", "--", TEXT], ["sk-proj-" + TEXT]])
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(say: Say, words: list[str]) -> None:
    status, out, err = say("secrets", "set", *words[:1], *words[1:])
    assert (status, out) == (1, "") and "never taken from the command line" in err and TEXT not in err


@pytest.mark.parametrize("text", ["", "\n", "two\nlines\n", "x" * 70000, "nul\0"])
def test_refuses_what_no_header_could_hold(tmp_path: Path, text: str) -> None:
    done = piped("secrets", "set", "openai", text=text, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1


def test_a_person_is_asked_without_an_echo(say: Say, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or TEXT)
    assert say("secrets", "set", "openai")[0] == 0
    assert asked == ["secret 'openai': "]


def test_another_master_key_is_one_line_and_writes_nothing(say: Say, tmp_path: Path) -> None:
    say("keys", "create", "ci")
    before = records(tmp_path)
    for key, said in ((Fernet.generate_key().decode(), "written under another master key"), ("x", "no master key")):
        for words in (["keys", "list"], ["keys", "create", "b"], ["secrets", "list"], ["secrets", "set", "a"]):
            done = piped(
                *words, "--config", str(tmp_path / "framegate.toml"), text="abc", cwd=tmp_path, FRAMEGATE_MASTER_KEY=key
            )
            assert done.returncode == 1 and done.stdout == "" and said in done.stderr
            assert done.stderr.count("\n") == 1
    assert records(tmp_path) == before


def test_rotating_the_master_key_keeps_secrets_and_keys(
    say: Say, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = say("keys", "create", "ci")[1].strip()
    piped("secrets", "set", "openai", "--config", str(config), text=TEXT, cwd=tmp_path)
    new = Fernet.generate_key().decode()
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", f"{new} {(tmp_path / 'state/master.key').read_text()}")
    assert say("secrets", "rotate")[1].startswith("1 secret and the store's own are sealed")
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", new)
    assert say("secrets", "list") == (0, "openai\n", "")
    assert owner(key, config) is not None


def test_backs_up_to_a_new_file_and_over_none(say: Say, config: Path, tmp_path: Path) -> None:
    assert "There is no store" in say("store", "backup", str(tmp_path / "copy.db"))[2]
    key = say("keys", "create", "ci")[1].strip()
    assert say("store", "backup", str(tmp_path / "copy.db"))[0] == 0
    assert "is there already" in say("store", "backup", str(tmp_path / "copy.db"))[2]
    say("keys", "revoke", key.split("-")[2])
    (tmp_path / "copy.db").replace(tmp_path / "state/framegate.db")
    assert owner(key, config) is not None


def test_a_store_that_can_not_be_used_is_one_line(say: Say, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/framegate.db").write_bytes(b"not a database, but long enough to be looked at" * 50)
    assert say("keys", "create", "ci")[2].endswith("file is not a database\n")
    (tmp_path / "state/framegate.db").unlink()
    (tmp_path / "state/master.key").mkdir()
    assert say("keys", "create", "ci")[2].count("Is a directory") == 1
