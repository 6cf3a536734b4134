"""A public port with TLS, and a client of it that sees how a connection ends."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from proxy.testkit import Served


def secured(pem: Path, server: str = "") -> str:
    """Lines of [server] for that certificate and key."""
    return f'certificate = "{pem}"\nprivate_key = "{pem}"\n{server}'


class Client:
    """A client in a thread's hands, which knows a farewell from a mere hang-up. Its calls block."""

    def __init__(self, served: Served, context: ssl.SSLContext, *, window: int | None = None) -> None:
        sock = socket.socket()
        sock.settimeout(20)
        if window is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.connect(("127.0.0.1", served.port))
        self.tls = context.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.tls.close()

    def ask(self, request: bytes) -> bytes:
        """Send this; what comes first."""
        self.tls.sendall(request)
        return self.tls.recv(2**16)

    def rest(self) -> tuple[bytes, bool]:
        """All that still comes, and whether a farewell was said."""
        said = bytearray()
        try:
            while piece := self.tls.recv(2**16):
                said += piece
        except ConnectionResetError:
            return bytes(said), False
        except ssl.SSLError as error:  # SSLEOFError since Python 3.11.3 (gh-95494)
            if "eof" not in str(error).lower():
                raise
            return bytes(said), False
        return bytes(said), True

    def all(self, request: bytes) -> tuple[bytes, bool]:
        """Send this; all that comes, and whether a farewell was said."""
        self.tls.sendall(request)
        return self.rest()


@contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    """A connection that has said nothing yet."""
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=20)) as sock:
        yield sock
