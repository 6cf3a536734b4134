"""Connecting to an upstream: names, addresses, TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import aiohappyeyeballs

from ..core.proxies import Proxy
from ..model.errors import UpstreamError
from . import tls, tunnel
from .trust import Trust

DNS_LIFE = 30.0  # seconds an answer of the resolver is used: short, because providers move
P = TypeVar("P", bound=asyncio.Protocol)


class Address:
    """Where an upstream is, taken apart once."""

    __slots__ = (
        "_known",
        "_until",
        "authority",
        "context",
        "header",
        "host",
        "port",
        "prefix",
        "proxy",
        "query",
        "tls",
    )

    def __init__(
        self, base_url: str, *, ca_file: Path | None = None, proxy: Proxy | None = None, trust: Trust | None = None
    ) -> None:
        url: SplitResult = urlsplit(base_url)
        self.tls = url.scheme == "https"
        self.host = url.hostname or ""
        self.proxy = proxy
        usual = 443 if self.tls else 80
        self.port = url.port or usual
        name = f"[{self.host}]" if ":" in self.host else self.host.encode("idna").decode("ascii")
        self.authority = f"{name}:{self.port}".encode("ascii")
        self.header = name.encode("ascii") if self.port == usual else self.authority
        self.prefix = url.path.rstrip("/")
        self.query = url.query
        self.context = (trust or Trust()).context(ca_file) if self.tls else None
        self._known: list[aiohappyeyeballs.AddrInfoType] = []
        self._until = 0.0

    def target(self, rest: str) -> bytes:
        """The path and query to ask for: the base URL's path, the client's bytes, then the base URL's own query."""
        target = f"{self.prefix}{rest}"
        if not target.startswith("/"):
            target = f"/{target}"
        if self.query:
            target = f"{target}{'&' if '?' in target else '?'}{self.query}"
        return target.encode("utf-8", "surrogateescape")

    async def connect(self, make: Callable[[], P], *, timeout: float, now: Callable[[], float]) -> P:
        """A new connection; raises UpstreamError, which says "not sent", when there is none in time."""
        loop = asyncio.get_running_loop()
        none = "no connection" if self.proxy is None else "no connection through the proxy"
        try:
            async with asyncio.timeout(timeout):
                infos = await self._resolve(loop, now)
                if len(infos) == 1:
                    sock = await _connected(loop, infos[0])
                else:
                    sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=0.25, loop=loop)
                try:
                    if self.proxy is not None:
                        await tunnel.dig(loop, sock, self.proxy, self.authority)
                    return await over(sock, make, self.context, self.host)
                except BaseException:
                    sock.close()
                    raise
        except ssl.SSLCertVerificationError as exc:
            raise UpstreamError(why(exc), sent=False) from exc
        except OSError as exc:
            self._until = 0.0  # ask the resolver anew: the upstream may have moved
            raise UpstreamError(why(exc, none), sent=False, timeout=isinstance(exc, TimeoutError)) from exc

    async def _resolve(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]
    ) -> list[aiohappyeyeballs.AddrInfoType]:
        if self._until < now():
            to = self.proxy or self
            found = await loop.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)
            self._known = [(family, kind, proto, "", address) for family, kind, proto, _, address in found]
            self._until = now() + DNS_LIFE
        return list(self._known)


async def over(sock: socket.socket, make: Callable[[], P], context: ssl.SSLContext | None, name: str) -> P:
    """Give a connection that stands to what `make` makes, with TLS where there is a context. Raises OSError."""
    loop = asyncio.get_running_loop()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is None:
        return (await loop.create_connection(make, sock=sock))[1]
    raw, _ = await loop.create_connection(tls.Young, sock=sock)
    return await tls.wrap(raw, make, context, name)


async def _connected(loop: asyncio.AbstractEventLoop, info: aiohappyeyeballs.AddrInfoType) -> socket.socket:
    """A connection to the only address there is: no race to run."""
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def why(error: OSError, none: str = "no connection") -> str:
    """Why there is no connection; it names neither host nor address, which are not the client's to know."""
    if isinstance(error, TimeoutError):
        return f"{none} in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message.partition(",")[0]  # behind the comma stands the host's name
        return f"the certificate can't be verified: {said}"
    return f"{none}: {_said(error)}"


def _said(error: OSError) -> str:
    """In the system's words."""
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS failed"
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or type(error).__name__
    return os.strerror(error.errno)
