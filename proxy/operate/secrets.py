"""`framegate secrets` and `framegate store`: what is kept sealed, and a copy of it all."""

from __future__ import annotations

import getpass
import sys
from argparse import Namespace
from collections.abc import Callable

from ..core.config import Config
from ..core.settings import SECRET_FILE
from ..core.words import nearest
from ..state import State
from ..store.sqlite import backup
from ..store.vault import Secrets
from .ground import Refused, on_state, telling


def _secrets_set(config: Config, options: Namespace) -> None:
    if options.value or telling(options.name):
        raise Refused(
            "a secret is never taken from the command line, where others can read it; "
            "framegate secrets set NAME asks for it, or reads it from standard input"
        )
    text = _typed(options.name)

    async def work(state: State) -> None:
        try:
            await Secrets(state, state.vault()).set(options.name, text)
        except ValueError as error:
            raise Refused(str(error)) from error

    on_state(config, work, makes=True)
    print(f"secret '{options.name}' is kept in {config.store.place}; the config says \"secret:{options.name}\"")


def _typed(name: str) -> str:
    """The secret from standard input, or from a person; before any loop runs, which would swallow the first Ctrl-C."""
    if sys.stdin is None:
        raise Refused("no secret was given: standard input is closed")
    if sys.stdin.isatty():
        try:
            return getpass.getpass(f"secret '{name}': ")
        except EOFError:
            raise Refused("no secret was given") from None
    raw = sys.stdin.buffer.read(SECRET_FILE + 1)
    if len(raw) > SECRET_FILE:
        raise Refused(f"standard input is too long for a secret: more than {SECRET_FILE} bytes")
    try:
        return raw.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise Refused("standard input is not text in UTF-8") from None


def _secrets_list(config: Config, options: Namespace) -> None:
    if config.store.there:
        for name in on_state(config, _secret_names):
            print(name)


async def _secret_names(state: State) -> list[str]:
    return await Secrets(state, state.vault()).names()


def _secrets_delete(config: Config, options: Namespace) -> None:
    async def work(state: State) -> None:
        kept = Secrets(state, state.vault())
        if not await kept.delete(options.name):
            shown = "that name" if telling(options.name) else f"the name '{options.name}'"
            raise Refused(f"no secret has {shown}; {nearest(options.name, await kept.names())}")

    on_state(config, work)
    print(f"secret '{options.name}' is deleted; a config that still names it is refused at the next start")


def _secrets_rotate(config: Config, options: Namespace) -> None:
    async def work(state: State) -> tuple[int, int, int]:
        secrets = Secrets(state, state.vault())
        return await secrets.rotate() - 1, *await secrets.rotate_lent()

    count, lent, lost = on_state(config, work)
    print(f"{count} secret{'' if count == 1 else 's'} and the store's own are sealed under the newest master key")
    if lent:
        print(f"so {'is 1 text' if lent == 1 else f'are {lent} texts'} that plugins keep")
    if lost:
        one = lost == 1
        raise Refused(
            f"{lost} text{'' if one else 's'} that plugins keep can't be opened with the master keys given, and "
            f"{'stays as it is' if one else 'stay as they are'}"
        )


def _store_backup(config: Config, options: Namespace) -> None:
    if config.store.redis is not None:
        raise Refused("the store is a Redis: copy it by its own means, such as redis-cli --rdb FILE")
    backup(config.store.path, options.file)
    print(f"{options.file}: a copy of {config.store.path}; the master key, which it needs, is not in it")


COMMANDS: dict[str, Callable[[Config, Namespace], None]] = {
    "secrets set": _secrets_set,
    "secrets list": _secrets_list,
    "secrets delete": _secrets_delete,
    "secrets rotate": _secrets_rotate,
    "store backup": _store_backup,
}
