from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.core import registry
from proxy.core.registry import NoPlugin, find, installed, kind, owner
from proxy.model.plugin import Plugin

Install = Callable[..., None]


class Stamp(Plugin):
    """Says when."""


class Greedy(Plugin):
    use: str = ""


class Plain:
    """No plugin."""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install distributions that claim names for plugins."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def one(distribution: str, **points: str) -> None:
        folder = tmp_path / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {value}\n" for name, value in points.items()]
        (folder / "entry_points.txt").write_text("[framegate.plugins]\n" + "".join(lines))
        registry.claims.cache_clear()

    registry.claims.cache_clear()
    yield one
    registry.claims.cache_clear()


def why(use: str, folder: Path | None = None) -> str:
    with pytest.raises(NoPlugin) as caught:
        find(use, folder)
    return str(caught.value)


def test_finds_an_installed_plugin_by_its_name(install: Install) -> None:
    install("stamps", stamp=f"{__name__}:Stamp")
    assert find("stamp") is Stamp
    assert owner(installed()["stamp"]) == "stamps 1.0"


def test_imports_nothing_that_is_not_named(install: Install) -> None:
    install("stamps", stamp=f"{__name__}:Stamp", other="no_such_module_at_all:X")
    assert find("stamp") is Stamp
    assert "no_such_module_at_all" not in sys.modules


def test_a_name_that_two_distributions_claim_is_an_error_that_names_both(install: Install) -> None:
    install("stamps", stamp=f"{__name__}:Stamp")
    install("forgery", stamp="json:JSONDecoder")
    assert (
        why("stamp") == "'stamp' is claimed by forgery 1.0 and stamps 1.0; uninstall one, or say use = \"module:Class\""
    )
    assert "stamp" not in installed()


def test_finds_a_class_in_a_module() -> None:
    assert find(f"{__name__}:Stamp") is Stamp


def test_finds_a_module_beside_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "beside_the_config.py").write_text("from proxy.api import Plugin\nclass Hello(Plugin): pass\n")
    assert find("beside_the_config:Hello", tmp_path).__name__ == "Hello"


def test_a_module_beside_the_config_never_stands_in_for_an_installed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "this.py").write_text("raise SystemExit\n")
    find(f"{__name__}:Stamp", tmp_path)
    assert sys.path[-1] == str(tmp_path)


def test_says_what_there_is_when_a_name_is_unknown(install: Install) -> None:
    install("stamps", stamp=f"{__name__}:Stamp")
    assert why("stmap") == "no such plugin 'stmap'; did you mean 'stamp'?"
    assert why("other") == "no such plugin 'other'; there are failover, keys, moderation, quota, rehost, stamp"


@pytest.mark.parametrize(
    "source", ["raise RuntimeError('not today')", "import no_such_thing", "raise SystemExit(3)", "x ="]
)
def test_says_why_a_module_can_not_be_imported(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "broken_plugin.py").write_text(source)
    assert why("broken_plugin:X", tmp_path).startswith("can't import broken_plugin: ")


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("no_such_module:X", "can't import no_such_module: ModuleNotFoundError: No module named 'no_such_module'"),
        (f"{__name__}:Stmap", f"module {__name__} has no 'Stmap'; did you mean 'Stamp'?"),
        (f"{__name__}:Plain", f"{__name__}:Plain is not a plugin, which is a class made from proxy.api.Plugin"),
        (f"{__name__}:Plugin", "is not a plugin"),
        (f"{__name__}:kind", "is not a plugin"),
        (f"{__name__}:Greedy", "has a setting 'use', a name that every plugin's table has already"),
        ("a module:X", "'a module:X' is not of the form"),
        ("..module:X", "is not of the form"),
        ("module:", "is not of the form"),
        (":Class", "is not of the form"),
    ],
)
def test_says_why_something_is_no_plugin(use: str, said: str) -> None:
    assert said in why(use)


def test_the_kind_is_the_installed_name_or_the_classs() -> None:
    assert kind("quota") == "quota"
    assert kind("mycompany.limits:Quota") == "quota"
