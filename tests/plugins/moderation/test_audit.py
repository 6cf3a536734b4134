"""What is kept of each decision: all of it, for as long as it is to be, and nothing that a person wrote in clear."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.fernet import Fernet

from plugins.moderation.audit import ALLOWED, LONGEST, MOST, SPACE, Audit, Row, words
from plugins.moderation.verdict import About, Matter, Verdict
from proxy.api import SEALED, StoreError, Text, Unseen
from proxy.testkit import Stage

PROMPT = "a lychgate in the rain, and nobody else's business"
HASH = bytes(range(16))
DAY = 86400.0
ABOUT = About("exchange-1", "ann", "marketing", "generate", "gpt-image-2")
VERDICT = Verdict(
    categories=("hate", "violence"),
    scores={"violence": 0.912345, "hate": 0.5},
    backends=("rules", "openai"),
    failed=("judge: timed out",),
    unseen=(Unseen("input[0].file_id", "a file, kept upstream"),),
)
BLOCKED = Row(ABOUT, "POST /v1/*", HASH, "input", "blocked", VERDICT, prompt=PROMPT)
Begin = Callable[..., AbstractAsyncContextManager[tuple[Stage, Audit]]]


@pytest.fixture(params=["sqlite", "redis"])
def begin(request: pytest.FixtureRequest, tmp_path: Path) -> Begin:
    """Has an audit at work on a stage, over each sort of store."""
    environ = {}
    settings = f'[store]\nurl = "sqlite:{tmp_path}/state/framegate.db"\n'
    if request.param == "redis":
        server, prefix = request.getfixturevalue("shared_server"), request.getfixturevalue("prefix")
        settings = f'[store]\nurl = "{server.url}"\nprefix = "{prefix}"\ntimeout = "20s"\n'
        environ["FRAMEGATE_MASTER_KEY"] = Fernet.generate_key().decode()
    return lambda **given: at_work(settings, environ, **given)


@asynccontextmanager
async def at_work(
    settings: str = "", environ: dict[str, str] | None = None, **given: Any
) -> AsyncIterator[tuple[Stage, Audit]]:
    async with Stage(settings=settings, environ=environ) as stage:
        audit = Audit(stage.services, **{"mode": "block", "retention": 90 * DAY, **given})
        try:
            yield stage, audit
        finally:
            await audit.aclose()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The store of this test, which fails while it "is" broken; "tried" is set when it did."""
    from proxy.store.sqlite import SQLiteStore

    state: dict[str, Any] = {"is": "fine", "tried": asyncio.Event()}

    def failing(name: str) -> None:
        real = getattr(SQLiteStore, name)

        async def call(self: SQLiteStore, *args: Any, **kwargs: Any) -> Any:
            if state["is"] == "broken":
                state["tried"].set()
                raise StoreError("disk I/O error")
            return await real(self, *args, **kwargs)

        monkeypatch.setattr(SQLiteStore, name, call)

    failing("get")
    failing("put")
    return state


async def rows(stage: Stage) -> list[dict[str, Any]]:
    return [orjson.loads(raw) for _, raw in await stage.services.store.items(SPACE)]


def events(stage: Stage, name: str) -> list[dict[str, Any]]:
    return [line for line in stage.log if line["event"] == name]


async def test_a_row_says_what_was_decided_and_why(begin: Begin) -> None:
    async with begin() as (stage, audit):
        audit.note(BLOCKED)
        await audit.aclose()
        (row,) = await rows(stage)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row.pop("time"))
        assert row == {
            "id": "exchange-1",
            "route": "POST /v1/*",
            "kind": "generate",
            "model": "gpt-image-2",
            "caller": "ann",
            "group": "marketing",
            "hash": "000102030405060708090a0b0c0d0e0f",
            "stage": "input",
            "decision": "blocked",
            "mode": "block",
            "categories": ["hate", "violence"],
            "scores": {"violence": 0.9123, "hate": 0.5},
            "backends": ["rules", "openai"],
            "failed": ["judge: timed out"],
            "unseen": ["input[0].file_id: a file, kept upstream"],
            "upstream": None,
            "prompt_kept": False,
        }
        assert await stage.services.store.items(SEALED) == []


