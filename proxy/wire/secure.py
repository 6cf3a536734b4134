"""The public side of TLS: clients' handshakes, and connections that close as plain ones do."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from .tls import GOODBYE, Young

LONGEST = 60.0  # seconds until TLS hangs up of its own accord; our clocks are shorter
HELD = 2**16  # bytes, encrypted already, that wait for a slow client beside what a plain connection holds
STRAIGHT = ("get_buffer", "buffer_updated", "eof_received", "pause_writing")
STRAIGHT_OUT = (
    "get_extra_info",
    "get_protocol",
    "is_reading",
    "pause_reading",
    "resume_reading",
    "set_protocol",
    "write",
    "writelines",
)
STILL_HEARD = ("connection_lost", "pause_writing", "resume_writing")
VOID = bytearray(2**16)  # where bytes go that nobody reads
SINK: dict[str, Callable[..., Any]] = {
    "get_buffer": lambda hint: VOID,
    "buffer_updated": lambda size: None,
    "eof_received": lambda: None,
}
# What clients often do wrong, in words; OpenSSL's for the rest.
WORDS = {
    "HTTP_REQUEST": "it speaks plain HTTP, and this port speaks TLS",
    "UNSUPPORTED_PROTOCOL": "it offers nothing newer than TLS 1.1",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know who signed the certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it finds the certificate expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not believe the certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not believe the certificate",
}


class Greeter:
    """Shakes hands with clients, each in a task of its own, and knows the connections that came of it.

    `context` may be exchanged at any time: it is for the handshakes to come.
    """

    def __init__(self, context: ssl.SSLContext, timeout: float, log: Any) -> None:
        self.context = context
        self._timeout = timeout
        self._log = log
        self._closed = False
        self._shaking: set[asyncio.Task[Any]] = set()
        self._connections: set[Secure] = set()
        self._emptied: asyncio.Event | None = None  # somebody waits for the last connection

    async def greet(self, taken: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        """Shake hands, and give the connection to what `make` makes. Who fails is named in one line, if at all."""
        if self._closed:
            taken.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._shaking.add(task)
        try:
            await self._shake(taken, make)
        finally:
            self._shaking.discard(task)

    async def _shake(self, taken: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        loop = asyncio.get_running_loop()
        raw, early = await loop.connect_accepted_socket(Early, taken)
        peer = raw.get_extra_info("peername")
        client = peer[0] if isinstance(peer, tuple) and peer else ""
        try:
            shaking = asyncio.ensure_future(
                loop.start_tls(
                    raw,
                    early,
                    self.context,
                    server_side=True,
                    ssl_handshake_timeout=self._timeout,
                    ssl_shutdown_timeout=LONGEST,
                )
            )
            # In the round in which TLS begins, behind that and before anything is read.
            loop.call_soon(loop.call_soon, early.hand_over, raw)
            tls = await shaking
        except BaseException as error:
            raw.abort()
            if isinstance(error, ssl.SSLError):
                reason = error.reason or "UNKNOWN"
                why = WORDS.get(reason, reason.replace("_", " ").lower())
            elif isinstance(error, ConnectionAbortedError):
                why = f"it took longer than {self._timeout:g} s"
            elif isinstance(error, OSError):
                return  # it has gone: those that only look whether a port is open are none to speak of
            else:
                raise
            self._log.info("handshake_failed", client=client, why=why)
            return
        if tls is None or tls.is_closing():
            raw.abort()
            return
        tls.pause_reading()
        protocol = make()
        secure = Secure(tls, raw, protocol, self._lost)
        self._connections.add(secure)
        protocol.connection_made(secure)
        # Not at once: a protocol's own task must have begun, as it has where bytes come a round of the loop later.
        loop.call_soon(secure.begin, early.pieces)

    def _lost(self, connection: Secure) -> None:
        self._connections.discard(connection)
        if self._emptied is not None and not self._connections:
            self._emptied.set()

    def sweep(self, stall: float) -> None:
        """Hang up on who has taken nothing for `stall` seconds of what was left, or does not answer a farewell."""
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._connections):
            connection.sweep(now, stall)

    def close(self) -> None:
        """Begin no more handshakes, and end those that are under way."""
        self._closed = True
        for task in self._shaking:
            task.cancel()

    async def part(self, seconds: float) -> None:
        """Close what is left without waiting for farewells; what a client does not take in that time is lost."""
        for connection in tuple(self._connections):
            connection.part()
        for patience in (seconds, 1.0):
            if self._connections:
                self._emptied = asyncio.Event()
                try:
                    await asyncio.wait_for(self._emptied.wait(), patience)
                except TimeoutError:
                    for connection in tuple(self._connections):
                        connection.abort()


class Early(Young):
    """A client's first protocol. It may speak before TLS listens (uvloop reads at once, asked to or not), and in the
    same breath as it ends the handshake.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        """Keep it for who is to come: first TLS, then the protocol."""
        self.pieces.append(data)

    def hand_over(self, raw: asyncio.Transport) -> None:
        """Let TLS have what came before it."""
        tls: Any = raw.get_protocol()
        if tls is self or raw.is_closing():
            return
        data, self.pieces = b"".join(self.pieces), []
        while data:
            into = tls.get_buffer(len(data))
            count = min(len(into), len(data))
            into[:count] = data[:count]
            data = data[count:]
            tls.buffer_updated(count)


