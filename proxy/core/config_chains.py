"""What chains name: the routes of a config with their chains, and the plugins that these and their own tables make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from . import registry
from .settings import BAD, Reader
from .tables import PluginTable, RouteTable
from .words import at, nearest

# Our own plugins. One that is not installed is not built yet: its table does nothing, and a chain must not name it,
# for a chain that says "quota" and has none would be worse than a refusal to start.
BUILT_IN = ("keys", "idempotency", "quota", "moderation", "cache", "rehost", "failover", "tasks")
USUAL_CHAIN = ("keys", "idempotency", "quota", "moderation", "rehost", "failover")
TOLD = ("moderation",)  # of these, what does nothing before its table says how
Table = dict[str, Any]
Tables = Mapping[str, Table]


@dataclass(frozen=True, slots=True)
class Use:
    """What every plugin's table may say beside the plugin's own settings."""

    use: str | None = None
    on_crash: Literal["refuse", "skip"] = "refuse"


def routes(reader: Reader, tables: tuple[Table, ...], of_plugins: Tables, raw: Table) -> dict[str, RouteTable]:
    """The routes that can be read, by address; one for everything where the file has none."""
    if not raw.get("routes", []):
        tables = ({"match": "* /v1/*"},)
    if any("chain" not in table for table in tables):
        usual = _usual(of_plugins)
        tables = tuple([{"chain": usual, **table} for table in tables])
    read = {}
    for i, table in enumerate(tables):
        route = reader.table(RouteTable, table, f"routes[{i}]")
        if route is not BAD:
            read[f"routes[{i}]"] = route
    return read


def plugins(
    reader: Reader, tables: Tables, routes: Mapping[str, RouteTable]
) -> tuple[dict[str, PluginTable], tuple[str, ...]]:
    """The instances that tables and chains name, and the names of tables whose plugin is not built."""
    made: dict[str, PluginTable] = {}
    unbuilt = []
    tried = set(tables)
    for name, table in tables.items():
        if _missing(name, tables):
            unbuilt.append(name)
        elif (plugin := _plugin(reader, name, table)) is not None:
            made[name] = plugin
    for where, route in routes.items():
        for i, name in enumerate(route.chain):
            if name in tried and name not in unbuilt:
                continue
            if _missing(name, tables):
                text = f"'{name}' is not part of this version; take it out of the chain"
                reader.complain(f"{where}.chain[{i}]", text)
            elif not registry.exists(name) or ":" in name:
                there = {*tables, *registry.claims()} - set(unbuilt)
                hint = "" if there else f'; its table [plugins.{name}] would say use = "module:Class"'
                text = f"no such plugin '{name}'; {nearest(name, there)}{hint}"
                reader.complain(f"{where}.chain[{i}]", text)
            else:
                tried.add(name)
                if (plugin := _plugin(reader, name, {})) is not None:
                    made[name] = plugin
    return made, tuple(unbuilt)


def _usual(tables: Tables) -> list[str]:
    """The chain of a route that names none. It is not asked for elsewhere: what is installed takes a while to list."""
    usual = [name for name in USUAL_CHAIN if name in tables or (registry.exists(name) and name not in TOLD)]
    return [name for name in usual if not _missing(name, tables)]


def _missing(name: str, tables: Tables) -> bool:
    """Whether it is a plugin of ours that this version has not."""
    use = tables.get(name, {}).get("use", name)
    return use in BUILT_IN and not registry.exists(use)


def _plugin(reader: Reader, name: str, table: Table) -> PluginTable | None:
    where = at("plugins", name)
    before = len(reader.complaints)
    said = reader.table(Use, {key: table[key] for key in registry.RESERVED if key in table}, where)
    if said is BAD or (said.use is None and "use" in table):
        return None
    use = name if said.use is None else said.use
    try:
        cls = registry.find(use, reader.folder)
    except registry.NoPlugin as exc:
        reader.complain(where if said.use is None else at(where, "use"), str(exc))
        return None
    settings = reader.settings(cls, {key: table[key] for key in table if key not in registry.RESERVED}, where)
    if said.on_crash == "skip" and not cls.skippable:
        reader.complain(f"{where}.on_crash", f"'{name}' must not be skipped when it crashes; write \"refuse\"")
    if len(reader.complaints) > before:
        return None
    plugin = PluginTable(name, cls, use, said.on_crash, settings)
    try:
        plugin.make()
    except ValueError as exc:
        reader.complain(where, str(exc))
    except Exception as exc:  # foreign code: a fault of it must not end in a traceback at start
        reader.complain(where, f"{cls.__name__} can't be made: {type(exc).__name__}: {exc}")
    return plugin if len(reader.complaints) == before else None
