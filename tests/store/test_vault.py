from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from proxy.model.store import StoreError
from proxy.store.sqlite import SQLiteStore
from proxy.store.vault import PEPPER, SPACE, Secrets, Vault, digester, masters, pepper
from proxy.testkit import TurnedClock

TEXT = "sk-upstream-" + "x" * 40


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    opened = SQLiteStore(tmp_path / "s.db", TurnedClock())
    yield opened
    await opened.aclose()


def vault(*keys: str) -> Vault:
    return Vault(keys or (Fernet.generate_key().decode(),))


async def test_a_secret_comes_back_and_stands_nowhere_in_the_file(store: SQLiteStore, tmp_path: Path) -> None:
    kept = Secrets(store, vault())
    await kept.set("openai", TEXT)
    assert await kept.get("openai") == TEXT and await kept.names() == ["openai"]
    for file in tmp_path.iterdir():
        assert TEXT.encode() not in file.read_bytes()
    assert await kept.delete("openai") and await kept.get("openai") is None


async def test_two_sealed_values_can_not_be_exchanged(store: SQLiteStore) -> None:
    kept = Secrets(store, vault())
    await kept.set("cheap", "a" * 20)
    await kept.set("dear", "b" * 20)
    sealed = await store.get(SPACE, "dear")
    assert sealed is not None
    await store.put(SPACE, "cheap", sealed)
    with pytest.raises(StoreError, match="sealed as something else"):
        await kept.get("cheap")


@pytest.mark.parametrize("name", ["", "../x", "a b", "a\n", "ä", "x" * 101])
async def test_refuses_names_that_are_none(store: SQLiteStore, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        await Secrets(store, vault()).set(name, TEXT)


@pytest.mark.parametrize("text", ["", "two\nlines", "nul\x00"])
async def test_refuses_secrets_that_no_header_could_hold(store: SQLiteStore, text: str) -> None:
    with pytest.raises(ValueError, match="empty, or holds"):
        await Secrets(store, vault()).set("a", text)


async def test_rotation_seals_anew_and_keeps_every_key_hash_valid(store: SQLiteStore) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    await Secrets(store, vault(old)).set("openai", TEXT)
    before = await pepper(store, vault(old))
    assert await Secrets(store, vault(new, old)).rotate() == 2
    assert await Secrets(store, vault(new)).get("openai") == TEXT
    assert await pepper(store, vault(new)) == before
    with pytest.raises(StoreError, match="another master key"):
        await pepper(store, vault(old))


async def test_a_store_of_another_master_key_is_a_clear_refusal(store: SQLiteStore) -> None:
    await pepper(store, vault())
    with pytest.raises(StoreError, match="FRAMEGATE_MASTER_KEY"):
        await pepper(store, vault())


async def test_all_who_start_at_once_share_one_pepper(store: SQLiteStore) -> None:
    one = vault()
    assert len(set(await asyncio.gather(*(pepper(store, one) for _ in range(20))))) == 1
    sealed = await store.get(*PEPPER)
    assert sealed is not None and (await pepper(store, one)).hex().encode() not in sealed


def test_a_master_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    made = masters({}, tmp_path / "state")
    assert masters({}, tmp_path / "state") == made and len(made) == 1
    assert (tmp_path / "state" / "master.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["master.key"]


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    assert masters({"FRAMEGATE_MASTER_KEY": "new, old"}, tmp_path) == ["new", "old"]
    assert list(tmp_path.iterdir()) == []


def test_a_shared_store_needs_a_master_key() -> None:
    with pytest.raises(StoreError, match="set FRAMEGATE_MASTER_KEY"):
        masters({}, None)


@pytest.mark.parametrize("key", ["short", "", "x" * 44])
def test_a_master_key_that_is_none_is_told_without_being_shown(key: str) -> None:
    with pytest.raises(StoreError) as told:
        Vault([key])
    assert "32 random bytes" in str(told.value) and (not key or key not in str(told.value))


def test_hashes_depend_on_key_and_pepper() -> None:
    for secret, key in ((b"a" * 32, "k"), (b"a" * 64, ""), (b"a" * 65, "k" * 1000), (b"", "caf\udce9")):
        expected = hmac.digest(secret, key.encode("utf-8", "surrogateescape"), "sha256")
        assert digester(secret)(key) == digester(secret)(key) == expected
    assert digester(b"a" * 32)("k") != digester(b"b" * 32)("k") != digester(b"b" * 32)("l")


def test_an_empty_or_unreadable_master_key_is_told_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "master.key").write_text("\n")
    with pytest.raises(StoreError, match=r"master\.key is empty"):
        masters({}, tmp_path)
    (tmp_path / "master.key").unlink()
    (tmp_path / "master.key").mkdir()
    with pytest.raises(StoreError, match="can't be read or made"):
        masters({}, tmp_path)
