"""Upstreams whose certificates are believed alike share a context, which belongs to one generation of the config."""

from __future__ import annotations

import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.api import Exchange, Forward, Request, Response, Services
from proxy.app import dial
from proxy.core.config import load
from proxy.testkit import RawClient, ScriptedUpstream, Served, TurnedClock, serve
from proxy.wire.fetch import Fetcher
from proxy.wire.trust import Trust

from ..plugins_for_tests import told
from .authority import Authority
from .fetching import PICTURE, counted
from .telling import GET, config


class Made:
    """Every context that is made from now on, and the threads in which they were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.contexts: list[ssl.SSLContext] = []
        self.threads: set[int] = set()
        self._make = ssl.create_default_context
        monkeypatch.setattr(ssl, "create_default_context", self)

    def __call__(self) -> ssl.SSLContext:
        self.contexts.append(self._make())
        self.threads.add(threading.get_ident())
        return self.contexts[-1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(monkeypatch)


def several(url: str, **lines: str) -> str:
    """A config with an upstream for each name, all of them there, and a route to each."""
    upstreams = "".join(f'[upstreams.{name}]\nbase_url = "{url}"\n{line}\n' for name, line in lines.items())
    routes = "".join(f'[[routes]]\nmatch = "* /v1/{name}"\nupstream = "{name}"\nchain = []\n' for name in lines)
    return upstreams + routes


async def status(served: Served, path: str) -> int:
    async with RawClient(served.port) as client:
        return (await client.ask(GET.replace(b"/v1/x", path.encode()))).status


async def test_one_is_made_for_all_that_believe_the_same(made: Made, authority: Authority) -> None:
    own = f'ca_file = "{authority.ca_file}"'
    text = several("https://127.0.0.1:1/v1", a="", b="", c=own, d=own, e="")
    async with serve(text):
        usual, more = [context.cert_store_stats()["x509"] for context in made.contexts]
        assert more == usual + 1


def test_who_only_dials_makes_one_too(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    path.write_text(several("https://127.0.0.1:1/v1", a="", b="", c=""))
    assert len(dial(load(path, {}))) == 3 and len(made.contexts) == 1


async def test_they_are_made_where_the_loop_does_not_wait(made: Made) -> None:
    async with serve(several("https://127.0.0.1:1/v1", a="")):
        assert made.threads and threading.get_ident() not in made.threads


async def test_plain_upstreams_need_none(made: Made) -> None:
    async with ScriptedUpstream() as upstream, serve(several(upstream.url, a="", b="")) as served:
        assert await status(served, "/v1/a") == 200
    assert made.contexts == []


async def test_a_file_is_believed_for_its_own_upstream_alone(authority: Authority) -> None:
    async with ScriptedUpstream(tls=authority.server("127.0.0.1")) as upstream:
        text = several(upstream.url, a="", b=f'ca_file = "{authority.ca_file}"', c="")
        async with serve(text) as served:
            assert [await status(served, f"/v1/{name}") for name in "abc"] == [502, 200, 502]


async def test_a_reload_believes_what_the_file_says_by_then(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    renewed = Authority(tmp_path / "new")
    path = tmp_path / "framegate.toml"
    async with ScriptedUpstream(tls=renewed.server("127.0.0.1")) as upstream:
        path.write_text(several(upstream.url, a=f'ca_file = "{authority.ca_file}"'))
        async with serve(path.read_text()) as served:
            assert await status(served, "/v1/a") == 502
            authority.ca_file.write_bytes(renewed.ca_file.read_bytes())
            assert await status(served, "/v1/a") == 502
            await served.house.reload(load(path, {}))
            assert await status(served, "/v1/a") == 200


async def test_what_fetches_pictures_believes_the_same(made: Made, authority: Authority) -> None:
    lent: list[Services] = []
    async with ScriptedUpstream(counted(), tls=authority.server("127.0.0.1")) as upstream:

        async def fetch(exchange: Exchange, request: Request, forward: Forward) -> Response:
            url = f"https://127.0.0.1:{upstream.port}/a.png"
            async with lent[0].remote.open(url, upstream="only", limit=2**20) as fetched:
                assert b"".join([piece async for piece in fetched]) == PICTURE
            return await forward(request)

        async def running(services: Services) -> AsyncIterator[None]:
            lent.append(services)
            yield

        text = config(upstream, told(fetch, running), upstreams=f'ca_file = "{authority.ca_file}"')
        async with serve(text) as served:
            assert await status(served, "/v1/x") == 200
        assert upstream.connections == 2 and len(made.contexts) == 1


async def test_strangers_are_believed_as_upstreams_without_a_file_are(made: Made) -> None:
    trust = Trust()
    fetcher = Fetcher({}, {}, TurnedClock(), trust=trust)
    assert await fetcher.context() is await fetcher.context() is trust.context()
    assert len(made.contexts) == 1


async def test_a_file_that_has_gone_since_is_named(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    path.write_text(several("https://127.0.0.1:1/v1", a=f'ca_file = "{authority.ca_file}"'))
    async with serve(path.read_text()) as served:
        read = load(path, {})
        for spoil, why in ((authority.ca_file.unlink, "No such file"), (authority.ca_file.touch, "NO_CERTIFICATE")):
            spoil()
            with pytest.raises(OSError, match=f"ca_file {authority.ca_file} can't be used: .*{why}"):
                await served.house.reload(read)
