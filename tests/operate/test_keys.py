from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from proxy.__main__ import main
from proxy.model.limit import Limits
from proxy.model.slots import Caller

from .desk import Say, owner


def test_the_key_is_all_there_is_on_standard_output(say: Say, config: Path) -> None:
    status, out, err = say("keys", "create", "ci", "--group", "marketing", "--endpoints", "inference,batches")
    assert status == 0 and re.fullmatch(r"sk-fg-[a-z2-7]{10}-[A-Za-z0-9]{40}\n", out)
    id = out.split("-")[2]
    assert id in err and "'ci'" in err and str(config.parent / "state/framegate.db") in err
    caller = owner(out.strip(), config)
    assert caller == Caller(id, "marketing", name="ci", endpoints=frozenset(("inference", "batches")))
    assert (config.parent / "state/master.key").stat().st_mode & 0o777 == 0o600


def test_a_key_is_made_for_some_models(say: Say, config: Path) -> None:
    status, out, err = say("keys", "create", "ci", "--models", "gpt-image-*, gpt-5")
    assert status == 0 and "for inference with gpt-image-*, gpt-5, without end" in err
    caller = owner(out.strip(), config)
    assert caller is not None and caller.models == ("gpt-image-*", "gpt-5")
    rows = [line.split() for line in say("keys", "list")[1].splitlines()]
    assert [row[4] for row in rows if row[0] == caller.id] == ["gpt-image-*,gpt-5"]


def test_a_key_is_made_with_limits(say: Say, config: Path) -> None:
    limits = ("--limit", "images=20 / 1m", "--limit", "budget=25 USD / month", "--limit", "images=500 / 1d")
    status, out, _ = say("keys", "create", "ci", *limits, "--limit", "concurrent=5")
    caller = owner(out.strip(), config)
    assert status == 0 and caller is not None
    written = {"images": ["20 / 1m", "500 / 1d"], "budget": ["25 USD / month"], "concurrent": 5}
    assert caller.limits.written() == written and Limits.read(written) == caller.limits
    rows = {row[0]: row for row in map(str.split, say("keys", "list")[1].splitlines())}
    assert rows[caller.id][9] == "images=20/1m,images=500/1d,concurrent=5,budget=25USD/month"
    again = [word for one in rows[caller.id][9].split(",") for word in ("--limit", one)]
    other = owner(say("keys", "create", "again", *again)[1].strip(), config)
    assert other is not None and other.limits == caller.limits
    listed = {one["id"]: one["limits"] for one in json.loads(say("keys", "list", "--json")[1])}
    assert listed[caller.id] == written and listed["web"] == {}


def test_lists_stored_and_declared_keys_and_never_a_secret(say: Say, config: Path) -> None:
    key = say("keys", "create", "ci", "--tag", "team=a", "--tag", "why=test=1", "--expires", "30d")[1].strip()
    gone = say("keys", "create", "gone", "--expires", "1ms")[1].strip()
    say("keys", "revoke", (revoked := say("keys", "create", "old")[1].split("-")[2]))
    _, table, err = say("keys", "list")
    rows = {row[0]: row for row in map(str.split, table.splitlines())}
    assert rows["id"] == ["id", "name", "group", "endpoints", "models", "state", "created", "expires", "tags", "limits"]
    assert rows["web"] == ["web", "web", "marketing", "inference", "all", "declared", "-", "-", "-", "-"]
    row = rows[key.split("-")[2]]
    assert row[1:6] == ["ci", "-", "inference", "all", "active"] and row[8] == "team=a,why=test=1"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time) for time in row[6:8])
    assert rows[gone.split("-")[2]][5] == "expired" and rows[revoked][5] == "revoked"
    _, out, more = say("keys", "list", "--json")
    assert {one["id"] for one in json.loads(out)} == rows.keys() - {"id"}
    assert {tuple(one) for one in json.loads(out)} == {tuple(rows["id"])}
    shown = table + err + out + more
    assert not any(one.rpartition("-")[2] in shown for one in (key, gone)) and not re.search("[0-9a-f]{32}", shown)


def test_a_key_ends_when_it_was_told_to(say: Say, config: Path) -> None:
    key = say("keys", "create", "ci", "--expires", "1h")[1].strip()
    assert owner(key, config, later=3500) is not None
    assert owner(key, config, later=3700) is None


