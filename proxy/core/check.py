"""What no table of the config can say alone: names that must exist, order, open proxies, ways round a quota."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..model.limit import NO_LIMITS, Limits
from ..model.prices import price_of
from ..model.slots import ANYBODY, CALLER
from . import order, proxies, registry
from .settings import Complaint, Reader
from .tables import PluginTable, RouteTable
from .words import at, nearest

if TYPE_CHECKING:
    from .config import Config

MASTER_KEY = "FRAMEGATE_MASTER_KEY"
# Settings of our own plugins that name upstreams, and whether they may name several.
NAMING = {"failover": {"to": True}, "moderation": {"upstream": True, "hook": False}}
METERS = ("quota", "moderation")  # kinds that a caller must not get round by taking another route


def whole(reader: Reader, config: Config, raw: dict[str, Any], routes: dict[str, RouteTable]) -> None:
    """Complain of all that is wrong between the tables. `raw` has the names of those that could not be read, too."""
    _names(reader, config, raw, routes)
    if config.server.loop == "uvloop" and find_spec("uvloop") is None:
        reader.complain("server.loop", "uvloop is not installed; pip install 'framegate[speed]'")
    if config.images is not None and config.images.bucket is not None and find_spec("aiobotocore") is None:
        reader.complain("images.url", "pictures in S3 need aiobotocore, which is missing; pip install 'framegate[s3]'")
    if config.store.redis is not None:
        if not reader.environ.get(MASTER_KEY, "").strip():
            text = f"a store that machines share needs a master key: set {MASTER_KEY} to the same value everywhere"
            reader.complain("store.url", text)
        for name in ("password", "sentinel_password"):
            if str(table(raw, "store").get(name)).startswith("secret:"):
                reader.complain(f"store.{name}", "the store that it opens can't hold it; write env:NAME or file:/path")
    for name, upstream in config.upstreams.items():
        try:
            proxies.find(upstream.proxy, upstream.base_url, reader.environ)
        except ValueError as exc:
            reader.complain(at(at("upstreams", name), "proxy"), str(exc))
    # A chain that could not be read says nothing about what it lacks.
    unread = {complaint.where.partition(".chain")[0] for complaint in reader.complaints if ".chain" in complaint.where}
    read = {
        where: route
        for where, route in routes.items()
        if where not in unread and all(name in config.plugins for name in route.chain)
    }
    for where, route in read.items():
        layers = [(name, config.plugins[name].kind, config.plugins[name].plugin) for name in route.chain]
        reader.complaints += order.complaints(layers, where)
    for name, plugin in config.plugins.items():
        try:
            order.reads((plugin.make(),))
        except ValueError as exc:
            reader.complain(at("plugins", name), str(exc))
    reader.complaints += _judges(config, read)
    reader.complaints += _open(config, read)
    reader.complaints += _shadowed(routes)
    reader.complaints += _unmetered(config, read)
    if len(read) == len(routes):
        reader.complaints += _uncounted(config, read)
    if not any(complaint.where.startswith("prices") for complaint in reader.complaints):
        reader.complaints += unpriced(config, read)


def table(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    """That table as written; empty where there is none or something else."""
    found = raw.get(key, {})
    return found if isinstance(found, dict) else {}


def names(to: object) -> tuple[str, ...]:
    """One name or several, as a tuple."""
    return (to,) if isinstance(to, str) else tuple(to) if isinstance(to, tuple | list) else ()


def _names(reader: Reader, config: Config, raw: dict[str, Any], routes: dict[str, RouteTable]) -> None:
    upstreams = table(raw, "upstreams")
    if not upstreams and isinstance(raw.get("upstreams", {}), dict):
        example = '[upstreams.openai] with base_url = "https://api.openai.com/v1"'
        reader.complain("upstreams", f"there is none; add one, such as {example}")
    elif config.upstreams and not config.usual:
        reader.complain("upstreams", "all of them stand aside; one at least must be asked where none is named")
    for section in ("upstreams", "keys", "groups", "plugins"):
        for name in table(raw, section):
            if not name.replace(".", "").replace("_", "").replace("-", "").isalnum() or not name.isascii():
                reader.complain(at(section, name), "a name is made of letters, digits, '.', '_' and '-'")
    if ANYBODY in table(raw, "keys"):
        text = "this is what callers are called who need no key (open mode); give the key another name"
        reader.complain(at("keys", ANYBODY), text)
    for section, tables in (("keys", config.keys), ("groups", config.groups)):
        for name, one in tables.items():
            for upstream in one.credentials:
                if upstream not in upstreams:
                    text = f"no such upstream '{upstream}'; {nearest(upstream, upstreams)}"
                    reader.complain(f"{at(section, name)}.credentials.{upstream}", text)
    for name, key in config.keys.items():
        if key.group is not None and key.group not in table(raw, "groups"):
            text = f"no such group '{key.group}'; {nearest(key.group, config.groups)}"
            reader.complain(f"{at('keys', name)}.group", text)
    for name, plugin in config.plugins.items():
        for setting, several in NAMING.get(plugin.kind, {}).items():
            for i, upstream in enumerate(names(plugin.settings.get(setting))):
                if upstream not in upstreams:
                    text = f"no such upstream '{upstream}'; {nearest(upstream, upstreams)}"
                    place = f"[{i}]" if several else ""
                    reader.complain(f"{at('plugins', name)}.{setting}{place}", text)
    for i, rule in enumerate(config.failures):
        for upstream in rule.upstream:
            if upstream not in upstreams:
                text = f"no such upstream '{upstream}'; {nearest(upstream, upstreams)}"
                reader.complain(f"failures[{i}].upstream", text)
    for where, route in routes.items():
        if route.upstream is not None and route.upstream not in upstreams:
            text = f"no such upstream '{route.upstream}'; {nearest(route.upstream, upstreams)}"
            reader.complain(f"{where}.upstream", text)


def _judges(config: Config, routes: Mapping[str, RouteTable]) -> Iterator[Complaint]:
    """Upstreams that judge by a contract of their own, and would be asked for answers as well."""
    for name, plugin in config.plugins.items():
        hook = plugin.settings.get("hook") if plugin.kind == "moderation" else None
        for where, route in routes.items():
            if hook in config.upstreams and hook in config.reach(route):
                text = f"is the hook of '{name}', and {where} would ask it for answers as well; say aside = true"
                yield Complaint(at("upstreams", str(hook)), text)
                break


def _open(config: Config, routes: Mapping[str, RouteTable]) -> Iterator[Complaint]:
    """No open proxy: who can't be told from anybody must not spend a credential of ours."""
    if config.server.listen.loopback:
        return
    for name, table in config.plugins.items():
        if table.make().anonymous and any(name in route.chain for route in routes.values()):
            text = f"lets everybody in, and {config.server.listen} is open to more than this machine"
            yield Complaint(at("plugins", name), f"{text}; listen on loopback or a Unix socket")
    for where, route in routes.items():
        tables = [config.plugins[name] for name in route.chain]
        if any(CALLER in table.plugin.fills and not table.make().anonymous for table in tables):
            continue
        for name in config.reach(route):
            if name in config.upstreams and config.has_credential(name):
                text = (
                    f"whoever reaches {config.server.listen} could spend the credential of upstream '{name}': "
                    "listen on loopback or a Unix socket, or put a plugin in the chain that knows its callers"
                )
                yield Complaint(where, text)
                break


