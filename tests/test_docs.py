"""The code in the docs runs. (What docs/configuration.md and docs/keys.md hold is run where its subject is tested.)"""

from __future__ import annotations

import base64
import re
import sys
from importlib import import_module
from pathlib import Path

import orjson
import pytest

from proxy import testkit
from proxy.testkit import RawClient, ScriptedUpstream, fixtures, serve

from .testkit import page
from .testkit.test_fixtures import pytest_run

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "plugins.md").read_text()
CODE, CONFIG, READS, JUDGES = re.findall(r"```(?:python|toml)\n(.*?)```", PAGE, re.DOTALL)


async def test_the_plugin_of_the_page_works_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gate.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "gate", raising=False)
    async with ScriptedUpstream() as upstream:
        config = CONFIG.replace("https://api.openai.com/v1", upstream.url)
        async with serve(config) as served, RawClient(served.port) as client:
            passed = await client.ask(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
            refused = await client.ask(b"GET /v1/fine_tuning/jobs HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (passed.status, passed.get(b"x-gate")) == (200, b"open")
    assert (refused.status, orjson.loads(refused.body)["error"]["code"]) == (403, "permission_denied")
    assert len(upstream.requests) == 1


async def test_the_reading_plugin_of_the_page_works_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "receipts.py").write_text(READS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "receipts", raising=False)
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(99)).decode()
    drawn = {"data": [{"b64_json": picture}, {"b64_json": picture}], "usage": {"total_tokens": 7}}
    upstream = [testkit.answer(json={"data": []}), testkit.answer(json=drawn), testkit.answer(json={"a": 1})]
    async with testkit.Stage(import_module("receipts").Receipts(), upstream=upstream) as stage:
        played = await stage.play("POST /v1/images/generations", json={"prompt": "a cat"})
        other = await stage.play("POST /v1/chat/completions", json={"messages": []})
    assert (played.json(), other.json(), len(stage.asked)) == (drawn, {"a": 1}, 3)
    first, second = [line for line in stage.log if line["event"] == "noted"]
    assert (first["usage"], first["pictures"], first["whole"]) == ({"total_tokens": 7}, [107, 107], True)
    assert (second["usage"], second["pictures"], second["whole"]) == (None, [], True)


async def test_the_judging_plugin_of_the_page_works_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weighing.py").write_text(JUDGES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "weighing", raising=False)
    picture = {"b64_json": base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(99)).decode()}
    plugin = import_module("weighing").Weighing(word="dragon", most=1)
    for prompt, count, status in (("a cat", 1, 200), ("a dragon", 1, 400), ("a cat", 2, 400)):
        drawn = {"data": [picture] * count}
        async with testkit.Stage(plugin, upstream=testkit.answer(json=drawn, cuts=(9,))) as stage:
            played = await stage.play("POST /v1/images/generations", json={"prompt": prompt})
        assert played.status == status and (status == 400 or played.json() == drawn)


def test_the_plugins_and_tests_of_the_page_on_testing_run_as_they_stand(tmp_path: Path) -> None:
    names = page.written(tmp_path)
    code, said = pytest_run(tmp_path)
    assert code == 0 and re.search(r"\b6 passed", said), said
    assert sum(name.startswith("test_") for name in names) == 4


def test_the_page_on_testing_names_all_that_the_kit_has() -> None:
    text = (ROOT / "docs" / "testing-plugins.md").read_text()
    names = [*testkit.__all__, *(name for name in vars(fixtures) if name.startswith("framegate_"))]
    given_by_others = {"Answer", "Call", "LeftOpen", "Received", "Reply", "Served"}
    assert {name for name in names if f"`{name}" not in text} == given_by_others


def test_every_link_of_the_docs_leads_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_every_error_code_of_the_code_is_in_the_catalogue() -> None:
    catalogue = (ROOT / "docs" / "errors.md").read_text()
    used = {
        code
        for top in ("proxy", "plugins")
        for path in (ROOT / top).rglob("*.py")
        if "sandbox" not in path.parts and "testkit" not in path.parts
        for code in re.findall(r'\bcode ?= ?"([a-z_]+)"', path.read_text())
    }
    assert {code for code in used if f"`{code}`" not in catalogue} == {"client_left"}  # which nobody hears
