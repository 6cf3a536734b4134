"""A public server of a test's own, and certificates that are believed."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest

from proxy.testkit import ScriptedUpstream

from ..authority import Authority
from ..fetching import PUBLIC, counted
from ..telling import until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def believed(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment says whose certificates are believed, as an operator would."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    return authority.server("cdn.test", "other.test", "third.test", "fourth.test", PUBLIC)


@pytest.fixture
async def cdn(tls: ssl.SSLContext) -> AsyncIterator[ScriptedUpstream]:
    """A public server; at the end nobody is connected to it any more."""
    async with ScriptedUpstream(counted(), tls=tls) as server:
        yield server
        await until(lambda: not server.open)
