"""What plugins are lent, and the queues before upstreams: loaded for a config that has one or the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .core import proxies
from .core.tables import QueueTable
from .model.prices import price_of
from .model.services import Services
from .model.slots import Caller
from .prices.book import ConfigBook

if TYPE_CHECKING:  # and at run time for the part that needs it
    from .core.config import Config
    from .core.engine import Engine, Generation, Placed
    from .core.queued import Queue
    from .images.base import Images
    from .images.sights import Sights
    from .model.fetch import Remote
    from .model.images import Stored
    from .model.message import Request, Response
    from .model.prices import Price
    from .model.services import Callers, Clock
    from .model.values import Secret
    from .openai.failure_judge import Judge
    from .state import State
    from .wire.dial import Address
    from .wire.fetch import Fetcher, Origin
    from .wire.trust import Trust

# Installed plugins that take no part which is long to load. Where there is any other, all parts are there at the start,
# lest a request wait for one: together they are some 20 ms, and 2 MB.
FRUGAL = frozenset(("keys",))
# For who forks: what else is loaded where it is first used.
STORE = ("core.callers", "core.claims", "core.quota", "store.memory", "store.vault")
PARTS = (
    "core.reading",
    "images.base",
    "images.serving",
    "images.sights",
    "openai.demand",
    "openai.failure_judge",
    "wire.fetch",
)
QUEUE = ("core.gate", "core.queued", "openai.demand", "openai.failure_judge")


def load(config: Config) -> None:
    """Load all that may be lent under that config."""
    found = [*STORE, "store.sqlite" if config.store.redis is None else "store.redis"]
    if not _frugal(config):
        found += PARTS
    if any(table.limits for table in config.upstreams.values()):
        found += QUEUE
    for name in found:
        import_module(f".{name}", __package__)


def _frugal(config: Config) -> bool:
    """Whether no plugin of a chain takes a part that is long to load, and no pictures are served."""
    used = {name for route in config.routes for name in route.chain}
    return config.images is None and all(config.plugins[name].use in FRUGAL for name in used)


class Lent:
    """What one generation lends: to its plugins, and to the queues before its upstreams."""

    def __init__(self, config: Config, state: State, clock: Clock, log: Any, trust: Trust) -> None:
        self.quotas = state.quotas(config, log)
        self._config = config
        self._state = state
        self._clock = clock
        self._log = log
        self._trust = trust
        self._judge: Judge | None = None
        if _limited(config):
            from .openai import image_tokens

            image_tokens.load()  # it takes a moment, for which no request should wait

    def queue(self, name: str) -> Queue | None:
        """What lets through only what that upstream's limits allow, where they are known."""
        table = self._config.upstreams[name]
        if not table.limits:
            return None
        from .core.gate import Gate
        from .core.queued import Queue
        from .openai.demand import demand

        queue, waiting = table.queue or QueueTable(), self._state.waiting(name)
        return Queue(
            name,
            Gate(name, table.limits, waiting, self.quotas, self._clock, self._log, queue.length),
            waiting,
            self._failures(),
            self._clock,
            length=queue.length,
            wait=queue.wait,
            demand=partial(demand, means=self._state.means),
        )

    async def start(
        self, made: Generation, engine: Engine, placed: Mapping[str, Placed], remote: Remote | None = None
    ) -> None:
        """Open what is lent, then the plugins; `remote` stands in for what fetches from URLs."""
        config, state, plugins = self._config, self._state, [one.plugin for one in placed.values()]
        there: dict[str, Any] = {
            "upstreams": made.upstreams,
            "store": state,
            "quotas": self.quotas,
            "prices": ConfigBook(_prices(config)),
            "callers": state.callers(_declared(config), frozenset(config.groups), self._log),
            "vault": state.lent_vault(),
            "clock": self._clock,
            "log": self._log,
            "spawn": engine.spawn,
        }
        late: dict[str, Callable[[], Any]] = {
            "means": lambda: state.means,
            "images": partial(state.images, config),
            "sights": _sights,
            "remote": partial(_fetcher, config, state, self._clock, self._trust) if remote is None else lambda: remote,
            "failures": self._failures,
        }
        if _frugal(config):
            later = Later(late, there)
            await made.start([later, *plugins], later)
            return
        parts = {name: make() for name, make in late.items()}
        images, sights = parts["images"], parts["sights"]
        fetcher = [parts["remote"]] if remote is None else []
        services = Services(**there, **parts)
        await made.start([images, sights, *fetcher, *plugins], services)
        made.files = _files(config, images, services.callers, self._log)

    def _failures(self) -> Judge:
        if self._judge is None:
            from .openai.failure_judge import Judge

            self._judge = Judge(self._config.failures, self._clock)
        return self._judge


