"""Links that end: a name and a time, signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

PURPOSE = b"framegate: links to pictures"  # the master keys have other work too; each has a key of its own
QUERY = re.compile(r"expires=([1-9]\d{0,11})&signature=([A-Za-z0-9_-]{43})", re.ASCII)


class Links:
    """Signs under the newest master key; a link signed under an older one holds for as long as that is given."""

    def __init__(self, masters: Sequence[str], *, ttl: float) -> None:
        if not masters or not all(masters):
            raise ValueError("links can't be signed without a key")
        self._keys = [hmac.digest(master.encode(), PURPOSE, hashlib.sha256) for master in masters]
        self.ttl = ttl  # seconds

    def sign(self, name: str, until: float) -> str:
        """The query that makes a link to that name good until then, in seconds since 1970."""
        return f"expires={int(until)}&signature={_signature(self._keys[0], name, int(until))}"

    def until(self, name: str, query: str) -> int | None:
        """Until when the link is good, which may be over; None where the signature is not ours."""
        found = QUERY.fullmatch("&".join(sorted(query.split("&"))))  # in any order
        if found is None:
            return None
        until = int(found[1])
        # All of them, whichever it is: how long that takes says nothing.
        good = [hmac.compare_digest(_signature(key, name, until), found[2]) for key in self._keys]
        return until if any(good) else None


def _signature(key: bytes, name: str, until: int) -> str:
    raw = hmac.digest(key, f"{name}\n{until}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
