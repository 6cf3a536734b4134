"""Whose certificates are believed: contexts for TLS, one for all upstreams of a config that believe the same ones."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterable
from pathlib import Path


class Trust:
    """The contexts of one generation: a reload reads anew, as certificates may have been renewed.

    Each takes some 40 ms and 1 MB, for the system's certificates. They are read in a thread, which lets go of the
    interpreter meanwhile: a reload holds up no answer.
    """

    def __init__(self) -> None:
        self._contexts: dict[Path | None, ssl.SSLContext] = {}
        self._reading = threading.Lock()

    async def read(self, ca_files: Iterable[Path | None]) -> None:
        """Have at hand what `context` gives for these. Raises OSError."""
        if any(ca_file not in self._contexts for ca_file in ca_files):
            await asyncio.to_thread(lambda: [self.context(ca_file) for ca_file in ca_files])

    def context(self, ca_file: Path | None = None) -> ssl.SSLContext:
        """What believes the system's certificates, and those of the file. Raises OSError where that can't be used.

        Which are the system's the environment says (SSL_CERT_FILE), as everywhere.
        """
        with self._reading:
            if ca_file not in self._contexts:
                context = ssl.create_default_context()
                if ca_file is not None:
                    try:
                        context.load_verify_locations(cafile=ca_file)
                    except OSError as exc:  # of which ssl.SSLError is one
                        raise OSError(f"ca_file {ca_file} can't be used: {exc.strerror}") from exc
                self._contexts[ca_file] = context
            return self._contexts[ca_file]
