from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.api import CALLER, Plugin, Secret, Slot
from proxy.core import config as module
from proxy.core import registry
from proxy.core.config import (
    UNBUILT,
    AdminTable,
    Complaint,
    Config,
    ConfigError,
    GroupTable,
    ImagesTable,
    KeyTable,
    Listen,
    LogTable,
    ModelTable,
    PluginTable,
    QueueTable,
    RouteTable,
    ServerTable,
    StoreTable,
    UpstreamTable,
    load,
    unbuilt_in,
    zero,
)
from proxy.core.price import PriceTable
from proxy.core.settings import settings_of
from proxy.model.bucket import Account, Bucket
from proxy.model.limit import Limits
from proxy.openai.failure_rule import Rule

ROOT = Path(__file__).parent.parent.parent
KEY = "hunter2-the-real-key"
ENVIRON = {
    "OPENAI_API_KEY": KEY,
    "OPENAI_SECOND_KEY": KEY,
    "AZURE_KEY": KEY,
    "MARKETING_KEY": KEY,
    "FRAMEGATE_ADMIN_TOKEN": KEY,
}
ONE = '[upstreams.openai]\nbase_url = "https://api.openai.com/v1"\napi_key = "env:OPENAI_API_KEY"\n'
TWO = ONE + '[upstreams.azure]\nbase_url = "https://acme.example/v1"\n'
OPEN = '[server]\nlisten = "0.0.0.0:8080"\n'
HERE = __name__


class Keys(Plugin):
    fills: ClassVar[tuple[Slot[Any], ...]] = (CALLER,)


class Quota(Plugin):
    """Counts."""

    needs: ClassVar[tuple[Slot[Any], ...]] = (CALLER,)


class Failover(Plugin):
    to: tuple[str, ...] = ()
    inside: ClassVar[tuple[str, ...]] = ("quota",)


class Stamp(Plugin):
    text: str
    marks: list[str]
    token: Secret | None = None
    skippable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("text must not be empty")


class Rehost(Plugin):
    pass


class Nosy(Plugin):
    reads = ("usage", "image")


class Broken(Plugin):
    def __post_init__(self) -> None:
        raise KeyError("oh")


