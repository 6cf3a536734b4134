"""Every table of the config, with its settings, their defaults and what one table alone can say about them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ..model.health import Capability
from ..model.limit import NO_LIMITS, Limits
from ..model.plugin import Plugin
from ..model.slots import Rehosting
from ..model.values import Duration, Secret, Several, Size
from . import proxies, registry, routes
from .said import at_least_one, certificates, longer_than_nothing
from .settings import Plain, SecretOrPlain
from .words import SECRET_FORM, hidden, nearest

CAPABILITIES: tuple[str, ...] = get_args(Capability)
Endpoint = Literal["inference", "stored", "batches", "fine-tuning", "client-secrets", "organization", "*"]

# Headers that framing, routing and the connection stand on: a config that set them would break both.
NOT_OURS_TO_SET = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "trailer", "keep-alive")
)
KIND = "kind:"  # of an entry of `only` that is no name: "kind:image"
MOST_WORKERS = 128  # more is a slip of the finger
ENVIRONMENT = Plain("env")  # HTTPS_PROXY and its like say what proxy there is
SECRET_HEADER = re.compile(r"authorization|cookie|token|secret|password|(^|-)key$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: host and port, or the path of a Unix socket."""

    host: str = "127.0.0.1"
    port: int = 8080
    path: str | None = None
    wanted: ClassVar[str] = 'an address such as "127.0.0.1:8080" or "unix:/run/framegate.sock"'

    @classmethod
    def parse(cls, text: str) -> Listen:
        """An address from "HOST:PORT", "[::1]:PORT" or "unix:/path"."""
        if text.startswith("unix:"):
            if not text[5:] or "\0" in text:
                raise ValueError(f'the path of the socket is missing in "{text}"')
            return cls("", 0, text[5:])
        host, colon, port = text.rpartition(":")
        if not colon or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
            raise ValueError(f'"{text}" is not {cls.wanted}')
        if not host:
            raise ValueError(f'"{text}" names no host; write "127.0.0.1{text}", or "0.0.0.0{text}" for all addresses')
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            _address(host)
        elif ":" in host:
            raise ValueError(f'an IPv6 address stands in brackets: "[{host}]:{port}"')
        elif not re.fullmatch(r"[A-Za-z0-9._-]+", host):
            raise ValueError(f'"{text}" is not {cls.wanted}')
        return cls(host, int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name: who knows where it leads
            return False

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServerTable:
    """`[server]`: the public port."""

    listen: Listen = Listen()
    certificate: Path | None = None  # with private_key: TLS
    private_key: Path | None = None
    public_url: str = ""  # not given: http:// + listen, or https://
    trusted_proxies: tuple[str, ...] = ()
    workers: int = 1
    loop: Literal["asyncio", "uvloop"] = "asyncio"
    drain_timeout: Duration = 60.0
    header_timeout: Duration = 20.0
    body_timeout: Duration = 60.0
    max_body: Size = 2**30
    max_json: Size = 64 * 2**20
    expose: Literal["all", "id"] = "all"  # not given and off loopback: "id"

    def __post_init__(self) -> None:
        if self.public_url:
            url = _url("public_url", self.public_url)
            if url.query or url.username is not None:
                raise ValueError("public_url must hold neither a query nor a user")
        for network in self.trusted_proxies:
            if network != "unix":
                try:
                    ipaddress.ip_network(network)
                except ValueError as exc:
                    raise ValueError(f'trusted_proxies: {exc}; write networks such as "10.0.0.0/8", or "unix"') from exc
        at_least_one(self, "workers", "max_body", "max_json")
        if self.workers > MOST_WORKERS:
            raise ValueError(f"workers must be at most {MOST_WORKERS}: each is a process, and one per core is plenty")
        longer_than_nothing(self, "header_timeout", "body_timeout")


@dataclass(frozen=True, slots=True)
class AdminTable:
    """`[admin]`: dashboard, admin API and metrics, on a port of their own."""

    token: Secret  # not given: env:FRAMEGATE_ADMIN_TOKEN
    listen: Listen | Literal["same"] = Listen("127.0.0.1", 8081)


@dataclass(frozen=True, slots=True)
class QueueTable:
    """`[upstreams.NAME] queue`: who waits where the upstream has limits."""

    length: int = 1000  # of each worker's
    wait: Duration = 120.0

    def __post_init__(self) -> None:
        at_least_one(self, "length")
        longer_than_nothing(self, "wait")


@dataclass(frozen=True, slots=True)
class UpstreamTable:
    """`[upstreams.NAME]`: a service that answers."""

    base_url: str
    api_key: Several[Secret] = ()
    auth: Literal["bearer", "api-key", "none"] = "bearer"
    headers: dict[str, SecretOrPlain] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    queue: QueueTable | None = None  # not given: the usual one, where there are limits
    connect_timeout: Duration = 5.0
    first_byte_timeout: Duration = 600.0
    idle_timeout: Duration = 300.0
    ca_file: Path | None = None
    proxy: SecretOrPlain = ENVIRONMENT
    max_connections: int = 0  # 0: as many as are wanted
    aside: bool = False  # asked only where it is named

    def __post_init__(self) -> None:
        url = _url("base_url", self.base_url)
        if url.username is not None or url.password is not None:
            raise ValueError("base_url must not hold a user or a password; give the key as api_key")
        if self.auth == "none" and self.api_key:
            raise ValueError('api_key is never sent with auth = "none"; take one of the two out')
        for name, value in self.headers.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                raise ValueError(f"headers: '{name}' is not the name of a header")
            if name.lower() in NOT_OURS_TO_SET:
                raise ValueError(f"headers: '{name}' is the connection's own and can't be set")
            if isinstance(value, Plain):
                if SECRET_HEADER.search(name) or hidden(value.reveal(), ""):
                    raise ValueError(f'headers: \'{name}\' looks like a secret; write it as "env:NAME" or "file:/path"')
                if re.search(r"[\x00-\x1f\x7f]", value.reveal()):
                    raise ValueError(f"headers: '{name}' holds a line break or another control character")
        if self.ca_file is not None:
            certificates(self.ca_file)
        if self.limits.budget:
            raise ValueError("limits: a budget is for those who ask, not for an upstream; give it to a key or a group")
        if self.queue is not None and not self.limits:
            raise ValueError("queue: nobody waits for an upstream without limits; give it limits, or take queue out")
        self._check_models()
        self._check_proxy()
        if self.max_connections < 0:
            raise ValueError("max_connections must be at least 1, or 0 for no limit")
        longer_than_nothing(self, "connect_timeout", "first_byte_timeout", "idle_timeout")

    def _check_models(self) -> None:
        for old, new in self.models.items():
            for name in (old, new):
                if re.search(r"[*?\[\]]", name):
                    raise ValueError(f"models: '{name}' is no exact name; globs such as '*' are for only, not here")
                model_name("models", name)
            if self.only and not any(one.startswith(KIND) or fnmatchcase(old, one) for one in self.only):
                raise ValueError(f"models renames '{old}', which is not among those that only lists; add it there")
        for one in self.only:
            if one.startswith(KIND) and (word := one.removeprefix(KIND)) not in CAPABILITIES:
                raise ValueError(f"only: there is no kind '{word}'; {nearest(word, CAPABILITIES)}")
            model_name("only", one)

    def _check_proxy(self) -> None:
        text = self.proxy.reveal()
        if text in ("env", "none"):
            return
        try:
            if "://" not in text:
                raise ValueError("it is no URL")
            credential = proxies.Proxy.parse(text).credential
        except ValueError as exc:
            raise ValueError(f"proxy can't be used: {exc}; write {proxies.WANTED}") from exc
        if credential is not None and isinstance(self.proxy, Plain):
            raise ValueError(f"proxy holds a user or a password; write the whole URL as {SECRET_FORM}")

    @property
    def has_credential(self) -> bool:
        """Whether whoever reaches it spends a secret of ours: a key, a secret header, or one in base_url's query."""
        named = any(SECRET_HEADER.search(name) for name, _ in parse_qsl(urlsplit(self.base_url).query))
        return bool(self.api_key) or named or any(not isinstance(value, Plain) for value in self.headers.values())

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its inner layers, outermost first."""
        there = {
            "queue": bool(self.limits),
            "model names": bool(self.models or self.only),
            "credential": bool(self.api_key or self.headers),
            "wire": True,
        }
        return tuple([name for name, is_there in there.items() if is_there])


@dataclass(frozen=True, slots=True)
class KeyTable:
    """`[keys.NAME]`: a caller's key, declared in the file."""

    secret: Secret
    group: str | None = None
    models: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ("inference",)
    credentials: dict[str, Secret] = field(default_factory=dict)  # by upstream, in place of the upstream's own
    rehost: Rehosting | None = None  # in place of the plugin's mode
    limits: Limits = NO_LIMITS

    def __post_init__(self) -> None:
        for one in self.models:
            model_name("models", one)
        if not self.endpoints:
            raise ValueError("endpoints must name at least one sort")


@dataclass(frozen=True, slots=True)
class GroupTable:
    """`[groups.NAME]`: what several keys share."""

    credentials: dict[str, Secret] = field(default_factory=dict)  # by upstream, in place of the upstream's own
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class ModelTable:
    """`[models."GLOB"]`: limits for the models whose name matches."""

    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class PluginTable:
    """`[plugins.NAME]`: one instance of a plugin. What stands in its table beside these two is the plugin's own."""

    name: str
    plugin: type[Plugin]
    use: str  # not given: the table's name
    on_crash: Literal["refuse", "skip"] = "refuse"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What sort of plugin it is, whatever its name."""
        return registry.kind(self.use)

    def make(self) -> Plugin:
        """A fresh instance."""
        own = {key: value.copy() if isinstance(value, dict | list) else value for key, value in self.settings.items()}
        made = self.plugin(**own)
        made.known_as = self.name
        return made


@dataclass(frozen=True, slots=True)
class RouteTable:
    """`[[routes]]`: methods and paths, and the chain behind them."""

    match: str
    chain: tuple[str, ...] = ()  # not given: those plugins of the usual chain that are installed
    upstream: str | None = None
    prefix: str = "/v1"
    deadline: Duration = 600.0
    limits: Limits = NO_LIMITS
    max_body: Size | None = None
    max_json: Size | None = None
    unmetered: bool = False
    methods: frozenset[str] | None = field(init=False)
    pattern: str = field(init=False)

    def __post_init__(self) -> None:
        methods, pattern = routes.match(self.match)
        object.__setattr__(self, "methods", methods)
        object.__setattr__(self, "pattern", pattern)
        if self.prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", self.prefix):
            raise ValueError(f"the prefix \"{self.prefix}\" must be like \"/v1\": a '/' in front, none behind, no '*'")
        if self.pattern != self.prefix and not self.pattern.startswith(f"{self.prefix}/"):
            raise ValueError(
                f"the pattern '{self.pattern}' does not begin with the prefix '{self.prefix}/'; "
                "set prefix to the part that is to be cut off before the upstream's base_url is put in its place"
            )
        longer_than_nothing(self, "deadline")
        at_least_one(self, *(name for name in ("max_body", "max_json") if getattr(self, name) is not None))

    def route(self) -> routes.Route[None]:
        """This route for questions about its pattern alone."""
        return routes.Route(self.match, self.methods, self.pattern, self.prefix, None)


@dataclass(frozen=True, slots=True)
class LogTable:
    """`[log]`: what is written to standard error."""

    format: Literal["json", "text"] = "json"
    exchanges: bool = True


def model_name(setting: str, text: str) -> None:
    """Raise ValueError for what is neither the name of a model nor a glob of names."""
    if not text or not text.isprintable() or " " in text or "," in text:
        raise ValueError(f"{setting}: '{text}' is no name of a model; it must hold no blank and no comma")


def _url(name: str, text: str) -> SplitResult:
    """An http(s) URL taken apart; complaints don't repeat it, for it may hold a secret."""
    if re.search(r"[\x00-\x20\x7f\\]", text):
        raise ValueError(f"{name} holds a blank, a backslash or a control character")
    try:
        url = urlsplit(text)
        url.port  # noqa: B018 - asking is the check
    except ValueError as exc:
        raise ValueError(f"{name} is not a URL: its host or port can't be read") from exc
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f'{name} must be a whole URL such as "https://api.openai.com/v1"')
    if url.fragment or "#" in text:
        raise ValueError(f"{name} must not hold a fragment ('#...')")
    return url


def _address(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError as exc:
        raise ValueError(f'"[{host}]" is not an IPv6 address') from exc
