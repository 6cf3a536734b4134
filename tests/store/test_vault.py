from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from proxy.core.config import load
from proxy.model.store import SEALED, StoreError
from proxy.state import State
from proxy.store.sqlite import SQLiteStore
from proxy.store.vault import PEPPER, SPACE, Secrets, Vault, digester, hasher, masters, pepper
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


# --- what plugins are lent


def at(folder: Path, *keys: str) -> State:
    """What a process of a server with those master keys has; without any, one is made beside the store."""
    (folder / "framegate.toml").write_text(
        '[upstreams.a]\nbase_url = "http://a.invalid/v1"\n[store]\nurl = "sqlite:a/s.db"\n'
    )
    environ = {"FRAMEGATE_MASTER_KEY": " ".join(keys)} if keys else {}
    return State(load(folder / "framegate.toml", environ), environ, TurnedClock())


@pytest.fixture
async def lend(tmp_path: Path) -> AsyncIterator[Callable[..., State]]:
    """Makes states over one store, as several processes have them."""
    made: list[State] = []

    def one(*keys: str) -> State:
        made.append(at(tmp_path, *keys))
        return made[-1]

    yield one
    for state in made:
        await state.aclose()


def test_hashes_for_plugins_depend_on_pepper_and_purpose() -> None:
    hashes = {hasher(pepper, purpose)(b"k") for pepper in (b"a" * 32, b"b" * 32, b"") for purpose in ("x", "y", "")}
    assert len(hashes) == 9 and {len(one) for one in hashes} == {16}
    digest = hasher(b"a" * 32, "x")
    assert digest(b"k") == digest(b"k") == hasher(b"a" * 32, "x")(b"k") != digest(b"") != digest(b"kk")


async def test_plugins_hash_alike_in_all_processes_and_after_a_new_master_key(lend: Callable[..., State]) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    one, two = [await lend(old).lent_vault().digester("moderation") for _ in range(2)]
    assert one(b"a prompt") == two(b"a prompt") != one(b"another")
    state = lend(new, old)
    await Secrets(state, state.vault()).rotate()
    assert (await lend(new).lent_vault().digester("moderation"))(b"a prompt") == one(b"a prompt")


async def test_the_lent_vault_opens_nothing_before_it_is_asked(lend: Callable[..., State], tmp_path: Path) -> None:
    vault = lend().lent_vault()
    assert [path.name for path in tmp_path.iterdir()] == ["framegate.toml"]
    sealed = await vault.seal("moderation/1", TEXT)
    assert await lend().lent_vault().open("moderation/1", sealed) == TEXT and TEXT.encode() not in sealed
    assert (tmp_path / "a" / "master.key").exists()


async def test_nothing_is_sealed_under_a_master_key_that_is_not_the_stores(lend: Callable[..., State]) -> None:
    await lend(Fernet.generate_key().decode()).pepper()
    other = lend(Fernet.generate_key().decode()).lent_vault()
    for asked in (other.seal("a", TEXT), other.open("a", b"x"), other.digester("a")):
        with pytest.raises(StoreError, match="another master key"):
            await asked


async def test_what_plugins_seal_stands_apart_from_the_houses_own(lend: Callable[..., State]) -> None:
    state = lend(Fernet.generate_key().decode())
    vault, kept = state.lent_vault(), Secrets(state, state.vault())
    await kept.set("openai", TEXT)
    sealed = await state.get(SPACE, "openai")
    assert sealed is not None
    with pytest.raises(StoreError, match="sealed as something else"):
        await vault.open("openai", sealed)
    await state.put(SPACE, "openai", await vault.seal("openai", "sk-forged"))
    with pytest.raises(StoreError, match="sealed as something else"):
        await kept.get("openai")
    with pytest.raises(StoreError, match="sealed as something else"):
        await vault.open("a", await vault.seal("b", TEXT))
    with pytest.raises(ValueError, match="more than one line"):
        await vault.seal("a\nb", TEXT)


async def test_a_new_master_key_seals_anew_what_plugins_keep(lend: Callable[..., State]) -> None:
    old, new, lost = [Fernet.generate_key().decode() for _ in range(3)]
    state = lend(old)
    for number in range(250):  # more than a page of them
        await state.put(SEALED, f"n{number:03}", await state.lent_vault().seal(f"n{number:03}", str(number)), ttl=60.0)
    await state.put(SEALED, "n1x", Vault([lost]).seal("plugin:n1x", TEXT))
    await state.put(SEALED, "n1y", Vault([old]).seal("plugin:another", TEXT))
    state = lend(new, old)
    assert await Secrets(state, state.vault()).rotate() == 1
    assert await Secrets(state, state.vault()).rotate_lent() == (250, 2)
    fresh = lend(new)
    for number in range(250):
        sealed = await fresh.get(SEALED, f"n{number:03}")
        assert sealed is not None and await fresh.lent_vault().open(f"n{number:03}", sealed) == str(number)


async def test_what_is_sealed_anew_ends_when_it_was_to_end(tmp_path: Path) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    clock = TurnedClock()
    store = SQLiteStore(tmp_path / "s.db", clock)
    await store.put(SEALED, "a", vault(old).seal("plugin:a", TEXT), ttl=60.0)
    clock.turn(30)
    assert await Secrets(store, vault(new, old)).rotate_lent() == (1, 0)
    clock.turn(29)
    assert await store.get(SEALED, "a") is not None
    clock.turn(2)
    assert await store.get(SEALED, "a") is None
    await store.aclose()