async def test_the_newest_come_first_and_all_have_places_of_their_own(begin: Begin) -> None:
    async with begin() as (stage, audit):
        for number in range(3):
            for _ in range(100):  # in one moment
                audit.note(replace(BLOCKED, about=replace(ABOUT, id=str(number))))
            stage.clock.turn(0.01)
        await audit.aclose()
        assert [row["id"] for row in await rows(stage)] == ["2"] * 100 + ["1"] * 100 + ["0"] * 100


async def test_rows_and_prompts_end_with_their_retention(begin: Begin) -> None:
    async with begin(retention=DAY, keep_prompts=True) as (stage, audit):
        audit.note(BLOCKED)
        await audit.aclose()
        stage.clock.turn(DAY - 60)
        assert len(await rows(stage)) == len(await stage.services.store.items(SEALED)) == 1
        stage.clock.turn(61)
        assert await rows(stage) == await stage.services.store.items(SEALED) == []


async def test_a_prompt_is_kept_sealed_and_opened_by_the_vault_alone(begin: Begin) -> None:
    async with begin(keep_prompts=True) as (stage, audit):
        audit.note(BLOCKED)
        audit.note(replace(BLOCKED, prompt=None))
        await audit.aclose()
        assert sorted(row["prompt_kept"] for row in await rows(stage)) == [False, True]
        ((name, sealed),) = await stage.services.store.items(SEALED)
        assert name.removeprefix("moderation/") in dict(await stage.services.store.items(SPACE))
        assert PROMPT.encode() not in sealed and await stage.services.vault.open(name, sealed) == PROMPT


async def test_what_a_person_wrote_stands_nowhere_in_clear(tmp_path: Path) -> None:
    settings = f'[store]\nurl = "sqlite:{tmp_path}/state/framegate.db"\n'
    for keep in (False, True):
        async with at_work(settings, keep_prompts=keep) as (stage, audit):
            audit.note(BLOCKED)
            await audit.aclose()
            assert len(await rows(stage)) == 1 + keep and PROMPT not in str(stage.log)
            files = [path for path in (tmp_path / "state").iterdir() if path.is_file()]
            written = b"".join([path.read_bytes() for path in files])
            assert b"exchange-1" in written and b"lychgate" not in written
    assert "lychgate" not in repr(BLOCKED) and "lychgate" not in repr(Matter("input", (Text("a", PROMPT, "user"),)))


async def test_what_others_say_is_cut_and_can_be_written() -> None:
    odd = replace(ABOUT, model="\ud800" + "m" * 5000)
    verdict = Verdict(
        categories=("c" * 5000,), unseen=tuple([Unseen("p" * 5000, "a file, kept upstream") for _ in range(500)])
    )
    async with at_work(keep_prompts=True) as (stage, audit):
        audit.note(replace(BLOCKED, about=odd, verdict=verdict, prompt="\ud800" + "x" * LONGEST + "yyy"))
        await audit.aclose()
        ((key, raw),) = await stage.services.store.items(SPACE)
        row = orjson.loads(raw)
        assert len(raw) < 16_000 and row["model"].startswith("?m") and len(row["unseen"]) == 50
        ((name, sealed),) = await stage.services.store.items(SEALED)
        prompt = await stage.services.vault.open(name, sealed)
        assert prompt == "?" + "x" * (LONGEST - 1) + "\n[4 more characters were not kept]"
        assert name == f"moderation/{key}"


def test_the_words_of_several_texts_stand_under_their_places() -> None:
    one, two = Text("prompt", "tea", "user"), Text("messages[1].content", "milk", "user")
    assert words(Matter("input", (one,))) == "tea"
    assert words(Matter("input", (one, two))) == "[prompt]\ntea\n\n[messages[1].content]\nmilk"


# --- a store that is away


