"""The config: a TOML file, or none, becomes checked tables; every complaint is made at once."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import check, config_chains, order, registry
from .settings import BAD, Complaint, Kept, Reader
from .tables import (
    AdminTable,
    GroupTable,
    KeyTable,
    Listen,
    LogTable,
    ModelTable,
    PluginTable,
    QueueTable,
    RouteTable,
    ServerTable,
    UpstreamTable,
)
from .tables_kept import ImagesTable, StoreTable
from .unbuilt import unbuilt_in
from .words import at

if TYPE_CHECKING:  # and at run time for a file that has such tables
    from ..model.prices import Price
    from ..openai.failure_rule import Rule
    from .pair import Pair

__all__ = [
    "AdminTable",
    "Complaint",
    "Config",
    "ConfigError",
    "GroupTable",
    "ImagesTable",
    "KeyTable",
    "Listen",
    "LogTable",
    "ModelTable",
    "PluginTable",
    "QueueTable",
    "RouteTable",
    "ServerTable",
    "StoreTable",
    "UpstreamTable",
    "load",
    "zero",
]

OpenKept = Callable[[StoreTable], Kept]
SHORT = 32  # characters; a declared key under that is warned about
OPENAI = "https://api.openai.com/v1"


class ConfigError(Exception):
    """The config can't be used; its text is every complaint on a line of its own."""

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        super().__init__("\n".join(map(str, complaints)))
        self.complaints = tuple(complaints)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the file says, checked, with defaults filled in."""

    path: Path | None
    server: ServerTable
    admin: AdminTable | None
    store: StoreTable
    images: ImagesTable | None  # None: no picture is kept, and nothing is served under /files/
    upstreams: dict[str, UpstreamTable]  # in the file's order
    keys: dict[str, KeyTable]
    groups: dict[str, GroupTable]
    models: dict[str, ModelTable]
    plugins: dict[str, PluginTable]
    routes: tuple[RouteTable, ...]
    log: LogTable
    failures: tuple[Rule, ...] = ()
    unbuilt: tuple[str, ...] = ()  # addresses of what does nothing in this version
    pair: Pair | None = None  # the server's certificate and key: then the public port speaks TLS
    prices: dict[str, Price] = field(default_factory=dict)  # by name or glob of models

    def reach(self, route: RouteTable) -> tuple[str, ...]:
        """The upstreams that a request on this route can get to."""
        for name in route.chain:
            plugin = self.plugins.get(name)
            if plugin is not None and plugin.kind == "failover":
                return check.names(plugin.settings.get("to")) or self.usual
        return (route.upstream,) if route.upstream is not None else self.usual[:1]

    @property
    def usual(self) -> tuple[str, ...]:
        """The upstreams that are asked where none is named, in the file's order."""
        return tuple(name for name, table in self.upstreams.items() if not table.aside)

    def has_credential(self, upstream: str) -> bool:
        """Whether a secret of ours is sent to that upstream, for everybody or for some callers."""
        of_keys = any(upstream in key.credentials for key in self.keys.values())
        of_groups = any(upstream in group.credentials for group in self.groups.values())
        return of_keys or of_groups or self.upstreams[upstream].has_credential

    @property
    def short_keys(self) -> tuple[str, ...]:
        """The declared keys that are short enough to be guessed."""
        return tuple(name for name, key in self.keys.items() if len(key.secret.reveal()) < SHORT)

    @property
    def scheme(self) -> str:
        """What the public port speaks."""
        return "http" if self.pair is None else "https"

    @property
    def certificate_doubt(self) -> str | None:
        """Why clients will not believe the server's certificate, if they will not."""
        return None if self.pair is None else self.pair.doubt()

    def pictures(self) -> list[str]:
        """Each route's chain as a line of text."""
        width = max(len(route.match) for route in self.routes)
        inner = {name: table.layers for name, table in self.upstreams.items()}
        return [
            order.drawing(
                route.match,
                route.chain,
                {name: inner[name] for name in self.reach(route)},
                reads=order.reads(self.plugins[name].make() for name in route.chain),
                width=width,
            )
            for route in self.routes
        ]


