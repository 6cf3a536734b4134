"""TLS over connections of our own making: what comes before the handshake, and who does not answer a farewell."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from proxy.wire import tls
from proxy.wire.internals import Lent
from proxy.wire.secure import Early
from proxy.wire.upstream import Wire

from .authority import Authority
from .telling import until, wired


async def test_what_comes_before_the_handshake_is_left_for_it() -> None:
    # asyncio before Python 3.11.4 read it all the same, and the second half of a hello could overtake the first.
    here, there = socket.socketpair()
    with closing(there):
        there.send(b"hello")
        transport, early = await asyncio.get_running_loop().connect_accepted_socket(Early, here)
        for _ in range(5):
            await asyncio.sleep(0)
        assert early.pieces == []
        transport.resume_reading()
        await until(lambda: early.pieces)
        assert early.pieces == [b"hello"]
        transport.abort()


@asynccontextmanager
async def unanswered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Wire, asyncio.Event]]:
    """A wire to a server that answers no farewell: from when the event is set it reads nothing more."""
    monkeypatch.setattr(tls, "GOODBYE", 600.0)
    authority, deaf, over = Authority(folder), asyncio.Event(), asyncio.Event()

    async def shakes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        deaf.set()
        await over.wait()
        writer.transport.abort()

    context = authority.server("127.0.0.1")
    async with await asyncio.start_server(shakes, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10), wired(f"https://127.0.0.1:{port}", ca_file=authority.ca_file) as wire:
            yield wire, deaf
        over.set()


async def test_a_link_that_is_closed_twice_can_still_be_hung_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unanswered(tmp_path, monkeypatch) as (wire, deaf):
        link = await wire._dial()
        await deaf.wait()
        link.close()
        link.close()
        assert wire.links == {link}
        link.abort()
        await until(lambda: not wire.links)


async def test_a_connection_that_aiohttp_closes_twice_is_hung_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unanswered(tmp_path, monkeypatch) as (wire, deaf):
        lent = await wire.lend(lambda: Lent(asyncio.get_running_loop(), wire))
        await deaf.wait()
        transport = lent.transport
        assert transport is not None
        transport.close()  # as it does with an answer that it can't read
        assert wire.lent == {lent}
        lent.close()
        transport.abort()
        await until(lambda: not wire.lent)
