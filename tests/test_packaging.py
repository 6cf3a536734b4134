from __future__ import annotations

import configparser
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = set(config["options"]["packages"].split())
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("proxy", "plugins")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert named == there - {"proxy.testkit.entry"} | {"framegate_pytest", "proxy.templates"}


def test_the_wheel_holds_the_scripts_of_the_store() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    there = {path.relative_to(ROOT / "proxy/store") for path in (ROOT / "proxy/store").rglob("*.lua")}
    (pattern,) = config["options.package_data"]["proxy.store"].split()
    assert there and all(path.match(pattern) for path in there)


def test_the_wheel_holds_the_table_of_look_alikes() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["options.package_data"]["plugins.moderation"].split() == ["*.toml"]
    assert [path.name for path in (ROOT / "plugins/moderation").glob("*.toml")] == ["look_alikes.toml"]


def test_the_pages_of_templates_are_packaged_data() -> None:
    import proxy.templates

    assert Path(next(iter(proxy.templates.__path__))).samefile(ROOT / "templates")
