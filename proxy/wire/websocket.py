"""WebSockets: aiohttp's client towards the upstream, its server towards the client, messages in between.

Sockets stay on aiohttp's session: they are few and long, so its weight doesn't count, and its frame code does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, ClientTimeout, ClientWSTimeout, DummyCookieJar, WSMsgType
from aiohttp.client_exceptions import ClientError, WSServerHandshakeError
from aiohttp.web_exceptions import HTTPException
from aiohttp.web_ws import WebSocketResponse
from multidict import CIMultiDict
from yarl import URL

from ..model.body import Bytes
from ..model.errors import Rejected, UpstreamError
from ..model.message import Headers, Request, Response
from ..model.socket import Answer, Message, Socket
from .headers import INWARD_FILTER, OUTWARD_FILTER, end_to_end
from .internals import Dialler
from .internals_request import Upgrade

if TYPE_CHECKING:
    from .upstream import Wire

GOODBYE = 2.0  # seconds for the other end to answer a close before it is hung up on
REFUSAL = 2**20  # bytes of a refused handshake's body that are handed on
KINDS = {WSMsgType.TEXT: "text", WSMsgType.BINARY: "binary", WSMsgType.PING: "ping", WSMsgType.PONG: "pong"}
# The handshake of each side is that side's own (RFC 6455 §4): keys, versions and extensions never cross.
HANDSHAKE = frozenset(
    (
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-extensions",
        b"sec-websocket-accept",
        b"sec-websocket-protocol",
        b"content-length",
    )
)
AUTO = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


def wants_socket(request: Request) -> bool:
    """Whether a GET asks to be upgraded to a WebSocket."""
    for name, value in request.headers.raw:
        if len(name) == 7 and name.lower() == b"upgrade":
            return value.lower() == b"websocket" and b"upgrade" in _tokens(request.headers)
    return False


def _tokens(headers: Headers) -> list[bytes]:
    """What the Connection headers list. Without `upgrade` among them, an Upgrade header is somebody else's."""
    lines = [value for name, value in headers.raw if name.lower() == b"connection"]
    return [token.strip().lower() for line in lines for token in line.split(b",")]


class _Refused(Exception):
    """The upstream answered the handshake with something else than 101."""

    def __init__(self, status: int, reason: str, raw: Any, body: bytes) -> None:
        super().__init__(status)
        self.response = Response(
            status,
            Headers(tuple(end_to_end(raw, OUTWARD_FILTER))).replaced(content_length=str(len(body))),
            Bytes(body),
            reason=reason.encode("utf-8", "surrogateescape"),
        )


class Sockets:
    """The upstream's end: one session for one upstream, opened with the first socket."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._session: ClientSession | None = None

    async def open(self, request: Request) -> Response:
        """Shake hands; 101 with a socket, or the upstream's refusal as it is. Raises UpstreamError."""
        address = self._wire.address
        offered = [p.strip() for line in request.headers.getall("Sec-WebSocket-Protocol") for p in line.split(",")]
        pairs = Headers(tuple(end_to_end(request.headers.raw, INWARD_FILTER))).without(HANDSHAKE)
        scheme = "wss" if address.tls else "ws"
        authority = address.header.decode("ascii")
        target = address.target(request.target).decode("utf-8", "surrogateescape")
        url = URL(f"{scheme}://{authority}{target}", encoded=True)
        headers = CIMultiDict(pairs.view)
        if offered:
            headers["Sec-WebSocket-Protocol"] = ", ".join(offered)
        try:
            # The whole handshake counts as a first byte: nothing of it can be billed.
            async with asyncio.timeout(self._wire.connect_timeout + self._wire.first_byte_timeout):
                peer = await self._open_session().ws_connect(
                    url,
                    headers=headers,
                    protocols=offered,
                    autoclose=False,
                    autoping=False,
                    max_msg_size=0,
                    timeout=ClientWSTimeout(ws_close=GOODBYE),
                )
        except _Refused as refused:
            return refused.response
        except TimeoutError as exc:
            raise UpstreamError("no socket in time", sent=True, timeout=True) from exc
        except (ClientError, WSServerHandshakeError, OSError) as exc:
            raise UpstreamError("the socket's handshake failed", sent=True) from exc
        raw = peer._response.raw_headers
        out = Headers(tuple(end_to_end(raw, OUTWARD_FILTER))).without(HANDSHAKE)
        if peer.protocol:
            out = out.replaced(sec_websocket_protocol=peer.protocol)
        return Response(101, out, socket=UpstreamSocket(peer))

    def _open_session(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=Dialler(self._wire),
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=None),
                auto_decompress=False,
                skip_auto_headers=AUTO,
                middlewares=(_refusal_with_body,),
            )
        return self._session

    async def aclose(self) -> None:
        """Close every socket of the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _refusal_with_body(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    """Keep a refused handshake's body, which aiohttp's own error drops, and follow no redirect."""
    response = await handler(request)
    if response.status != 101:
        body = b""
        with suppress(ClientError, TimeoutError):
            while len(body) < REFUSAL and (piece := await response.content.read(REFUSAL - len(body))):
                body += piece
        response.close()
        raise _Refused(response.status, response.reason or "", response.raw_headers, body)
    return response


class UpstreamSocket:
    """The upstream's end of a socket."""

    def __init__(self, peer: Any) -> None:
        self._peer = peer

    async def receive(self) -> Message:
        """The upstream's next message; `close` once it has ended, 1006 when it broke off."""
        return _message(await self._peer.receive(), self._peer)

    async def send(self, message: Message) -> None:
        """Send to the upstream."""
        await _send(self._peer, message)

    async def close(self, code: int = 1000, reason: bytes = b"") -> None:
        """End it."""
        await self._peer.close(code=code, message=reason)


