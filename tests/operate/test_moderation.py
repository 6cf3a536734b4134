"""What an operator sees of moderation, and what they may let pass: beside a server that runs, on each sort of store."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.fernet import Fernet

from plugins.moderation.audit import Audit, Row
from plugins.moderation.verdict import About, Decision, Verdict
from proxy.api import Unseen
from proxy.operate import DECISIONS
from proxy.operate.moderation import FIELDS, HASH, SHOWN
from proxy.testkit import Stage, TurnedClock

from .conftest import FILE
from .desk import Say

PROMPT = "a lychgate in the rain\n=and nobody else's business"
ONE, TWO, THREE = bytes(range(16)), bytes([*range(8), 9, *range(7)]), bytes(16)
ABOUT = About("exchange-1", "ann", "marketing", "generate", "gpt-image-2")
VERDICT = Verdict(("violence",), {"violence": 0.91, "hate": 0.1}, ("openai",))
BLOCKED = Row(ABOUT, "POST /v1/*", ONE, "input", "blocked", VERDICT, prompt=PROMPT)
ROWS = (  # the oldest first, an hour between two
    BLOCKED,
    replace(BLOCKED, about=About("exchange-2", "bob"), hash=TWO, decision="provider", upstream="azure", prompt=None),
    replace(
        BLOCKED,
        about=About("exchange-3", None, None, "chat", "=cmd\x1b[2J"),
        hash=THREE,
        decision="unseen",
        verdict=Verdict(failed=("judge: timed out",), unseen=(Unseen("input[0].file_id", "a file, kept upstream"),)),
        prompt=None,
    ),
)
Work = Callable[[Stage, Audit], Awaitable[Any]]


@pytest.fixture(params=["sqlite", "redis"])
def config(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config with a store of that sort, and a master key."""
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", Fernet.generate_key().decode())
    store = f'url = "sqlite:{tmp_path}/state/framegate.db"\n'
    if request.param == "redis":
        server = request.getfixturevalue("shared_server")
        store = f'url = "{server.url}"\nprefix = "{request.getfixturevalue("prefix")}"\ntimeout = "20s"\n'
    (tmp_path / "framegate.toml").write_text(f"{FILE}[store]\n{store}")
    return tmp_path / "framegate.toml"


def served(config: Path, work: Work, clock: TurnedClock | None = None, **given: Any) -> Any:
    """Do something with an audit as a server of that config has it."""
    settings = f"[store]\n{config.read_text().partition('[store]')[2]}"
    environ = {"FRAMEGATE_MASTER_KEY": os.environ["FRAMEGATE_MASTER_KEY"]}

    async def main() -> Any:
        async with Stage(settings=settings, environ=environ, clock=clock) as stage:
            audit = Audit(stage.services, **{"mode": "block", "retention": 90 * 86400.0, "keep_prompts": True, **given})
            try:
                return await work(stage, audit)
            finally:
                await audit.aclose()

    return asyncio.run(main())


def fill(config: Path, *rows: Row, ago: float = 0.0) -> None:
    """Rows that were noted an hour apart, the last of them so many seconds ago."""

    async def work(stage: Stage, audit: Audit) -> None:
        for row in rows:
            audit.note(row)
            clock.turn(3600)

    clock = TurnedClock()
    clock.step(-3600.0 * len(rows) - ago)
    served(config, work, clock)


@pytest.fixture
def filled(config: Path) -> Path:
    fill(config, *ROWS)
    return config


def ids(table: str) -> list[str]:
    head, *lines = table.splitlines()
    assert tuple(head.split()) == SHOWN
    return [next(word for word in line.split() if word.startswith("exchange-")) for line in lines]


def test_lists_what_was_decided_the_newest_first(say: Say, filled: Path) -> None:
    status, table, _ = say("moderation", "list")
    assert status == 0 and ids(table) == ["exchange-3", "exchange-2", "exchange-1"]
    unseen, provider, blocked = table.splitlines()[1:]
    assert blocked.split()[1:] == [
        "blocked",
        "block",
        "input",
        "ann",
        "gpt-image-2",
        ONE.hex()[:12],
        "exchange-1",
        "violence",
    ]
    assert provider.endswith(" by azure; violence") and " provider " in provider
    assert unseen.endswith(" judge: timed out; input[0].file_id: a file, kept upstream")
    assert "\x1b" not in table and "=cmd\N{REPLACEMENT CHARACTER}[2J" in table and "lychgate" not in table


