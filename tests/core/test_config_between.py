"""What no table is to blame for alone: open proxies, ways round a quota, order, proxies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.core.config import (
    Config,
    ConfigError,
    load,
)

from .configs import (
    ENVIRON,
    HERE,
    KEY,
    ONE,
    OPEN,
    PLUGINS,
    TWO,
)

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


def test_what_stands_aside_is_asked_only_where_it_is_named(
    read: Callable[..., Config], said: Callable[..., list[str]]
) -> None:
    aside = '[upstreams.judge]\nbase_url = "http://127.0.0.1:9/v1"\naside = true\n'
    route = '[[routes]]\nmatch = "* /v1/*"\n'
    assert (config := read(aside + ONE + PLUGINS + route)).reach(config.routes[0]) == ("openai",)
    again = route + 'chain = ["again"]\n'
    assert (config := read(aside + TWO + PLUGINS + again)).reach(config.routes[0]) == ("openai", "azure")
    config = read(aside + ONE + PLUGINS + route + 'upstream = "judge"')
    assert config.reach(config.routes[0]) == ("judge",)
    (complaint,) = said(aside + route)
    assert complaint == "upstreams: all of them stand aside; one at least must be asked where none is named"


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


# --- Proxies


def test_a_proxy_of_the_environment_that_is_none_is_complained_of(said: Callable[..., list[str]]) -> None:
    assert said(ONE, HTTPS_PROXY=f"socks5://u:{KEY}@h") == [
        "upstreams.openai.proxy: the proxy that HTTPS_PROXY names can't be used: only http:// proxies are spoken to; "
        "the upstream's TLS goes through them untouched"
    ]


def test_a_proxy_with_a_password_is_kept_secret(read: Callable[..., Config]) -> None:
    config = read(ONE + 'proxy = "env:A_PROXY"\n', A_PROXY=f"http://u:{KEY}@h")
    assert KEY not in repr(config)
