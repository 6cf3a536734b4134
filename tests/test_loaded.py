"""What a config loads: what it has a use for, all of it before it serves, and nothing else."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy import api

ROOT = Path(__file__).parent.parent
CONFIG = """\
[server]
listen = "127.0.0.1:0"
[upstreams.one]
base_url = "http://127.0.0.1:UPSTREAM/v1"
[keys.any]
secret = "env:ANY"
[keys.some]
secret = "env:SOME"
models = ["gpt-*"]
%s
[[routes]]
match = "* /v1/*"
chain = %s
"""
KEYS = {"ANY": "sk-any-0123456789012345678901234567890", "SOME": "sk-some-0123456789012345678901234567890"}
IMAGES = '[plugins.quota]\nlimits = { images = "100 / 1m" }\n[plugins.moderation]\nupstream = "one"\n'
# None of it has anything to do where requests pass as they are.
HEAVY = {"cryptography", "sqlite3", "aiohttp.web", "importlib.metadata", "proxy.lent", "proxy.openai", "proxy.images"}
# Nor this where callers are looked up and no more.
HEAVIER = {
    "proxy.images",
    "proxy.wire.fetch",
    "proxy.openai.failure",
    "proxy.openai.scan",
    "proxy.openai.demand",
    "redis",
}


def loaded(folder: Path, chain: list[str], settings: str = "") -> dict[str, list[Any]]:
    file = folder / "framegate.toml"
    file.write_text(CONFIG % (settings, json.dumps(chain)))
    environ = {name: value for name, value in os.environ.items() if name != "FRAMEGATE_MASTER_KEY"}
    environ |= {**KEYS, "KEYS": " ".join(KEYS.values()), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-W", "error", "-m", "tests.loading", str(file)]
    done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told: dict[str, list[Any]] = json.loads(done.stdout)
    behind = [name for name in told["late"] if name.split(".")[0] in ("proxy", "plugins", "cryptography", "sqlite3")]
    assert behind == []  # a worker finds them in memory that it shares
    return told


def test_an_empty_chain_loads_nothing_that_reads_keeps_or_seals(tmp_path: Path) -> None:
    told = loaded(tmp_path, [])
    assert told["statuses"] == [200, 200, 200, 200, 500, 500]
    assert sorted(HEAVY.intersection(told["there"])) == []
    assert len([name for name in told["there"] if name.startswith("proxy")]) < 80  # today 69
    assert told["came"] == []


def test_keys_load_nothing_that_looks_into_answers(tmp_path: Path) -> None:
    told = loaded(tmp_path, ["keys"])
    assert told["statuses"] == [200, 200, 200, 200, 500, 500]
    assert sorted(HEAVIER.intersection(told["there"])) == []
    assert told["came"] == []


def test_the_chain_for_images_loads_all_that_it_needs_before_it_serves(tmp_path: Path) -> None:
    told = loaded(tmp_path, ["keys", "quota", "moderation", "rehost", "failover"], IMAGES)
    assert told["statuses"] == [200, 200, 200, 200, 500, 500]
    assert {"proxy.images.base", "proxy.openai.scan", "proxy.wire.fetch"} <= set(told["there"])
    assert told["came"] == []


def test_the_door_for_plugins_knows_where_each_name_is_at_home() -> None:
    checked = next(node for node in ast.parse(Path(api.__file__).read_text()).body if isinstance(node, ast.If))
    told = {
        node.module.removeprefix("openai."): " ".join(alias.name for alias in node.names)
        for node in checked.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
    }
    assert told == api.HOMES
    assert all(getattr(api, name) is not None for name in api.__all__)
    with pytest.raises(AttributeError, match=r"'proxy\.api' has no attribute 'operatoin'"):
        api.operatoin  # noqa: B018