PLUGINS = "".join(
    f'[plugins.{name}]\nuse = "{HERE}:{cls}"\n'
    for name, cls in (("callers", "Keys"), ("count", "Quota"), ("again", "Failover"))
)


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Reads a file where no plugins are installed."""
    monkeypatch.setattr(registry, "claims", dict)

    def from_text(text: str, listen: str | None = None, **environ: str) -> Config:
        path = tmp_path / "framegate.toml"
        path.write_text(text)
        return load(path, ENVIRON | environ, listen=listen)

    return from_text


@pytest.fixture
def said(read: Callable[..., Config]) -> Callable[..., list[str]]:
    def complaints(text: str, **more: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, **more)
        assert KEY not in str(caught.value)
        return str(caught.value).splitlines()

    return complaints


# --- Reading


def test_the_smallest_file_has_every_default(read: Callable[..., Config]) -> None:
    config = read(ONE)
    assert config.server == replace(ServerTable(), public_url="http://127.0.0.1:8080")
    assert config.log == LogTable("json", True)
    assert config.upstreams["openai"].api_key == (Secret(KEY),)
    assert [(route.match, route.chain, route.upstream, route.prefix) for route in config.routes] == [
        ("* /v1/*", (), None, "/v1")
    ]
    assert (config.admin, config.plugins, config.unbuilt) == (None, {}, ())
    assert config.reach(config.routes[0]) == ("openai",)


def test_reads_the_file_of_the_design(read: Callable[..., Config]) -> None:
    config = read(
        TWO
        + """
        models = { "gpt-image-2" = "my-image-deployment" }
        limits = { images = "50 / 1m", concurrent = 10 }
        [server]
        listen = "unix:run/framegate.sock"
        workers = 1
        [admin]
        listen = "same"
        [store]
        timezone = "Europe/Berlin"
        [images]
        ttl = "forever"
        [keys.marketing-web]
        secret = "env:MARKETING_KEY"
        group = "marketing"
        limits = { images = "20 / 1m", budget = "25 USD / month" }
        [groups.marketing]
        limits = { budget = "200 USD / month" }
        [models."gpt-image-*"]
        limits = { images = ["20 / 1m", "500 / 1d"] }
        [plugins.quota]
        per = "key"
        limits = { concurrent = 10 }
        [[routes]]
        match = "POST /v1/images/*"
        upstream = "azure"
        max_body = "10MB"
        limits = { requests = "20 / 10s" }
        [[routes]]
        match = "* /v1/*"
        """
    )
    assert config.server.listen.path is not None
    assert config.server.listen.path.endswith("/run/framegate.sock")
    assert config.server.listen.path.startswith("/")
    assert config.admin == AdminTable(Secret(KEY), "same")
    assert config.keys["marketing-web"].limits.images[0].count == 20
    assert config.routes[0].methods == frozenset(("POST",))
    assert config.routes[0].max_body == 10_000_000
    assert config.reach(config.routes[0]) == ("azure",)
    assert config.unbuilt == (
        "admin",
        "store.timezone",
        "keys.marketing-web.limits",
        "groups.marketing.limits",
        "models",
        "routes[0].limits",
        "plugins.quota",
    )


def test_makes_fresh_instances_of_plugins(read: Callable[..., Config]) -> None:
    config = read(ONE + f'[plugins.mark]\nuse = "{HERE}:Stamp"\non_crash = "skip"\ntext = "x"\nmarks = ["a"]\n')
    table = config.plugins["mark"]
    assert (table.on_crash, table.plugin, table.kind) == ("skip", Stamp, "stamp")
    first, second = table.make(), table.make()
    assert first == second == Stamp("x", ["a"])
    assert first is not second
    assert first.marks is not second.marks


def test_the_command_lines_address_replaces_the_files(read: Callable[..., Config], tmp_path: Path) -> None:
    assert read(ONE + OPEN, listen="[::1]:0").server.listen == Listen("::1", 0)
    assert read(ONE, listen="unix:/run/x").server.listen.path == "/run/x"
    assert read(ONE, listen="unix:x").server.listen.path == str(Path.cwd() / "x")


def test_answers_name_only_the_id_off_loopback_unless_told_otherwise(read: Callable[..., Config]) -> None:
    keyless = ONE.replace("api_key", "# api_key")
    assert read(keyless).server.expose == "all"
    assert read(keyless + OPEN).server.expose == "id"
    assert read(keyless + OPEN + 'expose = "all"').server.expose == "all"


def test_zero_config_is_openai_on_loopback() -> None:
    config = zero({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1"})
    assert (str(config.server.listen), config.path) == ("127.0.0.1:8080", None)
    assert config.upstreams["openai"].base_url == "https://api.openai.com/v1"
    assert config.upstreams["openai"].has_credential


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": ""}])
def test_zero_config_without_a_key_is_transparent(environ: dict[str, str]) -> None:
    config = zero(environ)
    assert not config.upstreams["openai"].has_credential
    assert config.routes[0].chain == ()
    assert config.upstreams["openai"].layers == ("wire",)


def test_zero_config_with_a_key_stays_on_loopback() -> None:
    with pytest.raises(ConfigError, match="could spend the credential"):
        zero({"OPENAI_API_KEY": KEY}, listen="0.0.0.0:8080")
    assert zero({}, listen="0.0.0.0:8080").server.expose == "id"


# --- Complaints


def test_says_every_complaint_at_once_each_with_its_address(said: Callable[..., list[str]]) -> None:
    complaints = said(
        """
        [server]
        lisen = "127.0.0.1:80"
        listen = 8080
        [upstream.x]
        [upstreams.openai]
        base_url = "api.openai.com"
        api_key = "env:NOT_SET"
        [upstreams.azure]
        api_key = "hunter2-the-real-key"
        [plugins.mark]
        use = "no.such:Thing"
        [[routes]]
        match = "/v1/*"
        [[routes]]
        match = "* /v1/*"
        chain = ["kyes", "quota"]
        upstream = "azur"
        [log]
        format = "xml"
        """
    )
    assert complaints == [
        "upstream: no such setting; did you mean 'upstreams'?",
        "server.lisen: no such setting; did you mean 'listen'?",
        f"server.listen: expected {Listen.wanted}, found the number 8080",
        "upstreams.openai.api_key: the environment variable NOT_SET is not set",
        'upstreams.openai: base_url must be a whole URL such as "https://api.openai.com/v1"',
        "upstreams.azure.base_url: missing; it must be given: text",
        'upstreams.azure.api_key: a secret is written as "env:NAME", "file:/path" or "secret:NAME", never as itself',
        'log.format: expected "json" or "text", found the text "xml"',
        'routes[0]: \'/v1/*\' is not of the form "* /v1/*" or "GET,POST /v1/files/*"',
        "plugins.mark.use: can't import no.such: ModuleNotFoundError: No module named 'no'",
        "routes[1].chain[0]: no such plugin 'kyes'; there are mark",
        "routes[1].chain[1]: 'quota' is not part of this version; take it out of the chain",
        "routes[1].upstream: no such upstream 'azur'; did you mean 'azure'?",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "upstreams: there is none; add one, such as [upstreams.openai]"),
        ("[upstreams]", "upstreams: there is none"),
        ("upstreams = 3", "upstreams: expected a table"),
        ("routes = 3\n" + ONE, "routes: expected a list"),
        ("server = 3\n" + ONE, "server: expected a table"),
        (
            ONE + '[[routes]]\nmach = "* /v1/*"\nmatch = "* /v1/*"',
            "routes[0].mach: no such setting; did you mean 'match'?",
        ),
        (
            ONE + '[[routes]]\nmatch = "* /openai/*"',
            "routes[0]: the pattern '/openai/*' does not begin with the prefix",
        ),
        (ONE + '[[routes]]\nmatch = "* /v1/*"\nprefix = "/v1/"', 'routes[0]: the prefix "/v1/" must be like'),
        (ONE + '[[routes]]\nmatch = "* /v1/*"\ndeadline = "0s"', "routes[0]: deadline must be longer than nothing"),
        (
            ONE + '[[routes]]\nmatch = "* /v1/*"\ndeadline = 600',
            'routes[0].deadline: a duration needs its unit, as in "600s"',
        ),
        (ONE + '[[routes]]\nmatch = "* /v1/*"\nmax_body = "0B"', "routes[0]: max_body must be at least 1"),
        (
            ONE + '[[routes]]\nmatch = "* /v1/*"\nchain = ["tasks"]',
            "routes[0].chain[0]: 'tasks' is not part of this version",
        ),
        (ONE + '[[routes]]\nmatch = "* /v1/*"\nchain = ["x"]', "routes[0].chain[0]: no such plugin 'x'"),
        (ONE + '[[routes]]\nmatch = "* /v1/*"\nchain = ["a:B"]', "routes[0].chain[0]: no such plugin 'a:B'"),
        (ONE + '[server]\nlisten = ":8080"', 'server.listen: ":8080" names no host; write "127.0.0.1:8080"'),
        (ONE + '[server]\nlisten = "::1:8080"', 'server.listen: an IPv6 address stands in brackets: "[::1]:8080"'),
        (ONE + '[server]\nlisten = "[::zz]:80"', 'server.listen: "[::zz]" is not an IPv6 address'),
        (ONE + '[server]\nlisten = "localhost:99999"', 'server.listen: "localhost:99999" is not an address'),
        (ONE + '[server]\nlisten = "unix:"', "server.listen: the path of the socket is missing"),
        (ONE + "[server]\nworkers = 0", "server: workers must be at least 1"),
        (
            ONE + "[server]\nworkers = 129",
            "server: workers must be at most 128: each is a process, and one per core is plenty",
        ),
        (ONE + '[server]\ntrusted_proxies = ["10.0.0.1/8"]', "server: trusted_proxies: 10.0.0.1/8 has host bits set"),
        (ONE + '[server]\npublic_url = "img.example.com"', "server: public_url must be a whole URL"),
        (ONE + '[store]\nurl = "postgres://x"', 'store: url must be "sqlite:PATH"'),
        (ONE + '[store]\ntimezone = "Mars/Olympus"', 'store: there is no timezone "Mars/Olympus"'),
        (
            ONE + '[admin]\ntoken = "env:AZURE_KEY"\nlisen = "same"',
            "admin.lisen: no such setting; did you mean 'listen'?",
        ),
        (ONE + '[images]\nurl = "/srv/images"', 'images: url must be "file:PATH"'),
        (ONE + '[images]\nurl = "s3://bucket"', "images: url names no region; write s3://BUCKET?region="),
        (ONE + '[images]\nurl = "s3://b?region=r"', "images: url names no bucket (3 to 63 small letters"),
        (ONE + '[images]\nurl = "s3://bucket/../x?region=r"', "images: the prefix in url is made of letters"),
        (ONE + '[images]\nurl = "s3://bucket/%2e?region=r"', "images: the prefix in url is made of letters"),
        (ONE + '[images]\nurl = "s3://u:p@bucket?region=r"', "images: url must not hold a user or a password"),
        (ONE + '[images]\nurl = "s3://bucket?regoin=r"', "images: url holds a key behind '?' that there is not; did"),
        (ONE + '[images]\nurl = "s3://bucket?secret=x"', "that there is not; there are region, endpoint, style"),
        (ONE + '[images]\nurl = "s3://bucket?region=r&region=r"', "images: url gives region twice"),
        (ONE + '[images]\nurl = "s3://bucket?region="', "images: url gives region without a value"),
        (ONE + '[images]\nurl = "s3://bucket?region=a/b"', "images: the region in url is made of small letters"),
        (ONE + '[images]\nurl = "s3://bucket?region=r&style=x"', "images: the style in url is path or virtual"),
        (ONE + '[images]\nurl = "s3://bucket?endpoint=s3.example.com"', "images: the endpoint in url must be a whole"),
        (ONE + '[images]\nurl = "s3://bucket?endpoint=http://h:x"', "images: the endpoint in url must be a whole URL"),
        (ONE + '[images]\nurl = "s3://bucket?endpoint=http://u:p@h"', "images: the endpoint in url must not hold a"),
        (ONE + '[images]\nurl = "s3://bucket?region=r#x"', "images: url holds a blank, a backslash, a '#' or"),
        (ONE + '[images]\nurl = "s3://bucket?region=r"\naccel = "/x/"', "images: accel is for a folder: nginx can't"),
        (
            ONE + '[images]\nurl = "s3://bucket?region=r"\naccess_key = "env:OPENAI_API_KEY"',
            "images: access_key and secret_key are given together, or neither",
        ),
        (
            ONE + '[images]\nurl = "s3://bucket?region=r"\naccess_key = "AKIA1"',
            "images.access_key: a secret is written as",
        ),
        (
            ONE + '[images]\nurl = "s3://bucket?region=r"\ntimeout = "10m"',
            "images: timeout must be longer than nothing",
        ),
        (ONE + '[images]\nspool = "x"', "images: spool is for pictures in S3; these lie in a folder"),
        (ONE + '[images]\nttl = "0s"', "images: ttl must be longer than nothing"),
        (ONE + '[images]\nttl = "for ever"', "images.ttl: "),
        (ONE + '[images]\nlink_ttl = "0s"', "images: link_ttl must be longer than nothing"),
        (ONE + '[images]\nmax_bytes = "0B"', "images: max_bytes must be at least 1"),
        (ONE + '[images]\naccel = "internal/"', "images: accel must be the path of an internal location"),
        (ONE + '[images]\naccel = "/../"\n', "images: accel must be the path of an internal location"),
        (ONE + '[keys.a]\nsecret = "env:AZURE_KEY"\ngroup = "g"', "keys.a.group: no such group 'g'; there are none"),
        (ONE + '[keys.a]\nsecret = "env:AZURE_KEY"\nendpoints = ["files"]', "keys.a.endpoints[0]: expected"),
        (ONE + '[keys."a b"]\nsecret = "env:AZURE_KEY"', 'keys."a b": a name is made of letters, digits'),
        (ONE + 'auth = "none"', 'upstreams.openai: api_key is never sent with auth = "none"'),
        (ONE + 'auth = "basic"', 'upstreams.openai.auth: expected "bearer" or "api-key" or "none"'),
        (ONE + 'idle_timeout = "0s"', "upstreams.openai: idle_timeout must be longer than nothing"),
        (ONE + 'ca_file = "no-such.pem"', "no-such.pem can't be read: No such file or directory"),
        (ONE + 'ca_file = "framegate.toml"', "framegate.toml holds no certificate"),
        (ONE + "max_connections = -1", "upstreams.openai: max_connections must be at least 1, or 0 for no limit"),
        (
            ONE + 'proxy = "proxy.example"',
            'upstreams.openai: proxy can\'t be used: it is no URL; write "env", "none", or',
        ),
        (ONE + 'proxy = "https://proxy.example"', "upstreams.openai: proxy can't be used: only http:// proxies are"),
        (
            ONE + f'proxy = "http://u:{KEY}@h"',
            "upstreams.openai: proxy holds a user or a password; write",
        ),
        (ONE + 'proxy = "env:NO_SUCH"', "upstreams.openai.proxy: the environment variable NO_SUCH is not set"),
        (ONE + 'headers = { Host = "x" }', "upstreams.openai: headers: 'Host' is the connection's own"),
        (ONE + 'headers = { "a b" = "x" }', "upstreams.openai: headers: 'a b' is not the name of a header"),
        (ONE + 'headers = { X = "a\\r\\nY: b" }', "upstreams.openai: headers: 'X' holds a line break"),
        (
            ONE + f'headers = {{ Authorization = "Basic {KEY}" }}',
            "upstreams.openai: headers: 'Authorization' looks like a sec",
        ),
        (ONE + f'headers = {{ X-Api-Key = "{KEY}" }}', "upstreams.openai: headers: 'X-Api-Key' looks like a secret"),
        (ONE + f'headers = {{ X-Beta = "sk-{KEY}" }}', "upstreams.openai: headers: 'X-Beta' looks like a secret"),
        (
            ONE + f'[plugins.mark]\nuse = "{HERE}:Stamp"\ntext = "x"',
            "plugins.mark.marks: missing; it must be given: a list",
        ),
        (ONE + f'[plugins.mark]\nuse = "{HERE}:Stamp"\ntext = ""\nmarks = []', "plugins.mark: text must not be empty"),
        (
            ONE + f'[plugins.mark]\nuse = "{HERE}:Stamp"\ntxt = ""\nmarks = []\ntext = "x"',
            "plugins.mark.txt: no such setting",
        ),
        (ONE + f'[plugins.bad]\nuse = "{HERE}:Broken"', "plugins.bad: Broken can't be made: KeyError: 'oh'"),
        (ONE + "[plugins.bad]\nuse = 3", "plugins.bad.use: expected text, found the number 3"),
        (ONE + "[plugins.bad]\nuse = ''", "plugins.bad.use: no such plugin ''"),
        (ONE + "[plugins.bad]", "plugins.bad: no such plugin 'bad'"),
        (ONE + f'[plugins.c]\nuse = "{HERE}:Keys"\non_crash = "skip"', "plugins.c.on_crash: 'c' must not be skipped"),
        (ONE + f'[plugins.c]\nuse = "{HERE}:Failover"\nto = ["openia"]', "plugins.c.to[0]: no such upstream 'openia'"),
    ],
)
def test_says_what_is_wrong_and_what_would_be_right(said: Callable[..., list[str]], text: str, complaint: str) -> None:
    [line] = said(text)
    assert complaint in line


@pytest.mark.parametrize(
    "url",
    [
        "api.openai.com/v1",
        "ftp://api.openai.com",
        "https://",
        "https:///v1",
        f"https://me:{KEY}@api.openai.com/v1",
        f"https://{KEY}@api.openai.com/v1",
        f"https://api.openai.com/v1#{KEY}",
        "https://api.openai.com/v1#",
        "https://api.openai.com:port/v1",
        "https://[::1/v1",
        "https://api.openai.com/v 1",
        "https://api.openai.com\\\\@evil.example/v1",
        "https://api.openai.com\\n/v1",
    ],
)
def test_refuses_a_base_url_that_is_not_plain_without_repeating_it(said: Callable[..., list[str]], url: str) -> None:
    [line] = said(f'[upstreams.openai]\nbase_url = "{url}"\n')
    assert line.startswith("upstreams.openai: base_url")
    assert "hunter2" not in line


def test_a_base_url_may_hold_a_query(read: Callable[..., Config]) -> None:
    url = "https://acme.example/openai/v1?api-version=2026-01-01"
    assert read(f'[upstreams.azure]\nbase_url = "{url}"\n').upstreams["azure"].base_url == url


# --- Files that can't be read


def test_a_broken_file_is_one_complaint_with_line_and_column(said: Callable[..., list[str]]) -> None:
    [line] = said(f"[upstreams.openai]\nbase_url = {KEY}")
    assert line.endswith("framegate.toml: line 2, column 12: not TOML: Invalid value")


def test_a_file_that_ends_too_early_says_where_it_ends(said: Callable[..., list[str]]) -> None:
    [line] = said("[log]\nformat =")
    assert re.search(r"line 2, column 9: not TOML: \w", line)


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "9" * 5000])
def test_a_file_made_to_break_the_parser_is_one_complaint(said: Callable[..., list[str]], text: str) -> None:
    [line] = said(text)
    assert "not TOML that can be read" in line


def test_a_file_that_can_not_be_read_is_one_complaint(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# caf\xe9")
    for name, why in (("none.toml", "No such file"), (".", "Is a directory"), ("latin", "is not text in UTF-8")):
        with pytest.raises(ConfigError, match=why) as caught:
            load(tmp_path / name, {})
        assert len(caught.value.complaints) == 1


def test_a_byte_order_mark_is_no_complaint(read: Callable[..., Config]) -> None:
    assert read("\ufeff" + ONE)


# --- Between tables


def test_no_open_proxy(said: Callable[..., list[str]]) -> None:
    assert said(OPEN + ONE) == [
        "routes[0]: whoever reaches 0.0.0.0:8080 could spend the credential of upstream 'openai': "
        "listen on loopback or a Unix socket, or put a plugin in the chain that knows its callers"
    ]


@pytest.mark.parametrize("listen", ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "localhost:80", "unix:/run/x"])
def test_loopback_and_unix_sockets_are_no_open_proxy(read: Callable[..., Config], listen: str) -> None:
    assert read(ONE, listen=listen)


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "example.com:80", "localhost.example:80"])
def test_every_other_listener_is(said: Callable[..., list[str]], listen: str) -> None:
    assert len(said(ONE, listen=listen)) == 1


def test_each_route_that_fails_is_named(said: Callable[..., list[str]]) -> None:
    routes = """
        [[routes]]
        match = "POST /v1/images/*"
        [[routes]]
        match = "* /v1/responses/*"
        upstream = "azure"
        [[routes]]
        match = "* /v1/files/*"
        chain = ["callers"]
        [[routes]]
        match = "* /v1/*"
        chain = ["again"]
        """
    assert [line.partition(":")[0] for line in said(OPEN + TWO + PLUGINS + routes)] == ["routes[0]", "routes[3]"]


def test_a_plugin_that_reads_what_is_in_no_answer(said: Callable[..., list[str]]) -> None:
    table = f'[plugins.nosy]\nuse = "{HERE}:Nosy"\n'
    (complaint,) = said(ONE + table)
    assert complaint.endswith("plugins.nosy: reads 'image', which nobody sees in an answer; did you mean 'images'?")


def test_a_plugin_that_knows_its_callers_closes_the_proxy(read: Callable[..., Config]) -> None:
    assert read(OPEN + ONE + PLUGINS + '[[routes]]\nmatch = "* /v1/*"\nchain = ["callers"]')


@pytest.mark.parametrize(
    ("table", "refused"),
    [
        ('base_url = "https://a.example/v1"', False),
        ('base_url = "https://a.example/v1"\nheaders = { X-Beta = "v2" }', False),
        ('base_url = "https://a.example/v1"\nheaders = { X-Beta = "env:AZURE_KEY" }', True),
        ('base_url = "https://a.example/v1?api-version=1"', False),
        ('base_url = "https://a.example/v1?subscription-key=1"', True),
        ('base_url = "https://a.example/v1"\napi_key = []', False),
        ('base_url = "https://a.example/v1"\napi_key = ["env:AZURE_KEY"]', True),
    ],
)
def test_secret_headers_and_queries_are_credentials_too(tmp_path: Path, table: str, refused: bool) -> None:
    path = tmp_path / "framegate.toml"
    path.write_text(f'{OPEN}[upstreams.a]\n{table}\n[[routes]]\nmatch = "* /v1/*"\nchain = []\n')
    if refused:
        with pytest.raises(ConfigError, match="could spend the credential of upstream 'a'"):
            load(path, ENVIRON)
    else:
        assert load(path, ENVIRON)


def test_a_route_must_not_lack_the_quota_of_another_to_the_same_upstream(said: Callable[..., list[str]]) -> None:
    routes = """
        [[routes]]
        match = "POST /v1/images/*"
        chain = ["callers", "count"]
        [[routes]]
        match = "* /v1/*"
        """
    assert said(ONE + PLUGINS + routes) == [
        "routes[1]: reaches upstream 'openai' like routes[0], but without its quota: "
        "put 'quota' in the chain, or say unmetered = true"
    ]


@pytest.mark.parametrize("more", ["unmetered = true", 'upstream = "azure"', 'chain = ["callers", "count", "again"]'])
def test_unless_it_says_so_or_leads_elsewhere_or_counts_too(read: Callable[..., Config], more: str) -> None:
    first = '[[routes]]\nmatch = "POST /v1/images/*"\nchain = ["callers", "count"]\n'
    assert read(TWO + PLUGINS + first + f'[[routes]]\nmatch = "* /v1/*"\n{more}')


def test_failover_reaches_what_it_names_or_all(read: Callable[..., Config]) -> None:
    route = '[[routes]]\nmatch = "* /v1/*"\nchain = ["again"]\n'
    assert (config := read(TWO + PLUGINS + route)).reach(config.routes[0]) == ("openai", "azure")
    config = read(TWO + PLUGINS + 'to = ["azure"]\n' + route)
    assert config.reach(config.routes[0]) == ("azure",)


def test_a_route_that_nothing_can_reach_is_refused(said: Callable[..., list[str]]) -> None:
    [line] = said(ONE + '[[routes]]\nmatch = "* /v1/*"\n[[routes]]\nmatch = "POST /v1/images/*"')
    assert line.startswith("routes[1].match: routes[0] ('* /v1/*') already takes all that 'POST /v1/images/*' would")


def test_the_order_of_a_chain_is_checked(said: Callable[..., list[str]]) -> None:
    assert said(ONE + PLUGINS + '[[routes]]\nmatch = "* /v1/*"\nchain = ["callers", "again", "count"]') == [
        "routes[0]: 'again' must sit inside 'count'; move it further down"
    ]


def test_a_second_instance_of_what_is_not_built_is_not_built_either(said: Callable[..., list[str]]) -> None:
    table = '[plugins.always]\nuse = "rehost"\n[[routes]]\nmatch = "* /v1/*"\nchain = ["always"]'
    assert said(ONE + table) == ["routes[0].chain[0]: 'always' is not part of this version; take it out of the chain"]


def test_draws_the_chains(read: Callable[..., Config]) -> None:
    route = '[[routes]]\nmatch = "POST /v1/images/*"\nchain = ["callers", "again"]\n[[routes]]\nmatch = "* /v1/*"\n'
    assert "\n".join(read(TWO + PLUGINS + route).pictures()) == (
        "POST /v1/images/*   callers > again || openai: credential > wire\n"
        "                                    || azure: wire\n"
        "* /v1/*             (no plugins) || openai: credential > wire"
    )


# --- What is printed of it


def test_no_table_prints_a_secret(read: Callable[..., Config]) -> None:
    config = read(
        ONE + f'headers = {{ X = "env:AZURE_KEY" }}\n[plugins.mark]\nuse = "{HERE}:Stamp"\ntext = "x"\nmarks = []\n'
        'token = "env:AZURE_KEY"\n[admin]\n[keys.a]\nsecret = "env:MARKETING_KEY"\n'
    )
    assert KEY not in repr(config)
    assert KEY not in "".join(config.pictures())
    assert KEY not in repr(config.plugins["mark"].make())


# --- Docs, files and code agree

TABLES: dict[str, type] = {
    "server": ServerTable,
    "admin": AdminTable,
    "store": StoreTable,
    "images": ImagesTable,
    "upstreams.*": UpstreamTable,
    "keys.*": KeyTable,
    "groups.*": GroupTable,
    "models.*": ModelTable,
    "prices.*": PriceTable,
    "plugins.*": module._Use,
    "routes.*": RouteTable,
    "failures.*": Rule,
    "log": LogTable,
}
SETTINGS = {f"{table}.{setting.name}" for table, cls in TABLES.items() for setting in settings_of(cls)}
NOT_YET = {name for name in SETTINGS if name in UNBUILT or name.partition(".")[0] in UNBUILT}
REFERENCE = (ROOT / "deploy/config/reference.toml").read_text()
MARK = "# --- Not part of this version"
BUILT_PART, _, UNBUILT_PART = REFERENCE.partition(MARK)
DOCS = (ROOT / "docs/configuration.md").read_text()


def place(header: str) -> str:
    """`[upstreams.openai]` and `[[routes]]` as the names above."""
    first = header.strip("[]").partition(".")[0]
    return f"{first}.*" if f"{first}.*" in TABLES else first


def named_in(text: str) -> set[str]:
    """The settings that a file names, in comments too."""
    names, table = set(), ""
    for line in text.splitlines():
        if header := re.match(r"(?:# )?(\[+[\w.\"*-]+\]+)", line):
            table = place(header[1])
        elif setting := re.match(r"(?:# )?(\w+) *= ", line):
            names.add(f"{table}.{setting[1]}")
    return names


def test_the_reference_names_every_setting_and_no_other() -> None:
    assert named_in(REFERENCE) == SETTINGS


def test_the_reference_says_what_is_not_built_yet() -> None:
    again = {"upstreams.*.base_url", "routes.*.match", "keys.*.secret"}  # so that the second part can be read by itself
    assert named_in(UNBUILT_PART) - again == NOT_YET
    assert named_in(BUILT_PART) == SETTINGS - NOT_YET


def test_the_reference_holds_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    path.write_text(BUILT_PART)
    config = load(path, ENVIRON)
    assert config.unbuilt == ()
    assert config.server == replace(ServerTable(), public_url="http://127.0.0.1:8080")
    assert config.log == LogTable()
    assert config.routes == (RouteTable("* /v1/*", ("keys",)),)
    assert config.store == StoreTable(f"sqlite:{tmp_path}/state/framegate.db")
    given = config.upstreams["openai"]
    assert given == UpstreamTable("https://api.openai.com/v1", (Secret(KEY),))
    assert config.images is None
    commented = re.findall(r"^# (\[images\]|(?:url|ttl|sign|link_ttl|accel) +=.*)", BUILT_PART, re.MULTILINE)
    path.write_text("\n".join([BUILT_PART, *commented]))
    assert len(commented) == 6 and load(path, ENVIRON).images == ImagesTable(f"file:{tmp_path}/state/images")


def test_what_the_reference_says_is_not_built_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    lines = UNBUILT_PART.splitlines()[3:]
    path.write_text("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines))
    config = load(path, ENVIRON)
    assert config.admin == AdminTable(Secret(KEY))
    assert config.keys["marketing-web"].endpoints == ("inference",)
    tables = r"\[0\]|(?<=upstreams)\.openai|(?<=keys)\.marketing-web|(?<=groups)\.marketing"
    assert {re.sub(tables, ".*", name) for name in config.unbuilt} == set(UNBUILT) - {
        "server.trusted_proxies",  # at values that ask for nothing
        "store.timezone",
    }


def test_the_docs_name_every_setting_and_mark_what_is_not_built_yet() -> None:
    names, marked = set(), set()
    for section in DOCS.split("\n### ")[1:]:
        title = section.partition("\n")[0].strip("`")
        table = place(title) if title != "limits" else title
        intro = section.partition("| setting")[0]
        for name, row in re.findall(r"^\| `(\w+)` (\|.*)$", section, re.MULTILINE):
            names.add(f"{table}.{name}")
            if "*not yet*" in row or "*not yet*" in intro:
                marked.add(f"{table}.{name}")
    limits = {f"limits.{setting.name}" for setting in settings_of(Limits)}
    assert names == SETTINGS | limits
    assert marked == NOT_YET


def test_what_is_unbuilt_is_a_setting_or_a_table() -> None:
    assert set(UNBUILT) <= SETTINGS | {name.partition(".")[0] for name in TABLES}


# --- Proxies


def test_a_proxy_of_the_environment_that_is_none_is_complained_of(said: Callable[..., list[str]]) -> None:
    assert said(ONE, HTTPS_PROXY=f"socks5://u:{KEY}@h") == [
        "upstreams.openai.proxy: the proxy that HTTPS_PROXY names can't be used: only http:// proxies are spoken to; "
        "the upstream's TLS goes through them untouched"
    ]


def test_a_proxy_with_a_password_is_kept_secret(read: Callable[..., Config]) -> None:
    config = read(ONE + 'proxy = "env:A_PROXY"\n', A_PROXY=f"http://u:{KEY}@h")
    assert KEY not in repr(config)


# --- Pictures


def test_pictures_are_kept_where_the_config_says_so(read: Callable[..., Config], tmp_path: Path) -> None:
    assert read(ONE).images is None
    assert read(ONE + "[images]\n").images == ImagesTable(f"file:{tmp_path}/state/images")
    config = read(ONE + '[images]\nurl = "file:/srv/x"\nttl = "forever"\nmax_bytes = "1GiB"\naccel = "/in/ter/"\n')
    assert config.images == ImagesTable("file:/srv/x", "forever", 2**30, accel="/in/ter/")
    assert config.images is not None and config.images.path == Path("/srv/x")


def test_pictures_in_s3(read: Callable[..., Config], tmp_path: Path) -> None:
    images = read(ONE + '[images]\nurl = "s3://bucket.x/a/b/?region=eu-central-1"\ntimeout = "5s"\n').images
    assert images is not None and images.path == tmp_path / "state/images"
    assert images.account == Account(Bucket("bucket.x", "a/b/", "eu-central-1", None, "path"), timeout=5.0)
    keys = 'access_key = "env:A"\nsecret_key = "env:B"\nspool = "here"\n'
    config = read(f'{ONE}[images]\nurl = "s3://bucket?endpoint=https%3A//h:9/x/"\n{keys}', A=KEY, B=KEY)
    images = config.images
    assert images is not None and images.path == tmp_path / "here" and KEY not in repr(config)
    assert images.account == Account(Bucket("bucket", "", "us-east-1", "https://h:9/x", "path"), *[Secret(KEY)] * 2)
    for url, style in (
        ("s3://bucket?region=r", "virtual"),
        ("s3://bucket?region=r&style=path", "path"),
        ("s3://bucket?endpoint=http://127.0.0.1:9000", "path"),
        ("s3://bucket?region=auto&endpoint=https://id.r2.cloudflarestorage.com", "path"),
        ("s3://bucket?region=oss-cn-hangzhou&endpoint=https://s3.oss-cn-hangzhou.aliyuncs.com", "virtual"),
        ("s3://bucket-1250000000?region=ap-tokyo&endpoint=https://cos.ap-tokyo.myqcloud.com", "virtual"),
        ("s3://bucket?endpoint=https://h&style=virtual", "virtual"),
    ):
        assert Bucket.parse(url).style == style, url


def test_pictures_in_s3_need_a_client(said: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.core.check.find_spec", lambda name: None)
    assert said(ONE + '[images]\nurl = "s3://bucket?region=r"\n') == [
        "images.url: pictures in S3 need aiobotocore, which is missing; pip install 'framegate[s3]'"
    ]


def test_a_route_that_rehosts_needs_no_table(read: Callable[..., Config]) -> None:
    text = f'{ONE}[plugins.r]\nuse = "{HERE}:Rehost"\n'
    assert read(text + '[[routes]]\nmatch = "* /v1/*"\nchain = []\n').images is None
    images = read(text + '[[routes]]\nmatch = "* /v1/*"\nchain = ["r"]\n').images
    assert images is not None and images.url.endswith("/state/images")


# --- Keys and credentials


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            'models = { "gpt-*" = "x" }',
            "models: 'gpt-*' is no exact name; globs such as '*' are for only, not here",
        ),
        (
            'models = { "gpt-5" = "x[1]" }',
            "models: 'x[1]' is no exact name; globs such as '*' are for only, not here",
        ),
        ('models = { "a" = "b c" }', "models: 'b c' is no name of a model; it must hold no blank and no comma"),
        ('models = { "" = "b" }', "models: '' is no name of a model; it must hold no blank and no comma"),
        ('models = ["a"]', None),
        ('only = ["a,b"]', "only: 'a,b' is no name of a model; it must hold no blank and no comma"),
        ('only = ["kind:images"]', "only: there is no kind 'images'; did you mean 'image'?"),
        (
            'only = ["gpt-*"]\nmodels = { "flux" = "b" }',
            "models renames 'flux', which is not among those that only lists; add it there",
        ),
    ],
)
def test_names_of_models_are_complained_of_in_words(
    said: Callable[..., list[str]], line: str, complaint: str | None
) -> None:
    told = said(ONE + line + "\n")
    assert len(told) == 1 and told[0].startswith("upstreams.openai")
    assert complaint is None or told == [f"upstreams.openai: {complaint}"]


def test_an_upstreams_layers_are_drawn_with_its_model_names(read: Callable[..., Config]) -> None:
    for line in ('only = ["kind:image"]', 'models = { "a" = "b" }', 'models = { "a" = "b" }\nonly = ["a*"]'):
        config = read(ONE + line + "\n")
        assert config.upstreams["openai"].layers == ("model names", "credential", "wire")
        assert config.pictures() == ["* /v1/*   (no plugins) || openai: model names > credential > wire"]


def test_an_upstream_with_limits_has_a_queue(read: Callable[..., Config], said: Callable[..., list[str]]) -> None:
    config = read(ONE + 'only = ["a*"]\nlimits = { images = "5 / 1m" }\nqueue = { wait = "30s" }\n')
    assert config.upstreams["openai"].queue == QueueTable(1000, 30.0) and config.unbuilt == ()
    assert config.pictures() == ["* /v1/*   (no plugins) || openai: queue > model names > credential > wire"]
    for line, complaint in (
        (
            "queue = { length = 5 }",
            "queue: nobody waits for an upstream without limits; give it limits, or take queue out",
        ),
        (
            'limits = { budget = "5 USD / day" }',
            "limits: a budget is for those who ask, not for an upstream; give it to a key or a group",
        ),
    ):
        assert said(f"{ONE}{line}\n") == [f"upstreams.openai: {complaint}"]
    for table, complaint in (
        ("length = 0", "length must be at least 1"),
        ('wait = "0s"', "wait must be longer than nothing"),
    ):
        told = said(f"{ONE}limits = {{ concurrent = 5 }}\nqueue = {{ {table} }}\n")
        assert told == [f"upstreams.openai.queue: {complaint}"]


def test_a_keys_models_are_globs(read: Callable[..., Config], said: Callable[..., list[str]]) -> None:
    key = '[keys.a]\nsecret = "env:MARKETING_KEY"\nmodels = '
    assert read(ONE + key + '["gpt-image-*", "o[34]"]\n').keys["a"].models == ("gpt-image-*", "o[34]")
    assert said(ONE + key + '["a b"]\n') == [
        "keys.a: models: 'a b' is no name of a model; it must hold no blank and no comma"
    ]


def test_a_short_key_is_told_of(read: Callable[..., Config]) -> None:
    text = '[keys.{}]\nsecret = "env:{}"\n'
    config = read(ONE + text.format("a", "LONG") + text.format("b", "SHORT"), LONG="x" * 32, SHORT="x" * 31)
    assert config.short_keys == ("b",)


def test_credentials_name_an_upstream(said: Callable[..., list[str]]) -> None:
    text = '[groups.g]\ncredentials = { opnai = "env:MARKETING_KEY" }\n'
    assert said(ONE + text) == ["groups.g.credentials.opnai: no such upstream 'opnai'; did you mean 'openai'?"]


def test_redis_is_not_there_yet(said: Callable[..., list[str]]) -> None:
    (line,) = said(ONE + '[store]\nurl = "redis://host/0"\n')
    assert line == 'store: Redis is not part of this version; url must be "sqlite:PATH"'


def test_secrets_of_the_store_are_asked_for_by_name(tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    path.write_text('[upstreams.a]\nbase_url = "https://a.example/v1"\napi_key = "secret:a"\n')
    asked: list[tuple[Path, str]] = []

    def kept(store: Path) -> Callable[[str], str | None]:
        return lambda name: asked.append((store, name)) or KEY

    assert load(path, {}, kept=kept).upstreams["a"].api_key == (Secret(KEY),)
    assert asked == [(tmp_path / "state" / "framegate.db", "a")]
    with pytest.raises(ConfigError, match="there is no secret 'a' in the store"):
        load(path, {}, kept=lambda store: lambda name: None)


def test_credentials_of_callers_alone_make_an_upstream_one_with_a_credential(read: Callable[..., Config]) -> None:
    text = '[upstreams.a]\nbase_url = "https://a.example/v1"\n[groups.g]\ncredentials = { a = "env:MARKETING_KEY" }\n'
    assert read(text).has_credential("a") and not read(text.partition("[groups")[0]).has_credential("a")


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL))
def test_every_file_in_the_docs_is_fine(read: Callable[..., Config], text: str) -> None:
    assert read(text).unbuilt == ()


@pytest.mark.parametrize("path", sorted((ROOT / "deploy/config").glob("*.toml")), ids=lambda path: path.name)
def test_every_file_to_start_from_is_fine(path: Path) -> None:
    assert load(path, ENVIRON).unbuilt == ()


def test_the_transparent_file_is_transparent() -> None:
    config = load(ROOT / "deploy/config/transparent.toml", {})
    assert config.pictures() == ["* /v1/*   (no plugins) || openai: wire"]


# --- Whatever comes

ASSIGNMENTS = [i for i, line in enumerate(BUILT_PART.splitlines()) if re.match(r"\w+ *=", line)]
LITERALS = [
    "0",
    "-1",
    "true",
    "1.5",
    "nan",
    '""',
    '"x"',
    "[]",
    "[[]]",
    "{}",
    "{ a = 1 }",
    "1979-05-27",
    '"* *"',
    '"\\u0000"',
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(ASSIGNMENTS), st.sampled_from(LITERALS), max_size=4))
def test_a_file_is_read_or_refused_in_words_whatever_its_values(tmp_path: Path, wrong: dict[int, str]) -> None:
    lines = BUILT_PART.splitlines()
    for i, literal in wrong.items():
        lines[i] = f"{lines[i].partition('=')[0]}= {literal}"
    path = tmp_path / "framegate.toml"
    path.write_text("\n".join(lines))
    complaints: tuple[Complaint, ...] = ()
    try:
        load(path, ENVIRON)
    except ConfigError as error:
        complaints = error.complaints
    assert all(complaint.where and complaint.text for complaint in complaints)


@settings(deadline=None)
@given(
    st.recursive(
        st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["upstreams", "models", "x"]), inner),
    )
)
def test_what_is_unbuilt_is_found_in_any_shape(raw: Any) -> None:
    assert isinstance(list(unbuilt_in({"server": raw, "upstreams": raw, "routes": raw})), list)


def test_a_plugins_table_names_its_kind() -> None:
    assert PluginTable("rehost-always", Stamp, "rehost").kind == "rehost"
