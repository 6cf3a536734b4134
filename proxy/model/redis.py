"""Where a Redis is, and who asks it: what the config says, read without the library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from .values import Secret

Kind = Literal["server", "socket", "sentinel", "cluster"]
SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("socket", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
PORT = 6379
SENTINEL_PORT = 26379
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?", re.ASCII)
SERVICE = re.compile(r"[A-Za-z0-9._-]+")
FORMS = (
    '"redis://HOST:6379/0", "rediss://..." (TLS), "unix:///PATH?db=0", '
    '"redis+sentinel://HOST:26379,HOST:26379/SERVICE/0" or "redis+cluster://HOST:6379,HOST:6379"'
)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """An address of Redis, taken apart. Who asks stands elsewhere, so that it may be shown."""

    kind: Kind
    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()  # one server, or those of which one will know
    path: str = ""  # of a socket
    service: str = ""  # by which the sentinels know it
    db: int = 0

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """The address. Raises ValueError, whose text does not repeat it: it may hold a password."""
        scheme = text.partition(":")[0]
        if scheme not in SCHEMES or "://" not in text:
            raise ValueError(f"url must be {FORMS}")
        if re.search(r"[\x00-\x20\x7f\\#]", text):
            raise ValueError("url holds a blank, a backslash, a '#' or a control character")
        kind, tls = SCHEMES[scheme]
        # Not urlsplit: it takes no brackets behind another host, in Pythons that are new, or old and mended by Debian.
        front, _, query = text.partition("://")[2].partition("?")
        netloc, slash, path = front.partition("/")
        path = slash + path
        if "@" in netloc or "@" in query or "password" in query:
            raise ValueError("url must not hold a user or a password; give them as username and password")
        if kind == "socket":
            return cls._socket(netloc, path, query)
        if query:
            raise ValueError("url must not hold a query; the number of the database stands behind the host: /0")
        hosts = _hosts(netloc, SENTINEL_PORT if kind == "sentinel" else PORT)
        parts = path.removeprefix("/").split("/") if path.removeprefix("/") else []
        if kind == "server":
            if len(hosts) > 1:
                raise ValueError('url names several hosts; those of a cluster begin with "redis+cluster://"')
            return cls(kind, tls, hosts, db=_db(parts))
        if kind == "cluster":
            if parts not in ([], ["0"]):
                raise ValueError("url names a database, of which a cluster has but one")
            return cls(kind, tls, hosts)
        if not parts or not SERVICE.fullmatch(parts[0]):
            raise ValueError("url must name the service behind the sentinels: redis+sentinel://HOST:26379/SERVICE/0")
        return cls(kind, tls, hosts, service=parts[0], db=_db(parts[1:]))

    @classmethod
    def _socket(cls, host: str, path: str, query: str) -> RedisUrl:
        if host or not path.strip("/"):
            raise ValueError('url must name the whole path of the socket: "unix:///run/redis.sock?db=0"')
        pairs = parse_qsl(query, keep_blank_values=True)
        if [name for name, _ in pairs] not in ([], ["db"]):
            raise ValueError("the query of the url may hold nothing but db")
        return cls("socket", path=path, db=_db([number for _, number in pairs]))


@dataclass(frozen=True, slots=True)
class RedisAt:
    """A Redis, and how it is asked."""

    url: RedisUrl
    prefix: str = "framegate"
    timeout: float = 1.0  # seconds that a call takes at the most, connecting included
    username: str = ""
    password: Secret | None = None
    sentinel_password: Secret | None = None
    ca_file: Path | None = None


def _hosts(text: str, port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for one in text.split(","):
        match = HOST.fullmatch(one)
        if match is None or int(match[2] or port) > 65535:
            raise ValueError("url names no host, or one that can't be read; write HOST:PORT, or [::1]:PORT")
        hosts.append((match[1].strip("[]"), int(match[2] or port)))
    return tuple(hosts)


def _db(parts: list[str]) -> int:
    if not parts or parts == [""]:
        return 0
    if len(parts) > 1 or not re.fullmatch(r"\d{1,5}", parts[0], re.ASCII):
        raise ValueError("the database in url must be a number, such as 0")
    return int(parts[0])
