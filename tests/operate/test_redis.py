"""The operator's commands on a store that machines share."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from proxy.__main__ import main
from proxy.core.clock import SystemClock
from proxy.core.config import load
from proxy.state import State, kept

from ..redis_server import RedisServer
from .desk import ROOT, Say, owner

TEXT = "hunter2-the-upstream's-own-key"


@pytest.fixture
def shared(config: Path, shared_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config with Redis as its store."""
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", Fernet.generate_key().decode())
    text = f'[store]\nurl = "{shared_server.url}"\nprefix = "{prefix}"\ntimeout = "20s"\n'
    config.write_text(config.read_text() + text)
    return config


def test_keys_and_secrets_are_kept_in_redis(
    say: Say, shared: Path, shared_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert say("keys", "list")[0] == 0
    status, key, err = say("keys", "create", "ci")
    assert status == 0 and shared_server.url in err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: TEXT)
    status, out, _ = say("secrets", "set", "openai")
    assert status == 0 and f"is kept in {shared_server.url}" in out
    assert say("secrets", "list") == (0, "openai\n", "")
    caller = owner(key.strip(), shared, environ=os.environ)
    assert caller is not None and caller.name == "ci"
    loaded = load(shared, {**os.environ, "WEB_KEY": "x"}, kept=kept(os.environ))
    assert [one.reveal() for one in loaded.upstreams["openai"].api_key] == [TEXT]

    async def in_a_loop() -> None:  # a reload reads secrets where a loop is running
        assert load(shared, {**os.environ, "WEB_KEY": "x"}, kept=kept(os.environ)) == loaded
        state = State(loaded, os.environ, SystemClock())
        assert await state.add() is not None
        await state.aclose()

    asyncio.run(in_a_loop())
    assert say("secrets", "rotate")[0] == 0
    assert not (shared.parent / "state").exists()
    status, _, err = say("store", "backup", str(shared.parent / "copy.db"))
    assert status == 1 and "redis-cli --rdb" in err
    assert say("images", "list", "--json")[0] in (0, 1)


def test_another_master_key_is_told(say: Say, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say("keys", "create", "ci")
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", Fernet.generate_key().decode())
    status, _, err = say("keys", "list")
    assert status == 1 and "another master key" in err


def test_check_says_what_is_missing_and_whether_it_answers(
    shared: Path, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f'[upstreams.a]\nbase_url = "http://127.0.0.1:{own_server.port}/v1"\n[store]\nurl = "{own_server.url}"\n'
    shared.write_text(f'{text}timeout = "20s"\n')
    assert main(["check", str(shared)]) == 0
    assert main(["check", str(shared), "--live"]) == 0
    own_server.stop()
    capsys.readouterr()
    assert main(["check", str(shared)]) == 0
    assert main(["check", str(shared), "--live"]) == 1
    assert "store: The store could not be read or written. (" in capsys.readouterr().err
    shared.write_text(text.replace('"a"', '"secret:a"') + 'timeout = "20s"\n[upstreams.a.headers]\nx-a = "secret:a"\n')
    assert main(["check", str(shared)]) == 1
    assert "upstreams.a.headers.x-a: The store could not be read or written." in capsys.readouterr().err
    monkeypatch.delenv("FRAMEGATE_MASTER_KEY")
    assert main(["check", str(shared)]) == 1
    assert "store.url: a store that machines share needs a master key" in capsys.readouterr().err


def test_commands_know_the_stores_own_password(say: Say, shared: Path, own_server: RedisServer) -> None:
    own_server.ask("CONFIG", "SET", "requirepass", "hunter22")
    text = shared.read_text().partition("[store]")[0]
    shared.write_text(f'{text}[store]\nurl = "{own_server.url}"\npassword = "env:REDIS_KEY"\ntimeout = "20s"\n')
    status, _, err = say("keys", "list")
    assert status == 1 and "store.password: the environment variable REDIS_KEY is not set" in err
    os.environ["REDIS_KEY"] = "hunter22"
    try:
        assert say("keys", "create", "ci")[0] == 0
    finally:
        del os.environ["REDIS_KEY"]


def test_the_library_is_loaded_where_redis_is_the_store(tmp_path: Path) -> None:
    text = '[upstreams.a]\nbase_url = "http://a.invalid/v1"\n[store]\nurl = '
    (tmp_path / "near.toml").write_text(f'{text}"sqlite:a.db"\n')
    (tmp_path / "far.toml").write_text(f'{text}"redis://127.0.0.1:1"\n')
    code = """
import asyncio, os, sys
from pathlib import Path
from proxy.app import *
from proxy.core.clock import SystemClock
from proxy.core.config import load
from proxy.model.store import StoreError
from proxy.state import State

async def main():
    for name in ("near", "far"):
        config = load(Path(sys.argv[1]) / f"{name}.toml", os.environ)
        assert not {"redis", "hiredis"} & set(sys.modules)
        state = State(config, os.environ, SystemClock())
        try:
            await state.get("a", "b")
        except StoreError as error:
            print(error)
        await state.aclose()
        print(name, sorted({"redis", "hiredis"} & set(sys.modules)))

asyncio.run(main())
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    environ = {**os.environ, "FRAMEGATE_MASTER_KEY": "x"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environ)
    said = "near []\nThe store could not be read or written.\nfar ['hiredis', 'redis']\n"
    assert done.stdout == said, done.stderr
