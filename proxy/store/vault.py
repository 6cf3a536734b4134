"""Secrets at rest: sealed with the master keys, newest first; the store alone is worth nothing to a thief."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ..model.store import SEALED, Store, StoreError

VARIABLE = "FRAMEGATE_MASTER_KEY"
FILE = "master.key"
SPACE = "secrets"  # of the store
PEPPER = ("vault", "pepper")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
PAGE = 100  # of what plugins sealed is read at once: a text may be long


class SealedOtherwise(StoreError):
    """It was sealed under another master key, or another name."""


class Vault:
    """Seals and opens. What the newest master key sealed, any of the keys given may open."""

    def __init__(self, masters: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(master) for master in masters])
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{VARIABLE} holds something that is no master key; a master key is 32 random bytes in URL-safe base64."
            ) from error

    def seal(self, name: str, text: str) -> bytes:
        """The text sealed under its name, so that two sealed values can't be exchanged."""
        return self._fernet.encrypt(f"{name}\n{text}".encode())

    def open(self, name: str, sealed: bytes) -> str:
        """The text; raises SealedOtherwise when it was sealed under another key or name."""
        try:
            own, _, text = self._fernet.decrypt(sealed).decode().partition("\n")
        except InvalidToken as error:
            raise SealedOtherwise(
                f"The store was written under another master key; give the old one too in {VARIABLE}, behind the new."
            ) from error
        if own != name:
            raise SealedOtherwise(f"What the store holds as '{name}' was sealed as something else.")
        return text


def masters(environ: Mapping[str, str], beside: Path | None) -> list[str]:
    """The master keys, newest first: from the environment, else from the file `beside`, made where there is none.

    `beside` is the folder of an embedded store; None where the store is shared, which needs the variable.
    """
    given = environ.get(VARIABLE, "").replace(",", " ").split()
    if given:
        return given
    if beside is None:
        raise StoreError(f"A shared store needs a master key: set {VARIABLE} to the same value everywhere.")
    path = beside / FILE
    try:
        if not path.exists():
            _make(path)
        made = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"The master key {path} can't be read or made: {error}") from error
    if not made:
        raise StoreError(f"The master key {path} is empty.")
    return made


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written whole under another name, then linked: of two that start at once one wins, and none reads half a key.
    half = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, Fernet.generate_key() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    with suppress(FileExistsError):
        os.link(half, path)
    half.unlink()


async def pepper(store: Store, vault: Vault) -> bytes:
    """The secret that key hashes are made with: random, sealed in the store, the same for all who share it.

    Raises StoreError when the store was written under another master key: a clear word at start.
    """
    sealed = await store.get(*PEPPER)
    if sealed is None:
        await store.put(*PEPPER, vault.seal("pepper", secrets.token_hex(32)), new=True)
        sealed = await store.get(*PEPPER)
        assert sealed is not None
    return bytes.fromhex(vault.open("pepper", sealed))


def digester(pepper: bytes) -> Callable[[str], bytes]:
    """Makes what is kept of a key: HMAC-SHA256 under the pepper (RFC 2104), which is worked in once."""
    # What `hmac` does, without its five frames for each key (the tests compare the two).
    block = (hashlib.sha256(pepper).digest() if len(pepper) > 64 else pepper).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(key: str) -> bytes:
        inside, outside = inner.copy(), outer.copy()
        inside.update(key.encode("utf-8", "surrogateescape"))
        outside.update(inside.digest())
        return outside.digest()

    return digest


def hasher(pepper: bytes, purpose: str) -> Callable[[bytes], bytes]:
    """Makes hashes of 16 bytes for plugins: BLAKE2b under a key that the pepper gives for that purpose alone."""
    key = hashlib.blake2b(purpose.encode(), key=pepper[:64], person=b"framegate-hasher").digest()
    keyed = hashlib.blake2b(digest_size=16, key=key)

    def digest(data: bytes) -> bytes:
        one = keyed.copy()  # the key is worked in already
        one.update(data)
        return one.digest()

    return digest


def lent(name: str) -> str:
    """What a plugin's name is within the seal: no secret of the house's is called so, and none is opened by it."""
    if "\n" in name:
        raise ValueError("the name of what is sealed has more than one line")
    return f"plugin:{name}"


class Secrets:
    """Named secrets of the operator's, for `secret:NAME` in the config."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def get(self, name: str) -> str | None:
        """The secret, or None."""
        sealed = await self._store.get(SPACE, name)
        return None if sealed is None else self._vault.open(name, sealed)

    async def set(self, name: str, text: str) -> None:
        """Keep it; raises ValueError for a name or a text that could not be used."""
        if not NAME.fullmatch(name):
            raise ValueError(f"'{name}' is not a name for a secret: letters, digits, '.', '_' and '-', 100 at the most")
        if not text or re.search(r"[\x00-\x1f\x7f]", text):
            raise ValueError("the secret is empty, or holds a line break or another control character")
        await self._store.put(SPACE, name, self._vault.seal(name, text))

    async def names(self) -> list[str]:
        """The names of all, in order."""
        names: list[str] = []
        while page := await self._store.items(SPACE, after=names[-1] if names else ""):
            names += [name for name, _ in page]
        return names

    async def delete(self, name: str) -> bool:
        """Forget it; whether it was there."""
        return await self._store.delete(SPACE, name)

    async def rotate(self) -> int:
        """Seal everything anew under the newest master key; how many secrets there are. The pepper is one of them."""
        places = [(SPACE, name) for name in await self.names()]
        return sum([await self._seal_anew(*place) for place in (*places, PEPPER)])

    async def rotate_lent(self) -> tuple[int, int]:
        """The same for what plugins sealed; how many texts that are, and how many nobody can open.

        One that can't be opened, its master key being gone for good, must not stand in the way of the others.
        """
        done, lost, last = 0, 0, ""
        while page := await self._store.items(SEALED, after=last, limit=PAGE):
            for last, _ in page:
                try:
                    done += await self._seal_anew(SEALED, last, lent(last))
                except SealedOtherwise:
                    lost += 1
        return done, lost

    async def _seal_anew(self, space: str, name: str, within: str | None = None) -> bool:
        within = within or name
        while (sealed := await self._store.get(space, name)) is not None:
            anew = self._vault.seal(within, self._vault.open(within, sealed))
            if await self._store.swap(space, name, sealed, anew):  # else it was set meanwhile
                return True
        return False
