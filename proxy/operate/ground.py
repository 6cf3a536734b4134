"""What every operator's command stands on: the config without its secrets, and the state for as long as it takes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ..core.callers import KeyRing
from ..core.clock import SystemClock
from ..core.config import Config, StoreTable, load, store_of
from ..core.settings import Kept
from ..model.values import Secret, duration
from ..state import State, kept

T = TypeVar("T")
UNREAD = ("http://", ".unread")
LONGEST = 100 * 365 * 86400.0  # seconds; who means for ever says nothing, and dates past 9999 can't be written


class Refused(Exception):
    """What the operator asked can't be done; the text says why, and what could."""


class Unread(Mapping[str, str]):
    """An environment in which every secret of the config is set to something: who revokes a key needs none of them.

    It is a URL, since the secret may be a proxy's. The proxies of this machine's environment are none of the config's.
    """

    def __getitem__(self, name: str) -> str:
        if name.lower().endswith("_proxy"):
            raise KeyError(name)
        return _unread(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Known(Unread):
    """The same, but with the secrets that this environment holds: who looks into a bucket needs those to it."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name) if name.lower().endswith("_proxy") else os.environ.get(name) or _unread(name)


def iso(time: float) -> str:
    """A time for people and for programs, in UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def seconds(option: str, text: str) -> float:
    """The seconds of a duration that was typed."""
    try:
        typed = duration(text)
    except ValueError as error:
        raise Refused(f"{option}: {error}") from error
    if typed > LONGEST:
        raise Refused(f"{option}: '{text}' is more than a hundred years")
    return typed


def telling(text: str) -> bool:
    """Whether this, typed where a name belongs, looks like the secret itself and must not be repeated."""
    return text.lower().startswith(("sk-", "bearer "))


def config(file: Path | None) -> Config:
    """The config, without its secrets: one that `secrets set` is about to store is not there yet."""
    if file is None:
        return load(None, os.environ)
    return replace(load(file, Unread(), kept=lambda _: _unread), store=store_of(file, os.environ))


def known(file: Path) -> Config:
    """The config with those of its secrets that can be had."""

    store = store_of(file, os.environ)

    def opened(_: StoreTable) -> Kept:
        find = kept(os.environ)(store)
        return lambda name: find(name) or _unread(name)

    return replace(load(file, Known(), kept=opened), store=store)


def unread(secret: Secret | None) -> str | None:
    """The name of a secret that could not be had."""
    text = "" if secret is None else secret.reveal()
    return text[len(UNREAD[0]) : -len(UNREAD[1])] if text.startswith(UNREAD[0]) and text.endswith(UNREAD[1]) else None


def _unread(name: str) -> str:
    return name.join(UNREAD)


def on_state(config: Config, work: Callable[[State], Awaitable[T]], *, makes: bool = False) -> T:
    """Open the state, do the work, close it. Only what writes something new makes a store where there is none."""
    if not makes and not config.store.there:
        raise Refused(f"there is no store at {config.store.place} yet; is --config missing?")

    async def main() -> T:
        state = State(config, os.environ, SystemClock())
        try:
            await state.pepper()  # so that nothing is ever sealed under a master key that is not the store's
            return await work(state)
        finally:
            await state.aclose()

    return asyncio.run(main())


def on_keys(config: Config, work: Callable[[KeyRing], Awaitable[T]], *, makes: bool = False) -> T:
    """The same, for work on the keys."""

    async def main(state: State) -> T:
        return await work(await state.keys())

    return on_state(config, main, makes=makes)
