"""From a config to a generation: upstreams with their layers, plugins, routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .core import proxies
from .core.credential import Credential
from .core.engine import Generation, Lane, Placed
from .core.routes import Route, Routes
from .core.upstreams import Upstream, Upstreams
from .wire.trust import Trust
from .wire.upstream import Wire

if TYPE_CHECKING:
    from .core.chain import Inner
    from .core.config import Config, RouteTable
    from .core.engine import Engine
    from .core.health import Health
    from .model.fetch import Remote
    from .model.services import Clock
    from .state import State

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
    trust = Trust()
    if make is None:
        secure = [table for table in config.upstreams.values() if urlsplit(table.base_url).scheme == "https"]
        await trust.read([table.ca_file for table in secure])
        make = partial(upstream, environ=state.environ, trust=trust)
    health = state.health(log)
    placed = {
        name: Placed(name, table.make(), table.on_crash)
        for name, table in config.plugins.items()
        if any(name in route.chain for route in config.routes)
    }
    lent = None
    if _lends(config):
        from .lent import Lent  # and with it half of the house, of which an empty chain needs nothing

        lent = Lent(config, state, clock, log, trust)

    def made_of(name: str) -> Upstream:
        return make(config, name, clock, engine.mark, health, None if lent is None else lent.queue(name))

    upstreams = Upstreams({name: made_of(name) for name in config.upstreams}, log, health, engine.spawn, config.usual)
    made = Generation(upstreams, verbose=config.server.expose == "all")
    if lent is not None:
        await lent.start(made, engine, placed, remote)
    made.routes = Routes(tuple([_route(config, made, table, placed, log) for table in config.routes]))
    return made


def load(config: Config) -> None:
    """Load what a generation of that config will need: who forks afterwards has it once for all."""
    if _lends(config):
        from .lent import load

        load(config)


def _lends(config: Config) -> bool:
    """Whether there is anybody to lend anything to, or a queue, or pictures to be served."""
    chained = any(route.chain for route in config.routes)
    return chained or config.images is not None or any(table.limits for table in config.upstreams.values())


def upstream(
    config: Config,
    name: str,
    clock: Clock,
    mark: str = "",
    health: Health | None = None,
    queue: Inner | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    trust: Trust | None = None,
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
        trust=trust,
    )
    swaps = config.has_credential(name)
    layers: tuple[tuple[str, Inner], ...] = () if queue is None else (("queue", queue),)
    names = credential = None
    if table.models or table.only:
        from .core.model_names import ModelNames  # and with it the reader of requests

        names = ModelNames(table.models, table.only)
        layers = (*layers, ("model names", names))
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
    return Upstream(name, wire, layers, names, credential)


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
