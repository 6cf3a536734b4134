"""`framegate moderation`: what was decided of which request, and what a person has allowed all the same.

The rows are written by the plugin, which this floor does not know; what they hold is said in docs/store.md.
"""

from __future__ import annotations

import asyncio
import csv
import re
import sys
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import orjson

from ..core.config import Config
from ..model.store import SEALED, StoreError
from ..state import State
from .ground import Refused, iso, on_state, seconds

SPACE = "moderation"  # of the store: rows by keys that count down, so that the newest come first
ALLOWED = "moderation-allowed"  # hashes
LAST = 2**52  # microseconds since 1970, from which keys count down
PAGE = 1000
PROMPTS = 100  # that are read at once: one may be long
NOTE = 200  # characters
HASH = 32  # digits; the first 8 or more do where they are one hash's alone
SHOWN = ("time", "decision", "mode", "stage", "caller", "model", "hash", "id", "why")
LINE = "{:<24} {:<9} {:<6} {:<6} {:<20} {:<20} {:<12} {:<26} {}"
FIELDS = (
    *("time", "id", "route", "kind", "model", "caller", "group", "hash", "stage", "decision", "mode", "categories"),
    *("scores", "backends", "failed", "unseen", "upstream", "prompt_kept"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a table's program would work out a cell that begins so
Row = dict[str, Any]


def _moderation_list(config: Config, options: Namespace) -> None:
    if options.limit < 1:
        raise Refused("--limit: at least 1")
    since = _since(options.since)

    async def work(state: State) -> None:
        print(LINE.format(*SHOWN))
        left = options.limit
        async for page in _pages(state, since):
            for _, row in page:
                if options.caller not in (None, row["caller"]) or options.decision not in (None, row["decision"]):
                    continue
                print(LINE.format(*map(_plain, _cells(row))).rstrip())
                left -= 1
                if not left:
                    return
            sys.stdout.flush()

    on_state(config, work)


def _moderation_show(config: Config, options: Namespace) -> None:
    async def work(state: State) -> list[Row]:
        found = [one async for page in _pages(state) for one in page if one[1]["id"] == options.id]
        if options.prompts:
            await _open(state, found)
        return [row for _, row in found]

    rows = on_state(config, work)
    if not rows:
        raise Refused(f"nothing is kept of a request '{options.id}'; framegate moderation list shows what is")
    for number, row in enumerate(reversed(rows)):
        print("\n" * bool(number), end="")
        for name, value in row.items():
            lines = _written(value).splitlines() or ["-"]
            print(f"{name + ':':<13}", f"\n{'':<14}".join(map(_plain, lines)))


def _moderation_export(config: Config, options: Namespace) -> None:
    since = _since(options.since)
    fields = (*FIELDS, "prompt") if options.prompts else FIELDS
    table = csv.writer(sys.stdout, lineterminator="\n")

    async def work(state: State) -> int:
        shut = 0
        if options.format == "csv":
            table.writerow(fields)
        async for page in _pages(state, since, PROMPTS if options.prompts else PAGE):
            if options.prompts:
                shut += await _open(state, page)
            if options.format == "csv":
                table.writerows([[_cell(row.get(name)) for name in fields] for _, row in page])
            else:
                sys.stdout.write("".join([orjson.dumps(row).decode() + "\n" for _, row in page]))
        return shut

    if shut := on_state(config, work):
        raise Refused(f"{shut} prompt{'' if shut == 1 else 's'} can't be opened with the master keys given")


def _moderation_allow(config: Config, options: Namespace) -> None:
    if len(options.note) > NOTE or (options.note and not options.note.isprintable()):
        raise Refused(f"--note: at most {NOTE} characters that can be printed")

    async def work(state: State) -> str:
        rows = (row["hash"] async for page in _pages(state) for _, row in page)
        hash = await _hash(options.hash, rows, "framegate moderation list shows them")
        await state.put(ALLOWED, hash, orjson.dumps({"time": iso(time.time()), "note": options.note}))
        return hash

    print(f"{on_state(config, work)} is allowed; what has that hash passes, everywhere within 2 seconds")


def _moderation_allowed(config: Config, options: Namespace) -> None:
    line = f"{{:<{HASH}}} {{:<20}} {{}}"

    async def work(state: State) -> None:
        print(line.format("hash", "allowed", "note"))
        async for hash, raw in _allowed(state):
            told = orjson.loads(raw)
            print(line.format(hash, told["time"], _plain(told["note"])).rstrip())

    on_state(config, work)


def _moderation_deny(config: Config, options: Namespace) -> None:
    hint = "framegate moderation allowed shows what is allowed"

    async def work(state: State) -> str:
        hash = await _hash(options.hash, (hash async for hash, _ in _allowed(state)), hint)
        if not await state.delete(ALLOWED, hash):
            raise Refused(f"{hash} is not allowed; {hint}")
        return hash

    print(f"{on_state(config, work)} is allowed no more; what has that hash is judged, everywhere within 2 seconds")


# --- what is kept


async def _pages(state: State, since: float | None = None, size: int = PAGE) -> AsyncIterator[list[tuple[str, Row]]]:
    """The rows with their keys, the newest first."""
    end = "" if since is None else f"{max(0, LAST - int(since * 1e6)):013x}~"
    after = ""
    while page := await state.items(SPACE, after=after, limit=size):
        after = page[-1][0]
        yield [(key, orjson.loads(raw)) for key, raw in page if not end or key < end]
        if end and after > end:
            return


async def _allowed(state: State) -> AsyncIterator[tuple[str, bytes]]:
    after = ""
    while page := await state.items(ALLOWED, after=after):
        after = page[-1][0]
        for one in page:
            yield one


async def _open(state: State, rows: Sequence[tuple[str, Row]]) -> int:
    """Give rows their prompts; how many can't be opened."""
    vault = state.lent_vault()

    async def opened(key: str, row: Row) -> bool:
        row["prompt"] = None
        if not row["prompt_kept"]:
            return True
        name = f"{SPACE}/{key}"
        sealed = await state.get(SEALED, name)
        if sealed is None:  # its time is over since the row was read
            return True
        try:
            row["prompt"] = await vault.open(name, sealed)
        except StoreError:
            return False
        return True

    return (await asyncio.gather(*[opened(*one) for one in rows])).count(False)


async def _hash(typed: str, known: AsyncIterator[str], hint: str) -> str:
    """The hash that was meant; its beginning is enough where only one begins so."""
    typed = typed.lower()
    if not re.fullmatch(rf"[0-9a-f]{{8,{HASH}}}", typed):
        raise Refused(f"'{typed}' is no hash: that is {HASH} digits from 0 to f, of which the first 8 may do; {hint}")
    if len(typed) == HASH:
        return typed
    found = {hash async for hash in known if hash.startswith(typed)}
    if not found:
        raise Refused(f"no hash begins with '{typed}'; {hint}")
    if len(found) > 1:
        raise Refused(f"'{typed}' may be any of {', '.join(sorted(found)[:5])}; type more of it")
    return found.pop()


# --- how it is shown


def _since(typed: str | None) -> float | None:
    return None if typed is None else time.time() - seconds("--since", typed)


def _cells(row: Row) -> Sequence[str]:
    why = [", ".join(row["categories"]), *row["failed"], *row["unseen"]]
    if row["upstream"] is not None:
        why.insert(0, f"by {row['upstream']}")
    names = ("time", "decision", "mode", "stage", "caller", "model")
    return *[row[name] or "-" for name in names], row["hash"][:12], row["id"], "; ".join(filter(None, why))


def _written(value: object) -> str:
    """A value in words."""
    if isinstance(value, Mapping):
        return "; ".join([f"{name}={one}" for name, one in value.items()])
    if isinstance(value, list):
        return "; ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _cell(value: object) -> str:
    """A value for a table's program, which is not to take a client's words for a formula."""
    text = _written(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _plain(text: str) -> str:
    """For a terminal, which a client's words are not to steer."""
    return "".join([one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text])


COMMANDS: dict[str, Callable[[Config, Namespace], None]] = {
    "moderation list": _moderation_list,
    "moderation show": _moderation_show,
    "moderation export": _moderation_export,
    "moderation allow": _moderation_allow,
    "moderation allowed": _moderation_allowed,
    "moderation deny": _moderation_deny,
}