def test_rotation_keeps_the_old_text_for_its_grace(say: Say, config: Path) -> None:
    old = say("keys", "create", "ci")[1].strip()
    status, out, err = say("keys", "rotate", old.split("-")[2], "--grace", "1h")
    new = out.strip()
    assert status == 0 and "valid until" in err and new != old and new.split("-")[2] == old.split("-")[2]
    assert owner(old, config) == owner(new, config) is not None
    assert owner(old, config, later=3700) is None and owner(new, config, later=3700) is not None
    newer = say("keys", "rotate", old.split("-")[2], "--grace", "0s")[1].strip()
    assert owner(new, config) is None and owner(newer, config) is not None


def test_what_is_revoked_stays_so(say: Say, config: Path) -> None:
    key = say("keys", "create", "ci")[1].strip()
    id = key.split("-")[2]
    assert say("keys", "revoke", id)[0] == 0
    assert owner(key, config) is None
    status, out, err = say("keys", "rotate", id)
    assert (status, out) == (1, "") and f"key {id} is revoked" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--group", "marketin"], "--group: no such group 'marketin'; did you mean 'marketing'?\n"),
        (["--endpoints", "inference,batch"], "--endpoints: no such sort 'batch'; did you mean 'batches'?\n"),
        (["--expires", "soon"], "--expires: 'soon' is not a duration such as "),
        (["--expires", "0s"], "--expires: a key must live longer than nothing\n"),
        (["--expires", "9" * 400 + "d"], "--expires: "),
        (["--tag", "a"], "--tag: a tag is KEY=VALUE"),
        (["--tag", "a=b", "--tag", "a=c"], "--tag: 'a' is given twice\n"),
        (["--limit", "images"], "--limit: a limit is written like 'images=20 / 1m'; it may be of requests, images,"),
        (["--limit", "image=20 / 1m"], "--limit: a limit is written like 'images=20 / 1m'; did you mean 'images'?\n"),
        (["--limit", "images=20"], "--limit: '20' is not a limit such as "),
        (["--limit", "budget=25 EUR / month"], "--limit: '25 EUR / month' is not a budget such as "),
        (["--limit", "concurrent=0"], "--limit: concurrent must be at least 1"),
        (["--limit", "concurrent=1", "--limit", "concurrent=2"], "--limit: concurrent is one number"),
        (["--limit", "concurrent=\u0665"], "--limit: concurrent is one number"),
        (["--models", "gpt-*,,"], "--models: '' is no name of a model; it must hold no blank and no comma\n"),
        (["--models", "gpt image"], "--models: 'gpt image' is no name of a model"),
    ],
)
def test_refuses_in_one_line_what_it_could_not_hold(say: Say, config: Path, words: list[str], said: str) -> None:
    status, out, err = say("keys", "create", "ci", *words)
    assert (status, out) == (1, "") and err.startswith(said) and err.count("\n") == 1
    assert not (config.parent / "state").exists()


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[2J", "\udcff", "x" * 101])
def test_refuses_names_that_would_spoil_the_table(say: Say, name: str) -> None:
    assert say("keys", "create", name)[2].startswith("NAME: a name is 1 to 100 characters")


def test_an_unknown_id_is_one_line_with_the_nearest(say: Say) -> None:
    assert "there is no store at" in say("keys", "revoke", "abc")[2]
    key = say("keys", "create", "ci")[1].strip()
    id = key.split("-")[2]
    for act in ("revoke", "rotate"):
        assert say("keys", act, id[:-1]) == (1, "", f"no key has the id '{id[:-1]}'; did you mean '{id}'?\n")
        assert say("keys", act, "ci")[2] == f"no key has the id 'ci'; that is the name of {id}\n"
        assert say("keys", act, "0")[2] == "no key has the id '0'; framegate keys list shows them\n"
        assert "is declared in" in say("keys", act, "web")[2]
        whole = say("keys", act, key)[2]
        assert key not in whole and f"its id is {id}\n" in whole
        assert "sk-other" not in say("keys", act, "sk-other")[2]


def test_without_a_file_the_store_is_in_the_state_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "list"]) == 0
    assert not (tmp_path / "xdg").exists()
    assert main(["keys", "create", "ci"]) == 0
    assert (tmp_path / "xdg/framegate/framegate.db").exists()


def test_a_config_whose_upstreams_are_behind_proxies_needs_none_of_them(
    say: Say, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seen when every variable was answered for, https_proxy too: no key could be made any more.
    monkeypatch.setenv("https_proxy", "what is no URL")
    config.write_text(config.read_text() + '[upstreams.far]\nbase_url = "https://far.example"\nproxy = "env:EGRESS"\n')
    status, out, err = say("keys", "create", "ci")
    assert (status, out[:6]) == (0, "sk-fg-"), err