class Later(Services):
    """Services of which some parts are made when somebody takes them, if anybody ever does."""

    __slots__ = ("_late", "_made")

    def __init__(self, late: Mapping[str, Callable[[], Any]], there: Mapping[str, Any]) -> None:
        for name, part in {"_late": late, "_made": [], **there}.items():
            object.__setattr__(self, name, part)

    def __getattr__(self, name: str) -> Any:  # of a part that is there nobody asks this
        if name not in self._late:
            raise AttributeError(name)
        part = self._late[name]()
        object.__setattr__(self, name, part)
        self._made.append(part)
        return part

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Close at the end what was made."""
        try:
            yield
        finally:
            for part in self._made:
                if hasattr(part, "aclose"):
                    await part.aclose()


def _sights() -> Sights:
    from .images.sights import Sights

    return Sights()


def _fetcher(config: Config, state: State, clock: Clock, trust: Trust) -> Fetcher:
    from .wire.fetch import Fetcher

    return Fetcher(_origins(config, state.environ, trust), state.environ, clock, gate=state.gate(), trust=trust)


def _limited(config: Config) -> bool:
    """Whether anything of the config has limits. Keys in the store may have some all the same."""
    found = [plugin.settings.get("limits") for plugin in config.plugins.values()]
    for tables in (config.keys, config.groups, config.models, config.upstreams):
        found += [table.limits for table in tables.values()]
    return any(found) or any(route.limits for route in config.routes)


def _files(
    config: Config, images: Images, callers: Callers, log: Any
) -> Callable[[Request], Awaitable[Response]] | None:
    if config.images is None or images.rules is None:
        return None
    from .images.renewal import Renewal
    from .images.serving import Serving

    accel = config.images.accel

    def where(stored: Stored) -> str:
        return accel + images.files.place_of(stored.sha256)

    return Serving(
        images.index.get,
        images.opened,
        images.clock,
        log,
        thumbs=images.thumbs,
        renewal=Renewal(callers, images.signed_anew),
        links=images.rules.links,
        accel=where if accel else None,
        accel_root=accel,
    )


def _origins(config: Config, environ: Mapping[str, str], trust: Trust) -> dict[str, Origin]:
    """Whence the pictures of upstreams may come, wherever these are."""
    from .wire.dial import Address
    from .wire.fetch import Origin

    def address(name: str) -> Address:
        table = config.upstreams[name]
        proxy = proxies.find(table.proxy, table.base_url, environ)
        return Address(table.base_url, ca_file=table.ca_file, proxy=proxy, trust=trust)

    return {
        name: Origin(table.base_url, partial(address, name), table.proxy) for name, table in config.upstreams.items()
    }


def _prices(config: Config) -> dict[str, Price]:
    """What models cost, also under the names that clients have for them where only an upstream's own has a price."""
    prices = dict(config.prices)
    renamed = [(old, new) for table in config.upstreams.values() for old, new in table.models.items()]
    for old, _ in renamed:
        if price_of(config.prices, old) is None:
            found = [price_of(config.prices, new) for name, new in renamed if name == old]
            if found[0] is not None and all(price == found[0] for price in found):  # else nobody can tell ahead
                prices[old] = found[0]
    return prices


def _declared(config: Config) -> list[tuple[Secret, Caller]]:
    return [
        (key.secret, Caller(name, key.group, name, frozenset(key.endpoints), key.models, key.rehost, key.limits))
        for name, key in config.keys.items()
    ]
