"""Docs, the files to start from and the code agree; whatever else stands there is read or refused in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.api import Secret
from proxy.core.config import (
    AdminTable,
    Complaint,
    Config,
    ConfigError,
    GroupTable,
    ImagesTable,
    KeyTable,
    LogTable,
    ModelTable,
    RouteTable,
    ServerTable,
    StoreTable,
    UpstreamTable,
    load,
)
from proxy.core.config_chains import Use
from proxy.core.price import PriceTable
from proxy.core.settings import settings_of
from proxy.core.unbuilt import UNBUILT, unbuilt_in
from proxy.model.limit import Limits
from proxy.openai.failure_rule import Rule

from .configs import (
    ENVIRON,
    KEY,
    ROOT,
)

# --- Docs, files and code agree

TABLES: dict[str, type] = {
    "server": ServerTable,
    "admin": AdminTable,
    "store": StoreTable,
    "images": ImagesTable,
    "upstreams.*": UpstreamTable,
    "keys.*": KeyTable,
    "groups.*": GroupTable,
    "models.*": ModelTable,
    "prices.*": PriceTable,
    "plugins.*": Use,
    "routes.*": RouteTable,
    "failures.*": Rule,
    "log": LogTable,
}
SETTINGS = {f"{table}.{setting.name}" for table, cls in TABLES.items() for setting in settings_of(cls)}
NOT_YET = {name for name in SETTINGS if name in UNBUILT or name.partition(".")[0] in UNBUILT}
REFERENCE = (ROOT / "deploy/config/reference.toml").read_text()
MARK = "# --- Not part of this version"
BUILT_PART, _, UNBUILT_PART = REFERENCE.partition(MARK)
DOCS = (ROOT / "docs/configuration.md").read_text()


def place(header: str) -> str:
    """`[upstreams.openai]` and `[[routes]]` as the names above."""
    first = header.strip("[]").partition(".")[0]
    return f"{first}.*" if f"{first}.*" in TABLES else first


def named_in(text: str) -> set[str]:
    """The settings that a file names, in comments too."""
    names, table = set(), ""
    for line in text.splitlines():
        if header := re.match(r"(?:# )?(\[+[\w.\"*-]+\]+)", line):
            table = place(header[1])
        elif setting := re.match(r"(?:# )?(\w+) *= ", line):
            names.add(f"{table}.{setting[1]}")
    return names


def test_the_reference_names_every_setting_and_no_other() -> None:
    assert named_in(REFERENCE) == SETTINGS


def test_the_reference_says_what_is_not_built_yet() -> None:
    again = {"upstreams.*.base_url", "routes.*.match", "keys.*.secret"}  # so that the second part can be read by itself
    assert named_in(UNBUILT_PART) - again == NOT_YET
    assert named_in(BUILT_PART) == SETTINGS - NOT_YET


def test_the_reference_holds_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    path.write_text(BUILT_PART)
    config = load(path, ENVIRON)
    assert config.unbuilt == ()
    assert config.server == replace(ServerTable(), public_url="http://127.0.0.1:8080")
    assert config.log == LogTable()
    assert config.routes == (RouteTable("* /v1/*", ("keys",)),)
    assert config.store == StoreTable(f"sqlite:{tmp_path}/state/framegate.db")
    given = config.upstreams["openai"]
    assert given == UpstreamTable("https://api.openai.com/v1", (Secret(KEY),))
    assert config.images is None
    commented = re.findall(r"^# (\[images\]|(?:url|ttl|sign|link_ttl|accel) +=.*)", BUILT_PART, re.MULTILINE)
    path.write_text("\n".join([BUILT_PART, *commented]))
    assert len(commented) == 6 and load(path, ENVIRON).images == ImagesTable(f"file:{tmp_path}/state/images")


def test_what_the_reference_says_is_not_built_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    lines = UNBUILT_PART.splitlines()[3:]
    path.write_text("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines))
    config = load(path, ENVIRON)
    assert config.admin == AdminTable(Secret(KEY))
    tables = r"\[0\]|(?<=upstreams)\.openai"
    assert {re.sub(tables, ".*", name) for name in config.unbuilt} == set(UNBUILT) - {
        "server.trusted_proxies",  # at values that ask for nothing
    }


def test_the_docs_name_every_setting_and_mark_what_is_not_built_yet() -> None:
    names, marked = set(), set()
    for section in DOCS.split("\n### ")[1:]:
        title = section.partition("\n")[0].strip("`")
        table = place(title) if title != "limits" else title
        intro = section.partition("| setting")[0]
        for name, row in re.findall(r"^\| `(\w+)` (\|.*)$", section, re.MULTILINE):
            names.add(f"{table}.{name}")
            if "*not yet*" in row or "*not yet*" in intro:
                marked.add(f"{table}.{name}")
    limits = {f"limits.{setting.name}" for setting in settings_of(Limits)}
    assert names == SETTINGS | limits
    assert marked == NOT_YET


def test_what_is_unbuilt_is_a_setting_or_a_table() -> None:
    assert set(UNBUILT) <= SETTINGS | {name.partition(".")[0] for name in TABLES}


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL))
def test_every_file_in_the_docs_is_fine(read: Callable[..., Config], text: str) -> None:
    assert read(text).unbuilt == ()


@pytest.mark.parametrize("path", sorted((ROOT / "deploy/config").glob("*.toml")), ids=lambda path: path.name)
def test_every_file_to_start_from_is_fine(path: Path) -> None:
    assert load(path, ENVIRON).unbuilt == ()


def test_the_transparent_file_is_transparent() -> None:
    config = load(ROOT / "deploy/config/transparent.toml", {})
    assert config.pictures() == ["* /v1/*   (no plugins) || openai: wire"]


# --- Whatever comes

ASSIGNMENTS = [i for i, line in enumerate(BUILT_PART.splitlines()) if re.match(r"\w+ *=", line)]
LITERALS = [
    "0",
    "-1",
    "true",
    "1.5",
    "nan",
    '""',
    '"x"',
    "[]",
    "[[]]",
    "{}",
    "{ a = 1 }",
    "1979-05-27",
    '"* *"',
    '"\\u0000"',
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(ASSIGNMENTS), st.sampled_from(LITERALS), max_size=4))
def test_a_file_is_read_or_refused_in_words_whatever_its_values(tmp_path: Path, wrong: dict[int, str]) -> None:
    lines = BUILT_PART.splitlines()
    for i, literal in wrong.items():
        lines[i] = f"{lines[i].partition('=')[0]}= {literal}"
    path = tmp_path / "framegate.toml"
    path.write_text("\n".join(lines))
    complaints: tuple[Complaint, ...] = ()
    try:
        load(path, ENVIRON)
    except ConfigError as error:
        complaints = error.complaints
    assert all(complaint.where and complaint.text for complaint in complaints)


@settings(deadline=None)
@given(
    st.recursive(
        st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["upstreams", "models", "x"]), inner),
    )
)
def test_what_is_unbuilt_is_found_in_any_shape(raw: Any) -> None:
    assert isinstance(list(unbuilt_in({"server": raw, "upstreams": raw, "routes": raw})), list)
