"""`framegate keys`: each key's text is shown once and never again, nor is its hash."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, get_args

import orjson

from ..core.callers import FORM, KeyRing, StoredKey
from ..core.config import Config
from ..core.tables import Endpoint, model_name
from ..core.words import nearest
from ..model.limit import Limits
from .ground import Refused, iso, on_keys, seconds, telling

ENDPOINTS: tuple[str, ...] = get_args(Endpoint)
LIMITS = tuple(field.name for field in fields(Limits))
NAMES = 100  # characters of a name, as of a secret's
Row = tuple[
    str,
    str,
    str | None,
    Sequence[str],
    Sequence[str],
    str,
    str | None,
    str | None,
    Mapping[str, str],
    Mapping[str, Any],
]
COLUMNS = ("id", "name", "group", "endpoints", "models", "state", "created", "expires", "tags", "limits")


def _keys_create(config: Config, options: Namespace) -> None:
    name = _name("NAME", options.name)
    if options.group is not None and options.group not in config.groups:
        raise Refused(f"--group: no such group '{options.group}'; {nearest(options.group, config.groups)}")
    endpoints = _endpoints(options.endpoints)
    models = _models(options.models)
    ttl = None if options.expires is None else seconds("--expires", options.expires)
    if ttl == 0:
        raise Refused("--expires: a key must live longer than nothing")
    tags = _tags(options.tag)
    limits = _limits(options.limit)
    given = {"endpoints": endpoints, "models": models, "ttl": ttl, "tags": tags, "rehost": options.rehost}
    key, record = on_keys(
        config,
        lambda ring: ring.create(name, group=options.group, limits=limits, **given),
        makes=True,
    )
    until = "without end" if record.expires is None else f"until {iso(record.expires)}"
    which = f" with {', '.join(models)}" if models else ""
    where = f"in {config.store.place}"
    _say(f"key {record.id} '{name}' for {', '.join(endpoints)}{which}, {until}; {where}. Shown this once:")
    print(key, flush=True)


def _keys_list(config: Config, options: Namespace) -> None:
    declared: list[Row] = [
        (name, name, key.group, key.endpoints, key.models, "declared", None, None, {}, key.limits.written())
        for name, key in sorted(config.keys.items())
    ]
    table = _Table(as_json=options.json)

    async def work(ring: KeyRing) -> None:
        """Page by page: the first of a hundred thousand keys stand there at once."""
        now = time.time()
        table.add(declared)
        async for page in ring.pages():
            table.add([_row(record, now) for record in sorted(page, key=lambda one: one.created)])

    if config.store.there:
        on_keys(config, work)
    else:
        table.add(declared)
    table.end()


def _keys_rotate(config: Config, options: Namespace) -> None:
    grace = seconds("--grace", options.grace)

    async def work(ring: KeyRing) -> tuple[str, StoredKey]:
        if (state := _state(await _find(ring, config, options.id), time.time())) != "active":
            raise Refused(f"key {options.id} is {state} and stays so; framegate keys create makes a new one")
        try:
            return await ring.rotate(options.id, grace=grace)
        except ValueError as error:  # somebody else revoked it meanwhile
            raise Refused(str(error)) from error

    key, record = on_keys(config, work)
    old = f"valid until {iso(record.previous_until)}" if grace else "dead within 5 seconds"
    _say(f"key {record.id} '{record.name}' has a new text, the old one is {old}. Shown this once:")
    print(key, flush=True)


def _keys_revoke(config: Config, options: Namespace) -> None:
    async def work(ring: KeyRing) -> StoredKey:
        await _find(ring, config, options.id)
        return await ring.revoke(options.id)

    record = on_keys(config, work)
    print(f"key {record.id} '{record.name}' is revoked; dead everywhere within 5 seconds")


async def _find(ring: KeyRing, config: Config, id: str) -> StoredKey:
    """The key of that id. Raises Refused with the one that may have been meant."""
    if whole := FORM.fullmatch(id):
        raise Refused(f"that is a whole key, which others may now have read in the process list; its id is {whole[1]}")
    if telling(id):
        raise Refused("that looks like a secret, not like an id; framegate keys list shows the ids")
    try:
        return await ring.get(id)
    except KeyError:
        pass
    if id in config.keys:
        raise Refused(f"key '{id}' is declared in {config.path}; change its table [keys.{id}] there")
    records = await ring.all()
    if named := [record.id for record in records if record.name == id]:
        hint = f"that is the name of {' and '.join(named[:3])}"
    elif near := get_close_matches(id, [record.id for record in records], 1):
        hint = f"did you mean '{near[0]}'?"
    else:
        hint = "framegate keys list shows them"
    raise Refused(f"no key has the id '{id}'; {hint}")


def _state(record: StoredKey, now: float) -> str:
    over = record.expires is not None and record.expires <= now
    return "expired" if record.state == "active" and over else record.state


def _row(record: StoredKey, now: float) -> Row:
    """What may be seen of a key: neither its text nor a hash of it."""
    expires = None if record.expires is None else iso(record.expires)
    state = _state(record, now)
    created = iso(record.created)
    what = (record.endpoints, record.models)
    return record.id, record.name, record.group, *what, state, created, expires, record.tags, record.limits


def _cells(row: Row) -> Sequence[str]:
    id, name, group, endpoints, models, state, created, expires, tags, limits = row
    labels = ",".join([f"{key}={text}" for key, text in tags.items()])
    what = (",".join(endpoints), ",".join(models) or "all")
    end = (labels or "-", _shown(limits) or "-")
    return id, name, group or "-", *what, state, created or "-", expires or "-", *end


def _shown(limits: Mapping[str, Any]) -> str:
    """Limits without blanks, as one may type them again."""
    several = [(name, value if isinstance(value, list) else [value]) for name, value in limits.items()]
    return ",".join([f"{name}={one}".replace(" ", "") for name, values in several for one in values])


class _Table:
    """Rows as they come; a column grows with what it must hold and never shrinks."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._widths = [len(column) for column in COLUMNS]
        self._widths[0] = 10  # of an id
        self._count = 0

    def add(self, rows: Sequence[Row]) -> None:
        if self._as_json:
            if rows:
                shown = [orjson.dumps(dict(zip(COLUMNS, row, strict=True))).decode() for row in rows]
                print(",\n  " if self._count else "[\n  ", ",\n  ".join(shown), sep="", end="")
                self._count += len(rows)
            return
        cells = [_cells(row) for row in rows]
        lines = cells if self._count else [COLUMNS, *cells]
        if not lines:
            return
        columns = zip(*lines, strict=True)
        self._widths = [max(width, *map(len, column)) for width, column in zip(self._widths, columns, strict=True)]
        print("\n".join(["  ".join(map(str.ljust, line, self._widths)).rstrip() for line in lines]), flush=True)
        self._count += len(lines)

    def end(self) -> None:
        if self._as_json:
            print("\n]" if self._count else "[]")