def _shadowed(routes: Mapping[str, RouteTable]) -> Iterator[Complaint]:
    """Routes that no request can take."""
    seen: list[tuple[str, RouteTable]] = []
    for where, route in routes.items():
        for earlier, other in seen:
            if other.route().covers(route.route()):
                text = f"{earlier} ('{other.match}') already takes all that '{route.match}' would; put this one first"
                yield Complaint(f"{where}.match", text)
                break
        seen.append((where, route))


def _unmetered(config: Config, routes: Mapping[str, RouteTable]) -> Iterator[Complaint]:
    """Routes to the same upstreams as another, but without its quota or moderation."""
    kinds = {where: {config.plugins[name].kind for name in route.chain} for where, route in routes.items()}
    for where, route in routes.items():
        for meter in METERS:
            if route.unmetered or meter in kinds[where]:
                continue
            for other, metered in routes.items():
                shared = set(config.reach(route)).intersection(config.reach(metered))
                if meter in kinds[other] and shared:
                    text = (
                        f"reaches upstream '{min(shared)}' like {other}, but without its {meter}: "
                        f"put '{meter}' in the chain, or say unmetered = true"
                    )
                    yield Complaint(where, text)
                    break


def _uncounted(config: Config, routes: Mapping[str, RouteTable]) -> Iterator[Complaint]:
    """Limits that nobody counts: whoever writes one down relies on it."""
    written: list[Limits] = [route.limits for route in routes.values()]
    for tables in (config.keys, config.groups, config.models):
        written += [one.limits for one in tables.values()]
    if not any(written) or not registry.exists("quota"):
        return
    counting = {
        where: any(config.plugins[name].kind == "quota" for name in route.chain) for where, route in routes.items()
    }
    for where, route in routes.items():
        if route.limits and not counting[where]:
            yield Complaint(f"{where}.limits", "nothing counts them here; put 'quota' in this route's chain")
    if any(counting.values()):
        return
    for section, tables in (("keys", config.keys), ("groups", config.groups), ("models", config.models)):
        for name, one in tables.items():
            if one.limits:
                text = "no route's chain holds 'quota', so nothing counts them; put it in a chain, behind 'keys'"
                yield Complaint(f"{at(section, name)}.limits", text)