def test_lists_only_what_is_asked_for(say: Say, filled: Path) -> None:
    def listed(*words: str) -> list[str]:
        status, table, err = say("moderation", "list", *words)
        assert (status, err) == (0, "")
        return ids(table)

    assert listed("--caller", "ann") == ["exchange-1"] and listed("--caller", "nobody") == []
    assert listed("--decision", "unseen") == ["exchange-3"]
    assert listed("--limit", "2") == ["exchange-3", "exchange-2"]
    assert listed("--limit", "1", "--decision", "blocked") == ["exchange-1"]
    assert listed("--since", "90m") == ["exchange-3"]
    assert listed("--since", "150m") == ["exchange-3", "exchange-2"] and listed("--since", "0s") == []
    for words, told in (
        (("--since", "long"), "--since: 'long' is not a duration"),
        (("--since", "101000d"), "more than a hundred years"),
        (("--limit", "0"), "--limit: at least 1"),
    ):
        status, out, err = say("moderation", "list", *words)
        assert (status, out) == (1, "") and told in err
    with pytest.raises(SystemExit):
        say("moderation", "list", "--decision", "sad")


def test_shows_all_that_is_kept_of_one_request(say: Say, filled: Path) -> None:
    fill(filled, replace(BLOCKED, stage="output", decision="flagged"))
    status, told, _ = say("moderation", "show", "exchange-1")
    blocks = told.split("\n\n")
    assert status == 0 and len(blocks) == 2  # in the order in which they came
    lines = [line.split(":", 1) for line in blocks[0].splitlines()]
    assert [name for name, _ in lines] == ["time", *(name for name in FIELDS if name != "time")]
    said = {name: rest.strip() for name, rest in lines}
    assert (said["decision"], said["scores"], said["prompt_kept"]) == ("blocked", "violence=0.91; hate=0.1", "yes")
    assert said["hash"] == ONE.hex() and said["upstream"] == "-" and "lychgate" not in told
    told = say("moderation", "show", "exchange-1", "--prompts")[1]
    assert told.endswith("prompt:       a lychgate in the rain\n              =and nobody else's business\n")
    assert say("moderation", "show", "exchange-9")[0] == 1
    assert "nothing is kept of a request 'exchange-9'" in say("moderation", "show", "exchange-9")[2]


def test_exports_all_for_programs(say: Say, filled: Path) -> None:
    status, out, _ = say("moderation", "export")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and [row["id"] for row in rows] == ["exchange-3", "exchange-2", "exchange-1"]
    assert all(tuple(row) == FIELDS for row in rows) and "lychgate" not in out
    assert rows[2]["scores"] == {"violence": 0.91, "hate": 0.1} and rows[0]["model"] == "=cmd\x1b[2J"
    assert [json.loads(line)["id"] for line in say("moderation", "export", "--since", "90m")[1].splitlines()] == [
        "exchange-3"
    ]
    rows = [json.loads(line) for line in say("moderation", "export", "--prompts")[1].splitlines()]
    assert [row["prompt"] for row in rows] == [None, None, PROMPT]


def test_exports_tables_that_hold_no_formulas(say: Say, filled: Path) -> None:
    out = say("moderation", "export", "--format", "csv", "--prompts")[1]
    head, *lines = csv.reader(io.StringIO(out))
    assert tuple(head) == (*FIELDS, "prompt")
    unseen, provider, blocked = [dict(zip(head, line, strict=True)) for line in lines]
    assert unseen["model"] == "'=cmd\x1b[2J" and unseen["failed"] == "judge: timed out" and unseen["caller"] == ""
    assert (blocked["prompt"], blocked["categories"], blocked["prompt_kept"]) == (PROMPT, "violence", "yes")
    assert provider["upstream"] == "azure" and provider["prompt"] == ""
    assert tuple(next(csv.reader(io.StringIO(say("moderation", "export", "--format", "csv")[1])))) == FIELDS


