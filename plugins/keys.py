"""Keys: who calls, by which key, and whether that key may use this endpoint, and this model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit

from proxy.api import (
    ANYBODY,
    CALLER,
    BodyTooLarge,
    Caller,
    Callers,
    Exchange,
    Forward,
    Plugin,
    Rejected,
    Request,
    Response,
    Services,
    UpstreamError,
    endpoint,
    narrowed,
)

from .keys_models import may, restrained

OPEN = Caller(ANYBODY, name="anybody on this machine")
LONGEST_LIST = 4 * 2**20  # bytes of a list of models
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
KEYS = frozenset((b"authorization", b"x-api-key", b"api-key"))
SOCKET_KEY = "openai-insecure-api-key."  # how browsers carry a key into a socket: in Sec-WebSocket-Protocol


class Keys(Plugin):
    """Knows the caller by their key and takes the key off; in open mode any key will do, or none."""

    mode: Literal["keys", "open"] = "keys"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    fills = (CALLER,)

    @property
    def anonymous(self) -> bool:
        """Open mode is for this machine alone."""
        return self.mode == "open"

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Keep the directory of callers at hand; a store that can't be opened is told at start."""
        self._callers: Callers = services.callers
        if self.mode == "keys":
            await self._callers.open()
        yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        """Take the key off, find its owner, and let them go where they may."""
        socket = request.headers.view.get("Upgrade", "").lower() == "websocket"
        key, request = _taken_off(request)
        if self.mode == "open":
            self._guard(request)
            exchange[CALLER] = OPEN
            return await forward(request)
        if key is None:
            raise Rejected(
                "No API key: send one as Authorization: Bearer, x-api-key or api-key.",
                status=401,
                type="authentication_error",
                code="unauthorized",
            )
        caller = exchange[CALLER] = await self._callers.find(key)
        rest = request.target.removeprefix(exchange.prefix)
        sort = endpoint(request.method, rest, socket=socket)
        if sort not in caller.endpoints and "*" not in caller.endpoints:
            raise Rejected(
                f"This key may not use endpoints of the sort '{sort}'.",
                status=403,
                type="permission_error",
                code="permission_denied",
                param=sort,
            )
        if not caller.models:
            return await forward(request)
        if sort == "inference" and rest.partition("?")[0].strip("/") == "models":
            return await (forward(request) if request.method == "HEAD" else _narrowed(caller, request, forward))
        return await restrained(exchange, request, forward, caller, sort)

    def _guard(self, request: Request) -> None:
        """Any web page can reach a loopback port: by a name that leads here (DNS rebinding), or from a script."""
        host = _host(request.headers.get("Host") or "")
        if host not in LOOPBACK and host not in self.hosts:
            raise _foreign("Host", "hosts")
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self.origins:
            raise _foreign("Origin", "origins")


async def _narrowed(caller: Caller, request: Request, forward: Forward) -> Response:
    """The list of models without those that the key may not use; one that can't be read is not handed out."""
    response = await forward(request.with_headers(accept_encoding="identity"))
    if response.status != 200:
        return response
    try:
        document = await response.body.read(LONGEST_LIST)
        return response.with_body(narrowed(document, lambda model: may(caller, model)))
    except (ValueError, BodyTooLarge) as exc:
        await response.aclose()
        raise UpstreamError("its list of models can't be read", sent=True) from exc


def _taken_off(request: Request) -> tuple[str | None, Request]:
    """The caller's key and the request without it. Raises Rejected where two places name different ones."""
    headers = request.headers.view
    found: set[str] = set()
    for value in headers.getall("Authorization", ()):
        scheme, _, token = value.partition(" ")
        found.add(token.strip() if scheme.lower() == "bearer" else value)
    for name in ("x-api-key", "api-key"):
        if name in headers:
            found.update(headers.getall(name))
    if "Sec-WebSocket-Protocol" in headers:
        offered = [part.strip() for line in headers.getall("Sec-WebSocket-Protocol") for part in line.split(",")]
        carried = [part for part in offered if part.lower().startswith(SOCKET_KEY)]
        if carried:
            found.update(part[len(SOCKET_KEY) :] for part in carried)
            kept = ", ".join(part for part in offered if part not in carried)
            request = request.with_headers(sec_websocket_protocol=kept or None)
    found.discard("")
    if len(found) > 1:
        raise Rejected("Two different API keys; send one.")
    key = next(iter(found), None)
    if key is None:
        return None, request
    left = request.headers.without(KEYS)
    return key, Request(request.method, request.target, left, request.body, request.upstream)


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _foreign(header: str, setting: str) -> Rejected:
    return Rejected(
        f"This {header} is not one that the open mode knows; the setting '{setting}' lists those that it does.",
        status=403,
        type="permission_error",
        code="origin_not_allowed",
        param=header,
    )