def load(
    path: Path | None, environ: Mapping[str, str], *, listen: str | None = None, kept: OpenKept | None = None
) -> Config:
    """The config in that file (None: zero config); `listen` replaces the file's. Raises ConfigError.

    `kept` opens the store for the secrets that the config refers to.
    """
    if path is None:
        return zero(environ, listen=listen, kept=kept)
    return _read(_parse(path), path, environ, listen, kept)


def zero(environ: Mapping[str, str], *, listen: str | None = None, kept: OpenKept | None = None) -> Config:
    """The config without a file: OpenAI with OPENAI_API_KEY, or without one the caller's own key goes through."""
    # OPENAI_BASE_URL is left alone: it is what apps set to find us, and we would find ourselves.
    state = Path(environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or "~", ".local", "state").expanduser())
    raw: dict[str, Any] = {
        "upstreams": {"openai": {"base_url": OPENAI}},
        "store": {"url": f"sqlite:{state / 'framegate' / 'framegate.db'}"},
    }
    if environ.get("OPENAI_API_KEY"):
        raw["upstreams"]["openai"]["api_key"] = "env:OPENAI_API_KEY"
        if registry.exists("keys"):
            raw["plugins"] = {"keys": {"mode": "open"}}
        if registry.exists("rehost"):
            raw["images"] = {"url": f"file:{state / 'framegate' / 'images'}"}
    else:
        raw["routes"] = [{"match": "* /v1/*", "chain": []}]
    return _read(raw, None, environ, listen, kept)


@dataclass(frozen=True, slots=True)
class _File:
    """The file's own shape. Plugins and routes are read one by one, so that a wrong one doesn't hide the others."""

    server: ServerTable = field(default_factory=ServerTable)
    admin: AdminTable | None = None
    store: StoreTable = field(default_factory=StoreTable)
    images: ImagesTable | None = None
    upstreams: dict[str, UpstreamTable] = field(default_factory=dict)
    keys: dict[str, KeyTable] = field(default_factory=dict)
    groups: dict[str, GroupTable] = field(default_factory=dict)
    models: dict[str, ModelTable] = field(default_factory=dict)
    prices: dict[str, Any] = field(default_factory=dict)
    plugins: dict[str, dict[str, Any]] = field(default_factory=dict)
    routes: tuple[dict[str, Any], ...] = ()
    failures: Any = None
    log: LogTable = field(default_factory=LogTable)