def unpriced(config: Config, routes: Mapping[str, RouteTable]) -> Iterator[Complaint]:
    """Budgets that refuse all that they apply to, since nothing of it has a price. Only what is certain is told."""
    quotas = {name: plugin for name, plugin in config.plugins.items() if plugin.kind == "quota" and _strict(plugin)}
    used = {name for route in routes.values() for name in route.chain if name in quotas}
    if not used:
        return  # nobody counts, or what has no price is let through
    general = {at("plugins", name): _limits(quotas[name]) for name in quotas if name in used}
    general |= {where: route.limits for where, route in routes.items() if used.intersection(route.chain)}
    keys = {at("keys", name): key.limits for name, key in config.keys.items()}
    groups = {at("groups", name): group.limits for name, group in config.groups.items()}
    models = {at("models", name): model.limits for name, model in config.models.items()}
    if not config.prices:
        example = '[prices] with "gpt-image-2" = { low = 0.006, medium = 0.053, high = 0.211 }'
        for where, limits in {**general, **keys, **groups, **models}.items():
            if limits.budget:
                yield Complaint(f"{where}.limits.budget", f"nothing has a price, so it would refuse all; add {example}")
        return
    for name, model in config.models.items():
        if model.limits.budget and _without(config, name):
            yield Complaint(f"{at('models', name)}.limits.budget", _no_price(name))
    metered = [route for route in routes.values() if used.intersection(route.chain)]
    everywhere = len(metered) == len(routes) and all(
        any(
            limits.budget for limits in (route.limits, *(_limits(quotas[name]) for name in route.chain if name in used))
        )
        for route in metered
    )
    for name, key in config.keys.items():
        group = config.groups.get(key.group or "")
        if not (everywhere or key.limits.budget or (group is not None and group.limits.budget)):
            continue
        for i, one in enumerate(key.models):
            if _without(config, one):
                yield Complaint(f"{at('keys', name)}.models[{i}]", _no_price(one))


def _strict(plugin: PluginTable) -> bool:
    """Whether it refuses what has no price."""
    return bool(plugin.settings.get("unknown_price", "refuse") == "refuse")


def _limits(plugin: PluginTable) -> Limits:
    limits = plugin.settings.get("limits", NO_LIMITS)
    return limits if isinstance(limits, Limits) else NO_LIMITS


def _without(config: Config, model: str) -> bool:
    """Whether that is an exact name, and has no price: neither itself nor as any upstream knows it."""
    if re.search(r"[*?\[\]]", model) or "moderation" in model:  # moderations are free
        return False
    names = [model, *(upstream.models[model] for upstream in config.upstreams.values() if model in upstream.models)]
    return all(price_of(config.prices, name) is None for name in names)


def _no_price(model: str) -> str:
    return f"'{model}' has no price in [prices], so a budget would refuse it; write one, or 0 if it costs nothing"