class Secure(asyncio.Transport):
    """TLS as a transport that keeps a plain one's promises, which asyncio's and uvloop's do not.

    One direction can be closed alone. Closed, it gives a slow client the time that a plain connection would: theirs
    throws away what is not taken within the time for the farewell, and resets the connection when bytes are still on
    their way to us. What waits in the socket's buffer is counted, too.
    """

    __slots__ = (
        "_closing",
        "_ending",
        "_gone",
        "_ground",
        "_hasty",
        "_lost",
        "_moved",
        "_parted",
        "_progress",
        "_raw",
        "_tls",
        *STRAIGHT_OUT,
    )

    def __init__(
        self,
        tls: asyncio.Transport,
        raw: asyncio.Transport,
        protocol: asyncio.Protocol,
        lost: Callable[[Secure], None],
    ) -> None:
        self._tls = tls
        self._raw = raw
        self._lost = lost
        self._ending = False  # nothing more will be written
        self._parted = False  # the farewell is said
        self._closing = False
        self._hasty = False  # nobody waits for the client's farewell
        self._gone = False
        self._progress = 0  # how much was left when we last looked
        self._moved = 0.0  # since when that has been so; 0: we have not looked yet
        for name in STRAIGHT_OUT:
            setattr(self, name, getattr(tls, name))
        tls.set_write_buffer_limits(high=HELD)
        self._ground = Ground(raw.get_protocol(), self._taken, self._over)
        raw.set_protocol(self._ground)
        tls.set_protocol(protocol)

    def begin(self, early: Iterable[bytes]) -> None:
        """Let the protocol hear what the client has said already; then what it says."""
        if not self.is_closing():
            self._tls.resume_reading()
            if data := b"".join(early):
                protocol = self._tls.get_protocol()
                assert isinstance(protocol, asyncio.Protocol)
                protocol.data_received(data)

    def get_write_buffer_size(self) -> int:
        """What the client has not taken yet, encrypted and not."""
        return 0 if self._gone else self._tls.get_write_buffer_size() + self._raw.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def is_closing(self) -> bool:
        """Whether it is about to end, by us or by the client."""
        return self._closing or self._raw.is_closing() or (self._tls.is_closing() and not self._parted)

    def write_eof(self) -> None:
        """Say farewell once the client has taken what was written; what it still sends is read and dropped."""
        if self._ending or self.is_closing():
            return
        self._ending = True
        if self.get_write_buffer_size():
            self._raw.set_write_buffer_limits(high=0)  # to hear of it when all is taken
        else:
            self._part()

    def close(self) -> None:
        """Let the client take what was written, say farewell, and wait a little for its end."""
        self.write_eof()
        if not self._closing:
            self._closing = True
            self._moved = 0.0

    def part(self) -> None:
        """Close, and wait for nothing but what was written."""
        self._hasty = True
        self.close()
        if self._parted or not self.get_write_buffer_size():
            self._raw.close()

    def abort(self) -> None:
        """Hang up without a farewell, by which the client sees that something is missing."""
        self._closing = True
        if not self._gone:  # asyncio's own would stumble over itself
            self._tls.abort()
            self._raw.abort()

    def sweep(self, now: float, stall: float) -> None:
        """Look at the clocks of a connection that is to end."""
        if not self.is_closing():
            return
        size = 0 if self._parted else self.get_write_buffer_size()
        if size != self._progress or not self._moved:
            self._progress, self._moved = size, now
        elif now - self._moved > (stall if size else GOODBYE):
            self.abort()

    def _taken(self) -> None:
        if self._ending and not (self._parted or self._tls.is_closing() or self.get_write_buffer_size()):
            self._part()

    def _part(self) -> None:
        self._parted = True
        self._moved = 0.0
        # TLS must have read all that has come before it can say farewell, and hear nothing of what comes after that.
        self._tls.set_protocol(Deaf(self._tls.get_protocol()))
        self._tls.resume_reading()
        self._tls.close()
        self._ground.sink()
        self._raw.resume_reading()
        if self._hasty:
            self._raw.close()

    def _over(self) -> None:
        self._gone = True
        self._lost(self)


class Ground(asyncio.BufferedProtocol):
    """Stands between a socket and its TLS, to hear what TLS keeps to itself; the rest goes straight to its methods."""

    __slots__ = ("_over", "_taken", "_tls", *STRAIGHT)

    def __init__(self, tls: Any, taken: Callable[[], None], over: Callable[[], None]) -> None:
        self._tls = tls
        self._taken = taken
        self._over = over
        for name in STRAIGHT:
            setattr(self, name, getattr(tls, name))

    def sink(self) -> None:
        """Drop what comes from now on. TLS would take it, behind our farewell, for a fault."""
        for name, call in SINK.items():
            setattr(self, name, call)

    def resume_writing(self) -> None:
        """The client has taken what waited in the socket's buffer."""
        self._tls.resume_writing()
        self._taken()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._tls.connection_lost(exc)
        self._over()


class Deaf(asyncio.Protocol):
    """A protocol that hears nothing more but the end."""

    __slots__ = STILL_HEARD

    def __init__(self, behind: asyncio.BaseProtocol) -> None:
        for name in STILL_HEARD:
            setattr(self, name, getattr(behind, name))