async def test_rows_wait_for_a_store_that_is_away_and_the_log_says_so_once(store: dict[str, Any]) -> None:
    async with at_work(keep_prompts=True) as (stage, audit):
        store["is"] = "broken"
        for number in range(200):
            audit.note(replace(BLOCKED, about=replace(ABOUT, id=f"{number:03}")))
        for _ in range(3):
            await asyncio.wait_for(store["tried"].wait(), 10)
            store["tried"].clear()
            stage.clock.turn(1)
        store["is"] = "fine"
        stage.clock.turn(1)
        await audit.aclose()
        assert sorted(row["id"] for row in await rows(stage)) == [f"{number:03}" for number in range(200)]
        assert len(events(stage, "audit_unwritten")) == 1 and not events(stage, "audit_lost")
        assert [line["lost"] for line in events(stage, "audit_written_again")] == [0]


async def test_what_can_not_be_written_at_the_end_is_counted(store: dict[str, Any]) -> None:
    async with at_work() as (stage, audit):
        store["is"] = "broken"
        for _ in range(100):
            audit.note(BLOCKED)
        await audit.aclose()
        assert [line["rows"] for line in events(stage, "audit_lost")] == [100]
        audit.note(BLOCKED)  # by work that outlives the plugin: tried once
        await audit.aclose()
        assert [line["rows"] for line in events(stage, "audit_lost")] == [100, 1]
        store["is"] = "fine"
        assert await rows(stage) == []


async def test_only_so_much_waits_and_the_rest_is_counted(store: dict[str, Any]) -> None:
    many = 2 * MOST // LONGEST
    async with at_work(keep_prompts=True) as (stage, audit):
        store["is"] = "broken"
        for _ in range(many):
            audit.note(replace(BLOCKED, prompt="x" * LONGEST))
        await asyncio.wait_for(store["tried"].wait(), 10)
        store["is"] = "fine"
        stage.clock.turn(1)
        await audit.aclose()
        ((lost,),) = [[line["lost"] for line in events(stage, "audit_written_again")]]
        assert many // 2 <= lost < many and len(await rows(stage)) == many - lost
        assert len(events(stage, "audit_full")) == 1


async def test_what_is_too_much_at_once_is_counted_too() -> None:
    many = 2 * MOST // LONGEST
    async with at_work(keep_prompts=True) as (stage, audit):
        for _ in range(many):
            audit.note(replace(BLOCKED, prompt="x" * LONGEST))
        await audit.aclose()
        assert sum(line["lost"] for line in events(stage, "audit_written_again")) == many - len(await rows(stage)) > 0
        assert not events(stage, "audit_unwritten") and not events(stage, "audit_lost")


async def test_a_row_that_can_not_be_written_at_all_stands_in_no_other_ones_way() -> None:
    async with at_work() as (stage, audit):
        audit.note(replace(BLOCKED, verdict=Verdict(scores={"hate": "high"})))  # type: ignore[dict-item]
        audit.note(BLOCKED)
        await audit.aclose()
        assert len(await rows(stage)) == 1 and len(events(stage, "audit_unwritable")) == 1


# --- what a person has allowed


async def test_what_is_allowed_passes_and_what_is_denied_again_does_not(begin: Begin) -> None:
    async with begin() as (stage, audit):
        assert not await audit.allowed(HASH)
        await stage.services.store.put(ALLOWED, HASH.hex(), b"{}")
        assert not await audit.allowed(HASH)  # for 2 seconds nobody asks again
        stage.clock.turn(2)
        assert await audit.allowed(HASH) and not await audit.allowed(HASH[::-1])
        await stage.services.store.delete(ALLOWED, HASH.hex())
        stage.clock.turn(2)
        assert not await audit.allowed(HASH)


async def test_nothing_is_allowed_that_nobody_can_look_up(store: dict[str, Any]) -> None:
    async with at_work() as (stage, audit):
        await stage.services.store.put(ALLOWED, HASH.hex(), b"{}")
        store["is"] = "broken"
        assert [await audit.allowed(HASH) for _ in range(3)] == [False] * 3
        assert len(events(stage, "allowed_unknown")) == 1
        store["is"] = "fine"
        assert await audit.allowed(HASH)
        stage.clock.turn(2)
        store["is"] = "broken"
        assert not await audit.allowed(HASH) and len(events(stage, "allowed_unknown")) == 2
