"""Where plugins come from: entry points of installed distributions, or `module:Class`."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.plugin import Plugin
from .settings import settings_of
from .words import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "framegate.plugins"
RESERVED = frozenset(("use", "on_crash"))  # these keys of a plugin's table are ours


class NoPlugin(Exception):
    """What the config names is no plugin; its text tells the operator why."""


@cache
def claims() -> dict[str, tuple[EntryPoint, ...]]:
    """Every name that an installed distribution claims, with all its claimants. Nothing is imported."""
    from importlib.metadata import entry_points  # a tenth of a start that names no plugin

    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def installed() -> dict[str, EntryPoint]:
    """The plugins that are installed, by name; those whose name is claimed twice are left out."""
    return {name: points[0] for name, points in claims().items() if len(points) == 1}


def exists(use: str) -> bool:
    """Whether `use` is a `module:Class` or the name of something installed."""
    return ":" in use or use in claims()


def kind(use: str) -> str:
    """What sort of plugin it is, whatever its instance is called: the installed name, or the class's in lower case."""
    return use.rpartition(":")[2].lower() if ":" in use else use


def find(use: str, folder: Path | None = None) -> type[Plugin]:
    """The plugin's class, imported now; raises NoPlugin. Modules beside the config file (`folder`) are found too."""
    if ":" in use:
        module, _, name = use.partition(":")
        # At the end of the path: a file beside the config must not stand in for an installed module.
        if folder is not None and str(folder) not in sys.path:
            sys.path.append(str(folder))
    else:
        points = claims().get(use, ())
        if not points:
            raise NoPlugin(f"no such plugin '{use}'; {nearest(use, claims())}")
        if len(points) > 1:
            owners = " and ".join(sorted(owner(point) for point in points))
            raise NoPlugin(f"'{use}' is claimed by {owners}; uninstall one, or say use = \"module:Class\"")
        module, name = points[0].module, points[0].attr
    return _class(module, name)


def owner(point: EntryPoint) -> str:
    """The distribution that an entry point belongs to."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


def _class(module: str, name: str) -> type[Plugin]:
    if not name or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise NoPlugin(f"'{module}:{name}' is not of the form \"module:Class\"")
    try:
        found: object = import_module(module)
    except (Exception, SystemExit) as exc:  # importing runs foreign code, which may raise whatever it likes
        raise NoPlugin(f"can't import {module}: {type(exc).__name__}: {exc}") from exc
    for part in name.split("."):
        if not hasattr(found, part):
            raise NoPlugin(f"module {module} has no '{part}'; {nearest(part, _plugins_in(found))}")
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, Plugin) and found is not Plugin):
        raise NoPlugin(f"{module}:{name} is not a plugin, which is a class made from proxy.api.Plugin")
    try:
        taken = sorted(RESERVED.intersection(setting.name for setting in settings_of(found)))
    except ValueError as exc:
        raise NoPlugin(str(exc)) from exc
    if taken:
        raise NoPlugin(f"{module}:{name} has a setting '{taken[0]}', a name that every plugin's table has already")
    return found


def _plugins_in(module: object) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Plugin) and value is not Plugin
    ]
