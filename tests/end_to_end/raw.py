"""HTTP/1.1 taken apart from recorded bytes, strictly: what does not end as it says raises ValueError."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# RFC 9110 §7.6.1 and the list of RFC 2616 §13.5.1; written down again here, so that a slip in the proxy's list shows.
HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
INWARD = HOP_BY_HOP | {b"host", b"expect"}

Framing = Literal["none", "counted", "chunked", "close"]


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer as it stood on the wire, its body out of its chunks."""

    offset: int
    start: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    framing: Framing

    @property
    def method(self) -> bytes:
        """The first word of a request's line."""
        return self.start.partition(b" ")[0]

    def all(self, name: bytes) -> list[bytes]:
        """All values of that lower-case name."""
        return [value for key, value in self.headers if key.lower() == name]


def crossing(message: Message, *, inward: bool) -> list[tuple[bytes, bytes]]:
    """The headers that must cross a proxy, in their own case and order."""
    named = {token.strip().lower() for value in message.all(b"connection") for token in value.split(b",")}
    dropped = (INWARD if inward else HOP_BY_HOP) | named
    return [pair for pair in message.headers if pair[0].lower() not in dropped]


def requests(raw: bytes) -> list[Message]:
    """All requests of one connection."""
    found: list[Message] = []
    at = 0
    while at < len(raw):
        message, at = _message(raw, at, "none")
        found.append(message)
    return found


def answers(raw: bytes, methods: list[bytes]) -> list[Message]:
    """All final answers of one connection to requests with these methods; interim ones are passed over."""
    found: list[Message] = []
    at = 0
    while at < len(raw):
        status = raw[at : at + 12].split(b" ")[-1]
        head_only = status in (b"204", b"304") or status < b"200" or methods[len(found)] == b"HEAD"
        message, at = _message(raw, at, "close", head_only=head_only)
        if status >= b"200":
            found.append(message)
    return found


def _message(raw: bytes, at: int, unframed: Framing, *, head_only: bool = False) -> tuple[Message, int]:
    end = raw.index(b"\r\n\r\n", at)
    start, *lines = raw[at:end].split(b"\r\n")
    headers = [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
    names = {name.lower(): value for name, value in headers}
    body = end + 4
    framing = unframed
    if head_only:
        data, after, framing = b"", body, "none"
    elif b"transfer-encoding" in names:
        data, after = _chunks(raw, body)
        framing = "chunked"
    elif b"content-length" in names:
        after = body + int(names[b"content-length"])
        data = raw[body:after]
        framing = "counted"
        if len(data) != after - body:
            raise ValueError(f"a body of {after - body} bytes ended after {len(data)}")
    elif framing == "close":
        data, after = raw[body:], len(raw)
    else:
        data, after = b"", body
    return Message(at, start, headers, data, framing), after


def _chunks(raw: bytes, at: int) -> tuple[bytes, int]:
    pieces = []
    while True:
        line = raw.index(b"\r\n", at)
        size = int(raw[at:line].partition(b";")[0], 16)
        at = line + 2 + size
        if raw[at : at + 2] != b"\r\n":
            raise ValueError("a chunk does not end where it says, or the last one is missing")
        if not size:
            return b"".join(pieces), at + 2
        pieces.append(raw[line + 2 : at])
        at += 2
