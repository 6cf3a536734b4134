"""A provider's URL taken apart once, strictly, so that what is judged is what is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from ..model.fetch import FetchRefused
from .public import IPAddress, literal

LONGEST = 2**14  # characters: signatures with a session's token have some 3,000
PORTS = {"http": 80, "https": 443}
ANY_CASE = re.IGNORECASE | re.ASCII  # without the second, an s is also a long one (U+017F), and a k the sign of Kelvin
SHAPE = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", ANY_CASE)
LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
AUTHORITY = re.compile(rf"(?:\[([0-9a-f:.]+)\]|((?:{LABEL}\.)*{LABEL}\.?))(?::([0-9]{{1,5}}))?", ANY_CASE)
UNSEEN = re.compile(r"[\x00-\x20\x7f\\]")  # the ones that one reader drops, another stops at, and a third turns round
NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")  # how the last label of every spelling of an IPv4 address looks (WHATWG)
# Names that mean something in this network alone (RFC 6761, 6762, 7686, 8375; ICANN's .internal).
HERE = ("localhost", "local", "localdomain", "internal", "home.arpa", "onion")


@dataclass(frozen=True, slots=True, repr=False)
class Place:
    """Where a URL leads, and what is to be asked there. Shown, it is its origin: the rest may hold a signature."""

    scheme: str
    host: str  # lower case, without brackets
    port: int
    target: str

    def __repr__(self) -> str:
        return f"<Place {self.origin}>"

    @classmethod
    def parse(cls, text: str) -> Place:
        """A place from an absolute URL. Raises FetchRefused, which never repeats the text."""
        if len(text) > LONGEST:
            raise FetchRefused(f"it has more than {LONGEST} characters")
        if UNSEEN.search(text):
            raise FetchRefused("it holds a blank, a backslash or a control character")
        shape = SHAPE.fullmatch(text)
        if shape is None:
            raise FetchRefused("it is no http or https URL")
        scheme, authority, target = shape[1].lower(), shape[2], shape[3]
        if "@" in authority:
            raise FetchRefused("it carries a user or a password")
        found = AUTHORITY.fullmatch(authority)
        if found is None:
            raise FetchRefused("its host can't be read")
        host = (found[1] or found[2]).lower()
        port = int(found[3]) if found[3] else PORTS[scheme]
        six = found[1] is not None
        if not 0 < port < 2**16 or len(host) > 253 or (six and (":" not in host or literal(host) is None)):
            raise FetchRefused("its host can't be read")
        # Bytes that stand there are asked for as they stand: a signature is over these very bytes.
        target = re.sub(r"[^\x21-\x7e]+", lambda one: quote(one[0], errors="surrogateescape"), target)
        return cls(scheme, host, port, target if target.startswith("/") else f"/{target}")

    @property
    def name(self) -> str:
        """The host as certificates and Host headers have it."""
        return self.host.removesuffix(".")

    @property
    def origin(self) -> str:
        """The URL without what follows the host."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{self.scheme}://{name}" + ("" if self.port == PORTS[self.scheme] else f":{self.port}")

    @property
    def url(self) -> str:
        """All of it."""
        return self.origin + self.target

    def to(self, location: str) -> Place:
        """Where a redirect from here leads. Raises FetchRefused."""
        if UNSEEN.search(location):
            raise FetchRefused("it is redirected to what is no URL", host=self.name)
        try:
            place = Place.parse(urljoin(self.url, location))
        except ValueError:
            # Without its cause, which quotes the URL.
            raise FetchRefused("it is redirected to what is no URL", host=self.name) from None
        if self.scheme == "https" and place.scheme == "http":
            raise FetchRefused("it is redirected from https to http", host=self.name)
        return place

    def judge(self, judge: Callable[[IPAddress], str | None]) -> None:
        """See that strangers may lead us here, as far as the URL tells. Raises FetchRefused."""
        if self.scheme != "https":
            raise FetchRefused("it is not https", host=self.name)
        if self.port != PORTS["https"]:
            raise FetchRefused("it names a port", host=self.name)
        address = literal(self.host)
        if address is not None:
            if word := judge(address):
                raise FetchRefused(f"a {word} address is not public", host=self.name)
            return
        labels = self.name.split(".")
        if NUMBER.fullmatch(labels[-1]):
            raise FetchRefused("its host is a number, or an address in another spelling", host=self.name)
        if len(labels) == 1 or self.name.endswith(tuple(f".{word}" for word in HERE)):
            raise FetchRefused("its host is a name of a private network", host=self.name)