def _parse(path: Path) -> dict[str, Any]:
    def sorry(text: str) -> ConfigError:
        return ConfigError([Complaint(str(path), text)])

    try:
        text = path.read_bytes().decode("utf-8-sig")
        raw = tomllib.loads(text)
        if "prices" in raw:  # money is never a float
            raw["prices"] = tomllib.loads(text, parse_float=Decimal)["prices"]
        return raw
    except OSError as exc:
        raise sorry(f"can't be read: {exc.strerror or type(exc).__name__}") from exc
    except UnicodeDecodeError as exc:
        raise sorry("is not text in UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        # The parser says "... (at line 3, column 11)" or "(at end of document)" and never quotes the value.
        what, _, place = str(exc).rpartition(" (at ")
        place = place.rstrip(")")
        if not place.startswith("line "):
            lines = text.split("\n")
            place = f"line {len(lines)}, column {len(lines[-1]) + 1}"
        raise sorry(f"{place}: not TOML: {what}") from exc
    except (
        RecursionError,
        ValueError,
        InvalidOperation,
    ) as exc:  # a number of thousands of digits, brackets in brackets without end
        raise sorry("not TOML that can be read: a value is too long or too deep") from exc


def _read(
    raw: dict[str, Any], path: Path | None, environ: Mapping[str, str], listen: str | None, kept: OpenKept | None
) -> Config:
    folder = Path.cwd() if path is None else path.absolute().parent
    if listen is not None:
        if listen.startswith("unix:"):
            listen = f"unix:{Path(listen[5:]).absolute()}"  # typed on a command line: not relative to the file
        raw = {**raw, "server": {**check.table(raw, "server"), "listen": listen}}
    if isinstance(raw.get("admin"), dict):
        raw = {**raw, "admin": {"token": "env:FRAMEGATE_ADMIN_TOKEN", **raw["admin"]}}
    store = _store(raw, folder, environ)
    reader = Reader(folder, environ, None if kept is None else kept(store))
    file: _File = reader.table(_File, raw, "")
    routes = config_chains.routes(reader, file.routes, file.plugins, raw)
    plugins, unbuilt = config_chains.plugins(reader, file.plugins, routes)
    config = Config(
        path,
        _server(file.server, folder, check.table(raw, "server")),
        file.admin,
        store,
        _images(file.images, folder, store, plugins, routes),
        file.upstreams,
        file.keys,
        file.groups,
        file.models,
        plugins,
        tuple(routes.values()),
        file.log,
        _failures(reader, file.failures),
        tuple(unbuilt_in(raw)) + tuple(at("plugins", name) for name in unbuilt),
        _pair(reader, file.server, check.table(raw, "server")),
        _prices(reader, file.prices),
    )
    check.whole(reader, config, raw, routes)
    if reader.complaints:
        raise ConfigError(reader.complaints)
    return config


def store_of(path: Path, environ: Mapping[str, str]) -> StoreTable:
    """The file's table of the store alone, with its secrets. Raises ConfigError."""
    reader = Reader(path.absolute().parent, environ)
    raw = _parse(path)
    reader.table(StoreTable, raw.get("store", {}), "store")
    if reader.complaints:
        raise ConfigError(reader.complaints)
    return _store(raw, reader.folder, environ)


def _store(raw: Mapping[str, Any], folder: Path, environ: Mapping[str, str]) -> StoreTable:
    """The table with its paths made whole; the default's where it could not be read, which is complained of later."""
    store = Reader(folder, environ).table(StoreTable, raw.get("store", {}), "store")
    store = StoreTable() if store is BAD else store
    if store.redis is None:
        return replace(store, url=f"sqlite:{folder / store.path}")
    object.__setattr__(store, "folder", folder / store.folder)
    return store


def _images(
    images: ImagesTable | None,
    folder: Path,
    store: StoreTable,
    plugins: dict[str, PluginTable],
    routes: dict[str, RouteTable],
) -> ImagesTable | None:
    """The table with its path made whole; the default's where none is given and a route rehosts."""
    if images is None:
        used = {name for route in routes.values() for name in route.chain if name in plugins}
        if not any(plugins[name].kind == "rehost" for name in used):
            return None
        images = ImagesTable()
    if images.bucket is not None:
        return replace(images, spool=images.spool or store.folder / "images")
    return replace(images, url=f"file:{folder / images.path}")


def _server(server: ServerTable, folder: Path, raw: dict[str, Any]) -> ServerTable:
    """The table with the defaults that depend on where we listen."""
    listen = server.listen
    scheme = "http" if server.certificate is None else "https"
    if listen.path is not None:
        listen = replace(listen, path=str(folder / listen.path))
    return replace(
        server,
        listen=listen,
        public_url=server.public_url or f"{scheme}://{'localhost' if listen.path is not None else listen}",
        expose=server.expose if "expose" in raw or listen.loopback else "id",
    )


def _pair(reader: Reader, server: ServerTable, raw: dict[str, Any]) -> Pair | None:
    """The certificate and the key that the table names; None where there are none, or none that can be used."""
    if server.certificate is None or server.private_key is None:
        for one, other in (("certificate", "private_key"), ("private_key", "certificate")):
            if one in raw and other not in raw:
                reader.complain(f"server.{other}", f"missing; it and {one} are given together")
        return None
    if server.listen.path is not None:
        # Only this machine reaches one, and by its file's rights; whoever asks for TLS there means something else.
        text = f"TLS is not spoken on a Unix socket ({server.listen}); listen on HOST:PORT, or take both files out"
        reader.complain("server.certificate", text)
        return None
    from .pair import BadPair, Pair

    try:
        return Pair.read(server.certificate, server.private_key)
    except BadPair as exc:
        reader.complain(f"server.{exc.setting}", str(exc))
        return None


def _failures(reader: Reader, raw: object) -> tuple[Rule, ...]:
    """The operator's rules; none where one can't be read, which has been complained of."""
    if raw is None:
        return ()
    from ..openai.failure_rule import Rule

    rules = reader.value(tuple[Rule, ...], raw, "failures")
    return () if rules is BAD else rules


def _prices(reader: Reader, raw: Mapping[str, Any]) -> dict[str, Price]:
    """The prices by name or glob."""
    if not raw:
        return {}
    from .price import prices

    return prices(reader, raw)
