from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.settings import BAD, Plain, Reader, SecretOrPlain, settings_of
from proxy.core.words import found, wanted, written
from proxy.model.plugin import Plugin
from proxy.model.values import Duration, Secret, Several, Size

HERE = Path(__file__).parent
KEY = "hunter2-the-real-key"


@dataclass
class Inner:
    depth: int = 1

    def __post_init__(self) -> None:
        if self.depth > 9:
            raise ValueError("depth must be at most 9")


@dataclass
class Table:
    name: str
    count: int = 1
    share: float = 0.5
    on: bool = False
    pause: Duration = 2.0
    room: Size = 1024
    mode: Literal["always", "never"] = "always"
    to: tuple[str, ...] = ()
    one_or_more: str | tuple[str, ...] = ()
    names: list[str] = field(default_factory=list)
    ttl: Duration | Literal["forever"] = 60.0
    upper: int | None = None
    renames: dict[str, str] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    inners: dict[str, Inner] = field(default_factory=dict)
    anything: Any = None
    api_key: Several[Secret] = ()
    headers: dict[str, SecretOrPlain] = field(default_factory=dict)
    file: Path | None = None


def read(raw: Any, environ: Mapping[str, str] | None = None, cls: type = Table, folder: Path = HERE) -> Any:
    reader = Reader(folder, environ or {})
    value = reader.table(cls, raw, "plugins.x")
    assert reader.complaints == []
    return value


def complaints(raw: Any, environ: Mapping[str, str] | None = None, cls: type = Table, folder: Path = HERE) -> list[str]:
    reader = Reader(folder, environ or {})
    reader.table(cls, raw, "plugins.x")
    return [str(complaint) for complaint in reader.complaints]


def test_reads_every_type_a_setting_may_have() -> None:
    table = read(
        {
            "name": "a",
            "count": 3,
            "share": 1,
            "on": True,
            "pause": "500ms",
            "room": "64KiB",
            "mode": "never",
            "to": ["a", "b"],
            "one_or_more": ["c"],
            "names": ["d"],
            "ttl": "forever",
            "upper": 7,
            "renames": {"gpt-image-2": "mine"},
            "inner": {"depth": 2},
            "inners": {"x": {}},
            "anything": [1, "2"],
            "file": "ca.pem",
        }
    )
    assert (table.count, table.share, table.on, table.pause, table.room, table.mode) == (
        3,
        1.0,
        True,
        0.5,
        65536,
        "never",
    )
    assert (table.to, table.one_or_more, table.names, table.ttl) == (("a", "b"), ("c",), ["d"], "forever")
    assert (table.upper, table.renames, table.inner, table.inners) == (
        7,
        {"gpt-image-2": "mine"},
        Inner(2),
        {"x": Inner()},
    )
    assert (table.anything, table.file) == ([1, "2"], HERE / "ca.pem")


def test_says_every_complaint_at_once_each_with_its_address() -> None:
    assert complaints({"count": "two", "inner": {"depht": 1}, "to": ["a", 5], "renames": {"my model": 1}}) == [
        "plugins.x.name: missing; it must be given: text",
        'plugins.x.count: expected a whole number, found the text "two"',
        "plugins.x.to[1]: expected text, found the number 5",
        'plugins.x.renames."my model": expected text, found the number 1',
        "plugins.x.inner.depht: no such setting; did you mean 'depth'?",
    ]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"count": True}, "count: expected a whole number, found true"),
        ({"count": 1.5}, "count: expected a whole number, found the number 1.5"),
        ({"count": [1]}, "count: expected a whole number, found a list"),
        ({"count": {}}, "count: expected a whole number, found a table"),
        ({"share": float("nan")}, "share: expected a number, found the number nan"),
        ({"on": 1}, "on: expected true or false, found the number 1"),
        ({"pause": 5}, 'pause: a duration needs its unit, as in "5s"'),
        ({"pause": "5"}, "pause: '5' is not a duration such as"),
        ({"pause": []}, 'pause: expected a duration such as "20s" or "10m", found a list'),
        ({"room": 4096}, 'room: a size needs its unit, as in "4096B"'),
        ({"mode": "allways"}, 'mode: expected "always" or "never", found the text "allways"; did you mean "always"?'),
        ({"to": "a"}, 'to: expected a list, each item text, found the text "a"'),
        ({"one_or_more": [1]}, "one_or_more[0]: expected text, found the number 1"),
        ({"one_or_more": 1}, "one_or_more: expected text or a list, each item text, found the number 1"),
        (
            {"ttl": "for ever"},
            'ttl: expected a duration such as "20s" or "10m" or "forever", found the text "for ever"',
        ),
        ({"upper": "x"}, 'upper: expected a whole number, found the text "x"'),
        ({"inner": 3}, "inner: expected a table, found the number 3"),
        ({"inner": {"depth": 10}}, "inner: depth must be at most 9"),
        ({"nothing_like_it": 1}, "nothing_like_it: no such setting; there are anything, api_key, count, file"),
        ({"mode": "x" * 500}, 'found the text "' + "x" * 60 + '..."'),
    ],
)
def test_says_what_was_found_and_what_would_be_right(raw: dict[str, Any], said: str) -> None:
    [complaint] = complaints({"name": "a", **raw})
    assert said in complaint


def test_takes_the_rest_of_a_table_when_one_value_is_wrong() -> None:
    reader = Reader(HERE, {})
    table = reader.table(Table, {"name": "a", "count": "x", "share": 0.1}, "t")
    assert (table.count, table.share) == (1, 0.1)
    assert reader.table(Table, {"name": 1}, "t") is BAD


