"""An internet of a test's own: names, their addresses, and which of these count as public."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.core.proxies import Proxy
from proxy.model.fetch import FetchFailed, FetchRefused
from proxy.model.values import Secret
from proxy.testkit import ScriptedUpstream, TurnedClock
from proxy.testkit.watch import Watch
from proxy.wire.dial import Address
from proxy.wire.fetch import Fetcher, Origin
from proxy.wire.public import IPAddress, why_not
from proxy.wire.received import Received

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
SECRET = "s3cr3t"  # stands in each URL's query
URL = f"https://cdn.test/a.png?X-Signature={SECRET}"
PUBLIC = "127.0.0.1"  # stands for a public address; the rest of 127.0.0.0/8 is what it always is


def counted(body: bytes = PICTURE, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer with its length."""
    head = [b"HTTP/1.1 " + status, b"Content-Type: image/png", b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def redirected(to: str, *lines: bytes, status: bytes = b"302 Found") -> bytes:
    """An answer that leads elsewhere."""
    return counted(b"", b"Location: " + to.encode(), *lines, status=status)


def origin(
    upstream: ScriptedUpstream | str, *, proxy: str = "env", through: str = "", ca_file: Path | None = None
) -> Origin:
    """An upstream's own origin, with that setting of `proxy`; `through` is where that leads."""
    url = upstream if isinstance(upstream, str) else upstream.url
    between = Proxy.parse(through) if through else None
    return Origin(url, lambda: Address(url, ca_file=ca_file, proxy=between), Secret(proxy))


class Internet:
    """Names as they are told: `names[NAME]` is a list of answers, of which the last is given again and again.

    An answer is a list of addresses; connections to these lead to `port`, whatever port was asked for.
    """

    def __init__(self, server: ScriptedUpstream | int = 0, **names: list[list[str]]) -> None:
        self._server = server
        self.names = {"cdn.test": [[PUBLIC]], **{name.replace("_", "."): told for name, told in names.items()}}
        self.asked: list[str] = []

    async def resolve(self, name: str, port: int) -> Any:
        """Stands in for the resolver."""
        self.asked.append(name)
        answers = self.names.get(name)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        to = self._server if isinstance(self._server, int) else self._server.port
        return [_info(address, to) for address in addresses]

    @staticmethod
    def judge(address: IPAddress) -> str | None:
        """The real judge, but for the one that stands for a public address."""
        return None if str(address) == PUBLIC else why_not(address)


def _info(address: str, port: int) -> Any:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))


class Fetching:
    """A fetcher, and whatever it leaves open."""

    def __init__(self, fetcher: Fetcher, clock: TurnedClock, watch: Watch) -> None:
        self.fetcher = fetcher
        self.clock = clock
        self._watch = watch

    def open(self, url: str = URL, *, upstream: str | None = None, limit: int = 2**20) -> Any:
        """What the plugin would open."""
        opened: AbstractAsyncContextManager[Received] = self.fetcher.open(url, upstream=upstream, limit=limit)
        return opened

    async def read(self, url: str = URL, **given: Any) -> bytes:
        """All of it."""
        with self._watch.inside():
            async with self.open(url, **given) as fetched:
                return b"".join([piece async for piece in fetched])

    async def begin(self, url: str = URL, **given: Any) -> asyncio.Task[bytes]:
        """The same under way."""
        return asyncio.create_task(self.read(url, **given))

    async def turned(self, seconds: float, task: asyncio.Task[bytes]) -> None:
        """Let time pass for who waits in that task."""
        self.clock.turn(seconds)
        await asyncio.wait((task,))


@asynccontextmanager
async def fetching(
    internet: Internet | None = None,
    *,
    origins: Mapping[str, Origin] | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Fetching]:
    """A fetcher in that internet; at the end nothing of it must be left."""
    net = internet or Internet()
    clock, watch = TurnedClock(), Watch()
    fetcher = Fetcher(origins or {}, environ or {}, clock, judge=net.judge, resolve=net.resolve, **settings)
    clock.watchers.append(fetcher.patience.sweep)
    try:
        yield Fetching(fetcher, clock, watch)
        assert not fetcher.hops
        assert await watch.left() == []
    finally:
        watch.close()
        await fetcher.aclose()


async def failed(fetch: Fetching, url: str = URL, **given: Any) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await fetch.read(url, **given)
    return unspoken(caught.value)


async def refused(fetch: Fetching, url: str = URL, **given: Any) -> FetchRefused:
    with pytest.raises(FetchRefused) as caught:
        await fetch.read(url, **given)
    return unspoken(caught.value)


def unspoken(error: Any) -> Any:
    """The same error, having seen that it tells nobody what stood in the URL, however it is shown."""
    shown = "".join(traceback.format_exception(error)) + f"{error!r} {error.message} {vars(error)}"
    assert SECRET not in shown and "X-Signature" not in shown
    return error
