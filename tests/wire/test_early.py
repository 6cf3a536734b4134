"""An answer that comes while we still write, and the reset behind it, on both loops, with TLS and without."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from proxy.model.body import Body

from .authority import Authority
from .telling import posted, wired

MB = 1_000_000
ROUNDS = 10


@contextmanager
def refuser(size: int, tls: ssl.SSLContext | None) -> Iterator[int]:
    """An upstream that reads 2 MB, answers 413 and closes with more unread, which resets the connection; its port.

    A thread of its own, for asyncio would read on: its TLS says farewell and waits for the other end's.
    """
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size + b"b" * size

    def refuse(taken: socket.socket) -> None:
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the reset throws away what has not left yet
        with tls.wrap_socket(taken, server_side=True) if tls else taken as end:
            read = 0
            while read < 2 * MB and (piece := end.recv(2**16)):
                read += len(piece)
            end.sendall(answer)

    def serve() -> None:
        with suppress(OSError):  # the end
            while True:
                refuse(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes an accept that nobody comes to
            thread.join()


class Large(Body):
    """40 MB in pieces."""

    length = 40 * MB

    def __init__(self, piece: int) -> None:
        self._piece = piece

    def now(self) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.length // self._piece):
            yield b"x" * self._piece
            await asyncio.sleep(0)


@pytest.mark.parametrize("piece", [50_000, MB])
@pytest.mark.parametrize("size", [3, 40_000])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_refusal_is_heard_although_a_reset_overtakes_it(
    loop: str, secure: bool, size: int, piece: int, tmp_path: Path
) -> None:
    factory = None
    if loop == "uvloop":
        factory = pytest.importorskip(
            "uvloop", reason="uvloop is not installed here; the extra 'speed' brings it"
        ).new_event_loop
    authority = Authority(tmp_path) if secure else None

    async def upload(port: int) -> None:
        url = f"{'https' if secure else 'http'}://127.0.0.1:{port}"
        async with wired(url, ca_file=authority.ca_file if authority else None) as wire:
            for _ in range(ROUNDS):
                response = await wire.send(posted(Large(piece)))
                assert response.status == 413 and await response.body.read(MB) == b"b" * size

    with refuser(size, authority.server("127.0.0.1") if authority else None) as port:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(upload(port))