# --- what was typed


def _name(what: str, text: str) -> str:
    if not text.strip() or len(text) > NAMES or not text.isprintable():
        raise Refused(f"{what}: a name is 1 to {NAMES} characters that can be printed")
    return text


def _endpoints(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ("inference",)
    sorts = dict.fromkeys(sort.strip() for sort in text.split(","))
    for sort in sorts:
        if sort not in ENDPOINTS:
            raise Refused(f"--endpoints: no such sort '{sort}'; {nearest(sort, ENDPOINTS)}")
    return tuple(sorts)


def _models(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    models = dict.fromkeys(model.strip() for model in text.split(","))
    for model in models:
        try:
            model_name("--models", model)
        except ValueError as error:
            raise Refused(str(error)) from error
    return tuple(models)


def _tags(typed: Sequence[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for one in typed:
        key, equals, text = one.partition("=")
        if not equals or not key or "," in one or not one.isprintable() or len(one) > 2 * NAMES:
            raise Refused(f"--tag: a tag is KEY=VALUE without a comma, {2 * NAMES} characters at the most")
        if key in tags:
            raise Refused(f"--tag: '{key}' is given twice")
        tags[key] = text
    return tags


def _limits(typed: Sequence[str]) -> Limits:
    table: dict[str, Any] = {}
    for one in typed:
        name, equals, text = (part.strip() for part in one.partition("="))
        if not equals or name not in LIMITS:
            hint = nearest(name, LIMITS) if equals else f"it may be of {', '.join(LIMITS)}"
            raise Refused(f"--limit: a limit is written like 'images=20 / 1m'; {hint}")
        if name != "concurrent":
            table.setdefault(name, []).append(text)
        elif name in table or not text.isascii() or not text.isdigit() or len(text) > 9:
            raise Refused("--limit: concurrent is one number, such as concurrent=5")
        else:
            table[name] = int(text)
    try:
        return Limits.read(table)
    except ValueError as error:
        raise Refused(f"--limit: {error}") from error


def _say(text: str) -> None:
    """To standard error: standard output is the key's alone."""
    print(text, file=sys.stderr)


COMMANDS: dict[str, Callable[[Config, Namespace], None]] = {
    "keys create": _keys_create,
    "keys list": _keys_list,
    "keys rotate": _keys_rotate,
    "keys revoke": _keys_revoke,
}
