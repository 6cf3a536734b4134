"""A tunnel through an HTTP proxy (CONNECT, RFC 9110 §9.3.6): behind it the connection is as if it were direct."""

from __future__ import annotations

import asyncio
import re
import socket

from ..core.proxies import Proxy
from ..model.errors import UpstreamError

HEAD = 2**14  # bytes of the proxy's answer in which its head must end
END = b"\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?\r\n")


async def dig(loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: Proxy, authority: bytes) -> None:
    """Have the proxy at the socket's other end connect it to `authority`. Raises UpstreamError in words, or OSError."""
    lines = [b"CONNECT %b HTTP/1.1" % authority, b"Host: %b" % authority]
    if proxy.credential is not None:
        lines.append(b"Proxy-Authorization: %b" % proxy.credential.reveal().encode())
    await loop.sock_sendall(sock, b"\r\n".join(lines) + END)
    heard = b""
    while END not in heard:
        piece = await loop.sock_recv(sock, 2**12)
        heard += piece
        if not piece:
            raise _sorry("the proxy hung up without a word" if not heard else "the proxy's answer broke off")
        if not heard.startswith(b"HTTP/1."[: len(heard)]) or len(heard) > HEAD:
            raise _sorry("the proxy's answer is not HTTP")
    status = STATUS.match(heard)
    if status is None:
        raise _sorry("the proxy's answer is not HTTP")
    # In the answer to CONNECT, lengths and codings mean nothing: behind its head the tunnel begins.
    if not status[1].startswith(b"2"):
        raise _sorry(f"the proxy refused the tunnel with status {status[1].decode()}")
    if not heard.endswith(END) or heard.count(END) > 1:
        raise _sorry("the proxy sent bytes that are nobody's")


def _sorry(why: str) -> UpstreamError:
    return UpstreamError(why, sent=False)