def _message(raw: Any, end: Any) -> Message:
    kind = KINDS.get(raw.type)
    if kind is not None:
        data = raw.data.encode() if isinstance(raw.data, str) else bytes(raw.data)
        return Message(kind, data)  # type: ignore[arg-type]
    if raw.type is WSMsgType.CLOSE:
        return Message("close", (raw.extra or "").encode(), raw.data or 1005)
    return Message("close", b"", end.close_code or 1006)


async def _send(end: Any, message: Message) -> None:
    if message.kind == "text":
        await end.send_str(message.data.decode())
    elif message.kind == "binary":
        await end.send_bytes(message.data)
    elif message.kind == "ping":
        await end.ping(message.data)
    elif message.kind == "pong":
        await end.pong(message.data)
    else:
        await end.close(code=_sendable(message.code), message=message.data)


def _sendable(code: int) -> int:
    """1005, 1006 and 1015 are never sent (RFC 6455 §7.4.1): no code becomes 1000, a break becomes 1011."""
    return {1005: 1000, 1006: 1011, 1015: 1011}.get(code, code)


async def serve(
    request: Upgrade, response: Response, extra: list[tuple[str, str]], heard: Callable[[int], None]
) -> None:
    """Shake hands with the client and carry messages both ways until one side ends; `heard` counts what it is sent."""
    socket = response.socket
    assert socket is not None
    chosen = response.headers.get("Sec-WebSocket-Protocol")
    end = WebSocketResponse(
        timeout=GOODBYE,
        protocols=(chosen,) if chosen else (),
        autoping=False,
        autoclose=False,
        compress=False,
        max_msg_size=0,
    )
    for name, value in [*response.headers.without(HANDSHAKE).view.items(), *extra]:
        end.headers.add(name, value)
    try:
        await end.prepare(request)
    except HTTPException as exc:
        await socket.close(1001)
        raise Rejected("The WebSocket handshake is not a valid one.") from exc
    carried = _Carried(socket, end, heard)
    try:
        await carried.run()
    finally:
        request.exchange = None  # who hangs up from here on does not leave: the socket has ended
        await carried.close()


class _Carried:
    """Both directions of one socket; the first to end ends the other."""

    def __init__(self, upstream: Socket, client: Any, heard: Callable[[int], None]) -> None:
        self._upstream = upstream
        self._client = client
        self._heard = heard
        self._to_upstream = Message("close", code=1001)
        self._to_client = Message("close", code=1011)

    async def run(self) -> None:
        """Carry until one side ends; raises what a layer raised."""
        loop = asyncio.get_running_loop()
        ways = [loop.create_task(way, name="socket") for way in (self._inward(), self._outward())]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                with suppress(ConnectionError):  # it broke while we sent: as if it had said nothing
                    self._to_upstream = self._to_client = way.result()
        finally:
            # Whoever still receives must stop before anybody closes: aiohttp would tell it of a close of its own.
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def close(self) -> None:
        """Tell both ends, in the words of the one that ended it."""
        await asyncio.gather(
            self._close(self._upstream.close, self._to_upstream), self._close(self._end_client, self._to_client)
        )

    async def _inward(self) -> Message:
        while True:
            message = _message(await self._client.receive(), self._client)
            if message.kind == "close":
                return message
            try:
                await self._upstream.send(message)
            except Answer as answer:
                await self._tell(answer.message)

    async def _outward(self) -> Message:
        while True:
            message = await self._upstream.receive()
            if message.kind == "close":
                return message
            await self._tell(message)

    async def _tell(self, message: Message) -> None:
        self._heard(len(message.data))
        await _send(self._client, message)

    async def _end_client(self, code: int, reason: bytes) -> None:
        await self._client.close(code=code, message=reason)

    async def _close(self, close: Callable[[int, bytes], Awaitable[None]], message: Message) -> None:
        with suppress(Exception):  # it is gone already
            await close(_sendable(message.code), message.data)