def test_a_prompt_that_no_master_key_opens_is_told(
    say: Say, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = os.environ["FRAMEGATE_MASTER_KEY"]
    new = Fernet.generate_key().decode()
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", f"{new} {old}")
    status, out, _ = say("secrets", "rotate")
    assert status == 0 and out.splitlines()[1] == "so is 1 text that plugins keep"
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", new)
    assert json.loads(say("moderation", "export", "--prompts")[1].splitlines()[2])["prompt"] == PROMPT
    third = Fernet.generate_key().decode()
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", f"{third} {new}")
    assert say("secrets", "rotate")[0] == 0
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", f"{new} {third}")  # a server that was not told yet
    fill(filled, BLOCKED)
    monkeypatch.setenv("FRAMEGATE_MASTER_KEY", third)
    status, out, err = say("moderation", "export", "--prompts")
    assert status == 1 and len(out.splitlines()) == 4 and "1 prompt can't be opened with the master keys given" in err
    status, out, err = say("secrets", "rotate")
    assert status == 1 and "so is 1 text" in out and "1 text that plugins keep can't be opened" in err


def test_what_is_allowed_passes_beside_a_server_that_runs(say: Say, filled: Path) -> None:
    async def work(stage: Stage, audit: Audit) -> None:
        async def passes(*words: str, told: str) -> bool:
            stage.clock.turn(2)
            status, out, err = await asyncio.to_thread(say, "moderation", *words)
            assert status == 0 and told in out, err
            return await audit.allowed(ONE)

        assert not await passes("list", told="exchange-1")
        assert await passes(
            "allow", ONE.hex()[:18].upper(), "--note", "a book's cover", told=f"{ONE.hex()} is allowed;"
        )
        assert await passes("allowed", told="a book's cover") and not await audit.allowed(TWO)
        assert not await passes("deny", ONE.hex()[:8], told=f"{ONE.hex()} is allowed no more")
        assert not await passes("allowed", told="hash")

    served(filled, work)


def test_a_hash_must_be_one_that_is_known_and_clear(say: Say, filled: Path) -> None:
    for typed, told in (
        ("0001020304050607", f"may be any of {ONE.hex()}, {TWO.hex()}; type more of it"),
        ("fffffffff", "no hash begins with 'fffffffff'; framegate moderation list shows them"),
        ("0001020", "is no hash: that is 32 digits"),
        (ONE.hex() + "0", "is no hash"),
        ("lychgate", "is no hash"),
    ):
        status, out, err = say("moderation", "allow", typed)
        assert (status, out) == (1, "") and told in err
    assert say("moderation", "allow", "00000000")[0] == 0  # THREE's alone
    assert say("moderation", "allow", "f" * HASH)[0] == 0  # whole, it need not stand in a row: those end
    assert [line.split()[0] for line in say("moderation", "allowed")[1].splitlines()[1:]] == [THREE.hex(), "f" * HASH]
    status, _, err = say("moderation", "deny", ONE.hex())
    assert status == 1 and f"{ONE.hex()} is not allowed; framegate moderation allowed shows" in err
    status, _, err = say("moderation", "deny", "00010203")
    assert status == 1 and "no hash begins with" in err
    assert "--note: at most" in say("moderation", "allow", "f" * HASH, "--note", "a\x1b[2J")[2]


def test_says_so_where_nothing_is_kept(say: Say, config: Path, tmp_path: Path) -> None:
    if "redis" in config.read_text():
        assert ids(say("moderation", "list")[1]) == [] and say("moderation", "export") == (0, "", "")
        return
    for words in (("list",), ("allow", "f" * HASH), ("allowed",), ("show", "a"), ("export",)):
        status, out, err = say("moderation", *words)
        assert (status, out) == (1, "") and "there is no store at" in err
    assert not (tmp_path / "state").exists()


def test_the_commands_know_every_decision() -> None:
    assert get_args(Decision) == DECISIONS


def test_more_than_a_page_is_listed_and_exported(say: Say, config: Path) -> None:
    async def work(stage: Stage, audit: Audit) -> None:
        for number in range(2500):
            audit.note(replace(BLOCKED, about=replace(ABOUT, id=f"exchange-{number}"), prompt=None))
        await audit.aclose()

    served(config, work)
    assert len(say("moderation", "export")[1].splitlines()) == 2500
    assert len(ids(say("moderation", "list", "--limit", "2400")[1])) == 2400
    assert len(set(ids(say("moderation", "list", "--limit", "9999", "--since", "1h")[1]))) == 2500
    assert say("moderation", "allow", ONE.hex()[:8])[0] == 0