def test_takes_a_secret_from_the_environment_or_a_file_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    table = read({"name": "a", "api_key": ["env:KEY", "file:key"]}, {"KEY": "one"}, folder=tmp_path)
    assert [secret.reveal() for secret in table.api_key] == ["one", KEY]
    assert [secret.reveal() for secret in read({"name": "a", "api_key": "env:KEY"}, {"KEY": KEY}).api_key] == [KEY]


def test_tells_text_from_secrets_where_both_may_stand() -> None:
    headers = read({"name": "a", "headers": {"X-Beta": "v2", "X-Secret": "env:KEY"}}, {"KEY": KEY}).headers
    assert {name: (type(value), value.reveal()) for name, value in headers.items()} == {
        "X-Beta": (Plain, "v2"),
        "X-Secret": (Secret, KEY),
    }


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (KEY, 'a secret is written as "env:NAME", "file:/path" or "secret:NAME", never as itself'),
        (12345, "a secret is written as"),
        ([KEY], "a secret is written as"),
        ({"key": KEY}, "a secret is written as"),
        ("env:UNSET", "the environment variable UNSET is not set"),
        ("env:EMPTY", "the environment variable EMPTY is empty"),
        ("env:BROKEN", "the environment variable BROKEN holds a line break"),
        (f"env:{KEY}", 'what follows "env:" is not the name of an environment variable'),
        (f"evn:{KEY}", "a secret is written as"),
        ("file:no-such-file", "no-such-file can't be read: No such file or directory"),
        ("file:.", "can't be read"),
        ("file:/dev/zero", "is too long for a secret"),
        ("file:/dev/null", "the file /dev/null is empty"),
        ("secret:NAME", "there is no secret 'NAME' in the store"),
    ],
)
def test_complains_of_a_secret_without_showing_it(raw: Any, said: str) -> None:
    [complaint] = complaints({"name": "a", "api_key": raw}, {"EMPTY": "", "BROKEN": f"{KEY}\r\nX-Evil: 1"})
    assert complaint.startswith("plugins.x.api_key")
    assert said in complaint
    assert "hunter2" not in complaint


@dataclass
class Careless:
    token: int = 0
    headers: dict[str, int] = field(default_factory=dict)
    pause: Duration = 1.0
    mode: Literal["a"] = "a"
    other_key: Literal["a"] = "a"


@pytest.mark.parametrize(
    "raw",
    [
        {"token": KEY},
        {"headers": {"X": KEY}},
        {"other_key": KEY},
        {"tokn": KEY},
        {"mode": f"sk-{KEY}"},
        {"mode": f"Bearer {KEY}"},
        {"mode": f"https://me:{KEY}@host"},
        {"pause": f"sk-{KEY}"},
    ],
)
def test_never_repeats_what_may_be_a_secret_wherever_it_was_put(raw: dict[str, Any]) -> None:
    [complaint] = complaints(raw, cls=Careless)
    assert "hunter2" not in complaint


def test_reads_a_plugins_fields_and_leaves_what_is_no_setting() -> None:
    class Stamp(Plugin):
        text: str
        inside: ClassVar[tuple[str, ...]] = ("quota",)
        often: int = 1
        _seen: int = field(default=0, init=False)
        _hidden: int = 0

    assert [(setting.name, setting.required) for setting in settings_of(Stamp)] == [("text", True), ("often", False)]


def test_says_so_when_types_can_not_be_told() -> None:
    namespace: dict[str, Any] = {"dataclass": dataclass}
    exec("@dataclass\nclass Odd:\n    x: 'NoSuchName' = None", namespace)
    [complaint] = complaints({}, cls=namespace["Odd"])
    assert complaint == "plugins.x: the types of Odd's settings can't be told: name 'NoSuchName' is not defined"


def test_says_so_when_a_type_can_not_come_from_a_file() -> None:
    @dataclass
    class Odd:
        when: complex = 0j

    [complaint] = complaints({"when": 1}, cls=Odd)
    assert complaint == "plugins.x.when: a setting of type <class 'complex'> can't be read from a file"


def test_a_complaint_is_one_line() -> None:
    @dataclass
    class Chatty:
        def __post_init__(self) -> None:
            raise ValueError("first\nsecond")

    assert complaints({}, cls=Chatty) == ["plugins.x: first second"]


def test_writes_defaults_as_they_would_stand_in_a_file() -> None:
    defaults = {setting.name: written(setting.kind, setting.default) for setting in settings_of(Table)}
    assert defaults["pause"] == '"2s"'
    assert defaults["room"] == '"1KiB"'
    assert defaults["ttl"] == '"60s"'
    assert defaults["mode"] == '"always"'
    assert defaults["on"] == "false"
    assert defaults["to"] == "[]"
    assert defaults["upper"] == "none"
    assert defaults["headers"] == "{}"


toml_values = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(raw=st.dictionaries(st.sampled_from([setting.name for setting in settings_of(Table)]) | st.text(), toml_values))
def test_reads_or_complains_whatever_a_table_holds(raw: dict[str, Any]) -> None:
    reader = Reader(HERE, {})
    value = reader.table(Table, raw, "t")
    assert isinstance(value, Table) or reader.complaints


@settings(deadline=None)
@given(toml_values)
def test_finds_words_for_every_value(raw: Any) -> None:
    assert len(found(raw, "t")) < 1000


def test_finds_words_for_every_type() -> None:
    assert all(wanted(setting.kind) for setting in settings_of(Table))
