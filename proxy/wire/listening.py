"""Sockets bound once for several processes, each of which takes its fair part of the connections."""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.tables import Listen
    from .secure import Greeter

BACKLOG = 1024  # connections that wait to be taken
YIELD = 0.002  # seconds in which a process with fewer connections may take one before we do
PAUSE = 1.0  # seconds until we look again when the system can't give us one more; as asyncio does
AWAY = 2**31 - 1  # the share of a process that takes nothing: nobody waits for it


def bind(listen: Listen) -> list[socket.socket]:
    """Sockets that listen on that address; connections wait until they are taken. Raises OSError."""
    if listen.path is not None:
        clear(Path(listen.path))
        return [_bound(socket.AF_UNIX, listen.path)]
    found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            # A name may stand for several addresses; port 0 means the same free port at all of them.
            port = bound[0].getsockname()[1] if bound else listen.port
            bound.append(_bound(family, (address[0], port, *address[2:])))
    except BaseException:
        for one in bound:
            one.close()
        raise
    return bound


def _bound(family: int, address: Any) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        one.listen(BACKLOG)  # at once: two processes may bind one port, but only one may listen on it
        one.setblocking(False)
    except OSError as error:
        one.close()
        place = address if isinstance(address, str) else f"{address[0]} port {address[1]}"
        raise OSError(error.errno, f"can't listen on {place}: {os.strerror(error.errno or 0).lower()}") from error
    return one


def clear(path: Path) -> None:
    """Remove a socket that nobody listens on any more; never a file that is something else, nor another's socket."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(f"{path} is there and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(f"another process listens on {path}")


def spelled(bound: Any, scheme: str = "http") -> str:
    """Where that socket is reached: http://HOST:PORT, or unix:PATH."""
    if bound.family == socket.AF_UNIX:
        return f"unix:{bound.getsockname()}"
    host, port = bound.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


class Shares:
    """How many connections each of several processes has, in memory that they all see."""

    def __init__(self, count: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * count)).cast("i")
        for place in range(count):
            self._counts[place] = AWAY

    def set(self, place: int, connections: int) -> None:
        """So many connections are at this place."""
        self._counts[place] = connections

    def above(self, place: int) -> bool:
        """Whether this place has more than another has."""
        return self._counts[place] > min(self._counts)


class Acceptor:
    """Takes connections from sockets that several processes listen on, so that each gets about as many.

    Left alone, the process that wakes first takes all that wait, and with connections that are kept the others idle.
    So one that has more than another lets the others go first for a moment, and takes what they have left.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        factory: Callable[[], asyncio.Protocol],
        connections: Callable[[], int],
        spawn: Callable[..., None],
        shares: Shares,
        place: int,
        log: Any,
        greeter: Greeter | None = None,
    ) -> None:
        self._sockets = sockets
        self._factory = factory
        self._connections = connections
        self._spawn = spawn
        self._shares = shares
        self._place = place
        self._log = log
        self._greeter = greeter  # where TLS is spoken
        self._loop = asyncio.get_running_loop()
        self._welcoming = 0  # accepted, and no connection of the server's yet
        self._later: dict[socket.socket, asyncio.TimerHandle] = {}

    def open(self) -> None:
        """Begin to take connections."""
        self._count()
        for one in self._sockets:
            self._loop.add_reader(one, self._wake, one)

    def close(self) -> None:
        """Take no more, and let go of the sockets; nobody waits for a handshake's end."""
        if self._greeter is not None:
            self._greeter.close()
        self._shares.set(self._place, AWAY)
        for timer in self._later.values():
            timer.cancel()
        for one in self._sockets:
            self._loop.remove_reader(one)
            one.close()

    def _count(self) -> None:
        self._shares.set(self._place, self._connections() + self._welcoming)

    def _wake(self, one: socket.socket) -> None:
        self._count()
        if self._shares.above(self._place):
            self._rest(one, YIELD)
        else:
            self._take(one)

    def _rest(self, one: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(one)
        self._later[one] = self._loop.call_later(seconds, self._again, one)

    def _again(self, one: socket.socket) -> None:
        del self._later[one]
        self._loop.add_reader(one, self._wake, one)
        self._take(one)

    def _take(self, one: socket.socket) -> None:
        """Take one connection: were it all that wait, a burst would go to whoever wakes first."""
        try:
            taken, _ = one.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # most often: no descriptor is left
            self._log.error("accept_failed", why=os.strerror(error.errno or 0).lower())
            self._rest(one, PAUSE)
            return
        taken.setblocking(False)
        self._welcoming += 1
        self._count()
        self._spawn(self._welcome(taken), name="welcome")

    async def _welcome(self, taken: socket.socket) -> None:
        try:
            if self._greeter is None:
                await self._loop.connect_accepted_socket(self._factory, taken)
            else:
                await self._greeter.greet(taken, self._factory)
        except OSError:  # it has gone already
            taken.close()
        finally:
            self._welcoming -= 1
