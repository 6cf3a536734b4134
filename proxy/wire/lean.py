"""aiohttp without the system's certificates, which it reads twice when it is imported: start-up is imports.

It keeps two contexts for clients that bring none along. Ours do (`dial.py`, `fetch.py`), so that only a plugin with a
client of its own has one read, by its first handshake. They were a seventh of a start without plugins, and 2.5 MB.
"""

from __future__ import annotations

import ssl
import sys
from typing import Any


class Late(ssl.SSLContext):
    """A context that reads the system's certificates with its first handshake, and is like any other from then on."""

    def wrap_bio(self, *args: Any, **kw: Any) -> ssl.SSLObject:
        """Begin a handshake in memory, as asyncio does."""
        return self._read().wrap_bio(*args, **kw)

    def wrap_socket(self, *args: Any, **kw: Any) -> ssl.SSLSocket:
        """Begin a handshake on a socket."""
        return self._read().wrap_socket(*args, **kw)

    def _read(self) -> ssl.SSLContext:
        self.__class__ = ssl.SSLContext  # type: ignore[assignment]
        self.load_default_certs()
        return self


def _put_off(context: ssl.SSLContext, *_: object) -> None:
    context.__class__ = Late


if "aiohttp" not in sys.modules:
    _load = ssl.SSLContext.load_default_certs
    ssl.SSLContext.load_default_certs = _put_off  # type: ignore[assignment, method-assign]
    ssl.SSLContext.set_default_verify_paths = _put_off  # type: ignore[assignment, method-assign]
    try:
        import aiohttp  # noqa: F401 - for whoever imports it next
    finally:
        ssl.SSLContext.load_default_certs = _load  # type: ignore[method-assign]
        del ssl.SSLContext.set_default_verify_paths  # ours: the one that it has by birth shows again
