"""What the sandbox remembers of every request, and the sums of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

# The heads of a few thousand requests are some megabytes; who asks for more has a leak, not a test.
KEPT = 10_000
_KINDS = frozenset(
    [
        "images",
        "chat",
        "responses",
        "embeddings",
        "moderations",
        "files",
        "models",
        "realtime",
        "audio",
        "videos",
        "batches",
        "completions",
    ]
)
_SECRET = frozenset(
    [b"authorization", b"proxy-authorization", b"api-key", b"x-api-key", b"cookie", b"sec-websocket-protocol"]
)


@dataclass(slots=True, eq=False)
class Record:
    """One request, as it came, and how it was answered. Times are those of the sandbox's clock."""

    number: int
    at: float  # seconds since 1970
    method: str
    target: str
    kind: str  # the sort of endpoint, by the path
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)  # as sent, secrets included: never shown
    received: float
    length: int = 0  # of the body, as sent and as far as it was read
    sha256: str = ""
    whole: bool = False  # the body was read to its end
    fault: str | None = None
    status: int | None = None
    sent: int = 0  # bytes, head and framing included
    first_byte: float | None = None
    done: float | None = None  # None: not finished yet
    left: bool = False  # the client was gone before the end of the answer
    billed: bool = False  # OpenAI would have charged for it

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), None)

    def told(self) -> dict[str, Any]:
        """For the control port, with no secret in it."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "headers"}
        headers = [[name.decode("latin-1"), masked(name, value)] for name, value in self.headers]
        return {**shown, "headers": headers}


@dataclass(slots=True)
class Counters:
    """Sums since the start, or since they were cleared."""

    requests: int = 0
    billed: int = 0
    unbilled: int = 0
    left: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    kinds: dict[str, dict[str, int]] = field(default_factory=dict)  # kind -> {"billed": …, "unbilled": …}
    faults: dict[str, int] = field(default_factory=dict)  # name -> how often it was played

    def told(self) -> dict[str, Any]:
        """For the control port."""
        return asdict(self)


class Ledger:
    """The records of a running sandbox, the oldest dropped first."""

    def __init__(self, kept: int = KEPT) -> None:
        self.records: deque[Record] = deque(maxlen=kept)
        self.counters = Counters()
        self._number = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def open(self, at: float, now: float, method: str, target: str, headers: Iterable[tuple[bytes, bytes]]) -> Record:
        """A request has come."""
        self._number += 1
        record = Record(self._number, at, method, target, kind(target), tuple(headers), now)
        self.records.append(record)
        sums = self.counters
        sums.requests += 1
        sums.in_flight += 1
        sums.most_in_flight = max(sums.most_in_flight, sums.in_flight)
        self._idle.clear()
        return record

    def close(self, record: Record, now: float) -> None:
        """It is over, however it ended."""
        record.done = now
        sums = self.counters
        outcome = "billed" if record.billed else "unbilled"
        of_kind = sums.kinds.setdefault(record.kind, {"billed": 0, "unbilled": 0})
        of_kind[outcome] += 1
        if record.billed:
            sums.billed += 1
        else:
            sums.unbilled += 1
        sums.left += record.left
        if record.fault is not None:
            name = record.fault.partition("=")[0]
            sums.faults[name] = sums.faults.get(name, 0) + 1
        sums.in_flight -= 1
        if not sums.in_flight:
            self._idle.set()

    async def idle(self) -> None:
        """Waits until no request is in flight."""
        await self._idle.wait()

    def clear(self) -> None:
        """Forgets what was, but for what still goes on."""
        self.records.clear()
        going = self.counters.in_flight
        self.counters = Counters(in_flight=going, most_in_flight=going)


def kind(target: str) -> str:
    """The sort of endpoint: the word behind /v1/."""
    parts = target.partition("?")[0].split("/")
    found = parts[2] if len(parts) > 2 and parts[1] == "v1" else ""
    return found if found in _KINDS else "other"


def masked(name: bytes, value: bytes) -> str:
    """A header's value, or the start of its hash where it is a secret: enough to tell two apart."""
    if name.lower() not in _SECRET:
        return value.decode("latin-1")
    scheme, _, secret = value.partition(b" ")
    if scheme.lower() not in (b"bearer", b"basic"):
        scheme, secret = b"", value
    shown = f"sha256:{hashlib.sha256(secret).hexdigest()[:12]}"
    return f"{scheme.decode('latin-1')} {shown}" if scheme else shown
