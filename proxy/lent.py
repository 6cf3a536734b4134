"""What plugins are lent, and the queues before upstreams: loaded for a config that has one or the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .core import proxies
from .core.gate import Gate
from .core.queued import Queue
from .core.tables import QueueTable
from .images.renewal import Renewal
from .images.serving import Serving
from .images.sights import Sights
from .model.prices import price_of
from .model.services import Services
from .model.slots import Caller
from .openai import image_tokens
from .openai.demand import demand
from .openai.failure_judge import Judge
from .prices.book import ConfigBook
from .wire.dial import Address
from .wire.fetch import Fetcher, Origin

if TYPE_CHECKING:
    from .core.config import Config
    from .core.engine import Engine, Generation, Placed
    from .images.base import Images
    from .model.fetch import Remote
    from .model.images import Stored
    from .model.message import Request, Response
    from .model.prices import Price
    from .model.services import Callers, Clock
    from .model.values import Secret
    from .state import State


class Lent:
    """What one generation lends: to its plugins, and to the queues before its upstreams."""

    def __init__(self, config: Config, state: State, clock: Clock, log: Any) -> None:
        self.quotas = state.quotas(config, log)
        self.failures = Judge(config.failures, clock)
        self._config = config
        self._state = state
        self._clock = clock
        self._log = log
        if _limited(config):
            image_tokens.load()  # it takes a moment, for which no request should wait

    def queue(self, name: str) -> Queue | None:
        """What lets through only what that upstream's limits allow, where they are known."""
        table = self._config.upstreams[name]
        if not table.limits:
            return None
        queue, waiting = table.queue or QueueTable(), self._state.waiting(name)
        return Queue(
            name,
            Gate(name, table.limits, waiting, self.quotas, self._clock, self._log, queue.length),
            waiting,
            self.failures,
            self._clock,
            length=queue.length,
            wait=queue.wait,
            demand=partial(demand, means=self._state.means),
        )

    async def start(
        self, made: Generation, engine: Engine, placed: Sequence[Placed], remote: Remote | None = None
    ) -> None:
        """Open what can be lent, then the plugins; `remote` stands in for what fetches from URLs."""
        config, state = self._config, self._state
        images, sights = state.images(config), Sights()
        fetcher = Fetcher(_origins(config, state.environ), state.environ, self._clock, gate=state.gate())
        services = Services(
            upstreams=made.upstreams,
            store=state,
            quotas=self.quotas,
            prices=ConfigBook(_prices(config)),
            means=state.means,
            images=images,
            sights=sights,
            remote=remote or fetcher,
            callers=state.callers(_declared(config), frozenset(config.groups), self._log),
            failures=self.failures,
            vault=state.lent_vault(),
            clock=self._clock,
            log=self._log,
            spawn=engine.spawn,
        )
        await made.start([images, sights, fetcher, *[one.plugin for one in placed]], services)
        made.files = _files(config, images, services.callers, self._log)


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


def _origins(config: Config, environ: Mapping[str, str]) -> dict[str, Origin]:
    """Whence the pictures of upstreams may come, wherever these are."""

    def address(name: str) -> Address:
        table = config.upstreams[name]
        proxy = proxies.find(table.proxy, table.base_url, environ)
        return Address(table.base_url, ca_file=table.ca_file, proxy=proxy)

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
