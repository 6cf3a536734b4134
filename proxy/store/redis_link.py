"""Connections to the one Redis that holds our keys: found, dialled, lent to one command at a time, dropped in doubt.

redis-py's own clients put a connection back whose command was given up, and the answer to it went to the next caller
(redis-py #2624, #2665). Here each command runs in a task of its own, which nobody's cancellation reaches: it reads its
answer whether or not somebody waits for it. One that runs out of time takes its connection with it.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha1
from importlib.resources import files
from typing import Any

import hiredis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from ..model.quota import LEASE, PIECES
from ..model.redis import RedisAt
from ..model.store import StoreError
from ..model.timeout import Within
from .tally import KEPT, STEP

MOST = 32  # connections of a process; who finds them all at work waits, within its own time
# What the wrong server says, or one that is not ready. It did nothing, so another may be asked.
ELSEWHERE = (ReadOnlyError, MovedError, ClusterDownError)
LATE = "The store gave no answer in time."
BROKEN = "The store could not be read or written."
CLOSED = "The store is closed."
Address = tuple[str, int]
AnyConnection = Connection | UnixDomainSocketConnection


def pack(*words: bytes | str | int) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type] # its stub knows tuples of one alone
    return packed


class Script:
    """One that the server keeps and is asked for by its sum."""

    def __init__(self, name: str) -> None:
        texts = [files("proxy.store").joinpath("lua", f"{one}.lua").read_text("utf-8") for one in ("head", name)]
        numbers = f"local STEP, KEPT, PIECES, LEASE = {STEP}, {KEPT}, {PIECES}, {int(LEASE * 1000)}\n"
        self.text = (numbers + "".join(texts)).encode()
        self.sum = sha1(self.text, usedforsecurity=False).hexdigest()


class _Elsewhere(Exception):
    """This server did nothing; another, or the same a moment later, may."""


class Link:
    """The way to one server: that of the URL, the master that sentinels name, or the shard of our keys."""

    def __init__(self, at: RedisAt) -> None:
        self._at = at
        self.base = f"{{{at.prefix}}}:"
        self._idle: list[AnyConnection] = []
        self._room = asyncio.Semaphore(MOST)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._numbers = itertools.count(1)
        self._age = 0  # grows when what we are connected to turns out to be the wrong server
        self._found: Address | None = None  # the server that sentinels or a cluster named
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    async def run(self, script: Script, *arguments: bytes | str | int) -> list[Any]:
        """The script's answer, without its number. Raises StoreError within the time."""
        if self._closed:
            raise StoreError(CLOSED)
        task = asyncio.get_running_loop().create_task(self._told(script, arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        answer = await asyncio.shield(task)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Let what runs end, which takes no longer than a call may, and hang up."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._hang_up()

    # --- one command

    async def _told(self, script: Script, arguments: Sequence[bytes | str | int]) -> list[Any] | Exception:
        """What came of it; an error is handed over and not raised, since perhaps nobody waits any more."""
        try:
            async with Within(self._at.timeout), self._room:
                try:
                    return await self._once(script, arguments)
                except _Elsewhere:
                    return await self._once(script, arguments)
        except TimeoutError as error:
            self._found = None
            return _failed(LATE, error)
        except _Elsewhere as error:
            return _failed(BROKEN, error.__cause__)
        except ResponseError as error:
            return _failed(BROKEN, error)
        except (RedisError, OSError, EOFError) as error:
            self._found = None
            return _failed(BROKEN, error)
        except StoreError as error:
            return error

    async def _once(self, script: Script, arguments: Sequence[bytes | str | int]) -> list[Any]:
        age, clean = self._age, False
        connection = await self._borrow()
        try:
            try:
                answer = await self._exchange(connection, script, arguments)
                clean = True
            except ResponseError as error:
                # Out of a script of 6.2 the word comes in the middle of a text.
                if isinstance(error, ELSEWHERE) or "-READONLY" in str(error):
                    self._found = (error.host, error.port) if isinstance(error, MovedError) else None
                    self._age += 1
                    await self._hang_up()
                    raise _Elsewhere from error
                clean = True
                raise
            return answer
        finally:
            if clean and age == self._age and not self._closed:
                self._idle.append(connection)
            else:
                await _drop(connection)

    async def _exchange(
        self, connection: AnyConnection, script: Script, arguments: Sequence[bytes | str | int]
    ) -> list[Any]:
        number = next(self._numbers)
        command = pack("EVALSHA", script.sum, 1, self.base, number, *arguments)
        try:
            answer = await _ask(connection, command)
        except NoScriptError:
            await _ask(connection, pack("SCRIPT", "LOAD", script.text))
            answer = await _ask(connection, command)
        if not isinstance(answer, list) or not answer or answer[0] != number:
            # It can't be; were it so, every answer behind it would be another's too.
            raise StoreError("The store gave an answer to another question.")
        del answer[0]
        return answer

    # --- connections

    async def _borrow(self) -> AnyConnection:
        while self._idle:
            connection = self._idle.pop()
            with suppress(RedisError, OSError):
                if not await connection.can_read():
                    return connection
            await _drop(connection)  # the server hung up, or said what nobody had asked
        return await self._dial()

    async def _dial(self) -> AnyConnection:
        url = self._at.url
        if url.kind == "socket":
            made = UnixDomainSocketConnection(path=url.path, **self._settings())
            return await _connected(made)
        if url.kind == "server":
            return await _connected(self._to(url.hosts[0]))
        if self._found is None:
            self._found = await self._asked_first()
        connection = await _connected(self._to(self._found))
        if url.kind == "sentinel":
            try:
                role = await _ask(connection, pack("ROLE"))
            except BaseException:
                await _drop(connection)
                raise
            if role[0] != b"master":
                self._found = None
                await _drop(connection)
                raise ConnectionError("the sentinels name a server that is no master")
        return connection

    def _settings(self) -> dict[str, Any]:
        # redis-py tries again by itself, up to ten times and with pauses: a call would take longer than it may, and a
        # script could run twice. Time is kept by whoever asks, for connecting and asking together.
        at = self._at
        return {
            "username": at.username or None,
            "password": None if at.password is None else at.password.reveal(),
            "db": at.url.db,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "health_check_interval": 0,
            "protocol": 2,
            "driver_info": None,
        }

    def _to(self, address: Address, **others: Any) -> Connection:
        settings = {**self._settings(), **others, "host": address[0], "port": address[1]}
        if not self._at.url.tls:
            return Connection(**settings)
        if self._tls is None:
            self._tls = ssl.create_default_context()
            if self._at.ca_file is not None:
                self._tls.load_verify_locations(cafile=self._at.ca_file)
        made = SSLConnection(**settings)
        made.ssl_context.context = self._tls  # else each would read all certificates of the system again
        return made

    async def _asked_first(self) -> Address:
        """What the first of the hosts says that knows; all are asked at once, for one that is dead says nothing."""
        tasks = [asyncio.ensure_future(self._named(host)) for host in self._at.url.hosts]
        try:
            failed: Exception = ConnectionError("no host is named")
            for done in asyncio.as_completed(tasks):
                try:
                    return await done
                except (RedisError, OSError, EOFError) as error:
                    failed = error
            raise failed
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _named(self, host: Address) -> Address:
        """Where one sentinel or node says that our keys are."""
        if self._at.url.kind == "cluster":
            return await self._shard(host)
        password = self._at.sentinel_password
        sentinel = self._to(host, username=None, password=None if password is None else password.reveal(), db=0)
        try:
            await sentinel.connect()  # type: ignore[no-untyped-call]
            service = self._at.url.service
            told = await _ask(sentinel, pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service))
        finally:
            await _drop(sentinel)
        if not told:
            raise ConnectionError("the sentinels do not know the service")
        return told[0].decode(), int(told[1])

    async def _shard(self, host: Address) -> Address:
        node = self._to(host)
        try:
            await node.connect()  # type: ignore[no-untyped-call]
            slots = await _ask(node, pack("CLUSTER", "SLOTS"))
        finally:
            await _drop(node)
        ours = key_slot(self.base.encode())
        for first, last, master, *_ in slots:
            if first <= ours <= last:
                # A node that does not know its own address says nothing, or "?".
                name = (master[0] or b"").decode()
                return (host[0] if name in ("", "?") else name), int(master[1])
        raise ConnectionError("no node of the cluster has our keys")

    async def _hang_up(self) -> None:
        idle, self._idle = self._idle, []
        await _drop(*idle)


async def _connected(connection: AnyConnection) -> AnyConnection:
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await _drop(connection)
        raise
    return connection


async def _ask(connection: AnyConnection, command: bytes) -> Any:
    await connection.send_packed_command(command)
    return await connection.read_response()


async def _drop(*connections: AnyConnection) -> None:
    for connection in connections:
        with suppress(RedisError, OSError):
            await connection.disconnect(nowait=True)


def _failed(text: str, error: BaseException | None) -> StoreError:
    failed = StoreError(text)
    failed.__cause__ = error
    return failed


def chunks(flat: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    """A flat list by twos."""
    return zip(flat[::2], flat[1::2], strict=True)
