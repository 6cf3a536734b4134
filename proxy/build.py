"""From a config to a generation: upstreams with their layers, plugins, routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .core import proxies
from .core.chain import Inner
from .core.credential import Credential
from .core.engine import Engine, Generation, Lane, Placed
from .core.gate import Gate
from .core.health import Health
from .core.model_names import ModelNames
from .core.queued import Queue
from .core.routes import Route, Routes
from .core.tables import QueueTable
from .core.upstreams import Upstream, Upstreams
from .images.renewal import Renewal
from .images.serving import Serving
from .images.sights import Sights
from .model.fetch import Remote
from .model.images import Stored
from .model.message import Request, Response
from .model.prices import Price, price_of
from .model.quota import Quotas
from .model.services import Callers, Clock, Failures, Services
from .model.slots import Caller
from .model.values import Secret
from .openai import image_tokens
from .openai.demand import demand
from .openai.failure_judge import Judge
from .prices.book import ConfigBook
from .state import State
from .wire.dial import Address
from .wire.fetch import Fetcher, Origin
from .wire.upstream import Wire

if TYPE_CHECKING:
    from .core.config import Config, RouteTable
    from .images.base import Images

STRICT = 2  # segments behind the prefix that may hold no needless escape where endpoints are judged by them


async def generation(
    config: Config,
    engine: Engine,
    state: State,
    clock: Clock,
    log: Any,
    *,
    make: Callable[..., Upstream] | None = None,
    remote: Remote | None = None,
) -> Generation:
    """A generation at work; raises what a plugin raised that could not start, having closed the others.

    `make` stands in for `upstream`, where a test has wires of its own, and `remote` for what fetches from URLs.
    """
    make = make or partial(upstream, environ=state.environ)
    health, quotas, failures = state.health(log), state.quotas(config, log), Judge(config.failures, clock)

    def made_of(name: str) -> Upstream:
        queue = _queue(config, name, state, quotas, failures, clock, log)
        return make(config, name, clock, engine.mark, health, queue)

    upstreams = Upstreams({name: made_of(name) for name in config.upstreams}, log, health, engine.spawn, config.usual)
    if _limited(config):
        image_tokens.load()  # it takes a moment, for which no request should wait
    made = Generation(upstreams, verbose=config.server.expose == "all")
    placed = {
        name: Placed(name, table.make(), table.on_crash)
        for name, table in config.plugins.items()
        if any(name in route.chain for route in config.routes)
    }
    images, sights = state.images(config), Sights()
    fetcher = Fetcher(_origins(config, state.environ), state.environ, clock, gate=state.gate())
    services = Services(
        upstreams=upstreams,
        store=state,
        quotas=quotas,
        prices=ConfigBook(_prices(config)),
        means=state.means,
        images=images,
        sights=sights,
        remote=remote or fetcher,
        callers=state.callers(_declared(config), frozenset(config.groups), log),
        failures=failures,
        vault=state.lent_vault(),
        clock=clock,
        log=log,
        spawn=engine.spawn,
    )
    await made.start([images, sights, fetcher, *[one.plugin for one in placed.values()]], services)
    made.files = _files(config, images, services.callers, log)
    made.routes = Routes(tuple([_route(config, made, table, placed, log) for table in config.routes]))
    return made


def _limited(config: Config) -> bool:
    """Whether anything of the config has limits. Keys in the store may have some all the same."""
    found = [plugin.settings.get("limits") for plugin in config.plugins.values()]
    for tables in (config.keys, config.groups, config.models, config.upstreams):
        found += [table.limits for table in tables.values()]
    return any(found) or any(route.limits for route in config.routes)


def upstream(
    config: Config,
    name: str,
    clock: Clock,
    mark: str = "",
    health: Health | None = None,
    queue: Inner | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Upstream:
    """One upstream: its wire and the layers that its table asks for. `environ` may name a proxy on the way."""
    table = config.upstreams[name]
    wire = Wire(
        table.base_url,
        clock,
        connect_timeout=table.connect_timeout,
        first_byte_timeout=table.first_byte_timeout,
        idle_timeout=table.idle_timeout,
        max_connections=table.max_connections,
        ca_file=table.ca_file,
        proxy=proxies.find(table.proxy, table.base_url, environ or {}),
    )
    swaps = config.has_credential(name)
    layers: tuple[tuple[str, Inner], ...] = () if queue is None else (("queue", queue),)
    if table.models or table.only:
        layers = (*layers, ("model names", ModelNames(table.models, table.only)))
    if swaps or table.headers:
        credential = Credential(
            table.api_key,
            auth=table.auth,
            headers=table.headers,
            swaps=swaps,
            of_callers={id: key.credentials[name] for id, key in config.keys.items() if name in key.credentials},
            of_groups={id: group.credentials[name] for id, group in config.groups.items() if name in group.credentials},
            mark=mark,
            upstream=name,
            health=health,
        )
        layers = (*layers, ("credential", credential))
    return Upstream(name, wire, layers)


def _queue(
    config: Config, name: str, state: State, quotas: Quotas, failures: Failures, clock: Clock, log: Any
) -> Queue | None:
    """What lets through only what the upstream's limits allow, where they are known."""
    table = config.upstreams[name]
    if not table.limits:
        return None
    queue, waiting = table.queue or QueueTable(), state.waiting(name)
    return Queue(
        name,
        Gate(name, table.limits, waiting, quotas, clock, log, queue.length),
        waiting,
        failures,
        clock,
        length=queue.length,
        wait=queue.wait,
        demand=partial(demand, means=state.means),
    )


def _route(config: Config, made: Generation, table: RouteTable, placed: dict[str, Placed], log: Any) -> Route[Lane]:
    reach = config.reach(table)
    lane = made.lane(
        [placed[name] for name in table.chain],
        log,
        prefix=table.prefix,
        upstream=table.upstream or reach[0],
        reach=frozenset(reach),
        deadline=table.deadline,
        max_body=table.max_body if table.max_body is not None else config.server.max_body,
        expose=config.server.expose,
    )
    judged = any(config.plugins[name].kind == "keys" for name in table.chain)
    strict = STRICT if judged else 0
    return Route(table.match, table.methods, table.pattern, table.prefix, lane, strict_segments=strict)


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
