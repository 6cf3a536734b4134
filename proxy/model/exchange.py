"""One client's question and all that is known about it, shared by every layer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Literal, NamedTuple

from .message import Request, Response
from .slots import Slots

if TYPE_CHECKING:
    from .failure import Billed, FailureClass

Verdict = Literal["passed", "answered", "refused", "crashed", "skipped", "cancelled"]


@dataclass(slots=True)
class Span:
    """What one layer did in one call: when it began (perf_counter seconds), how long it took with all inside it."""

    layer: str
    depth: int  # 1 is the innermost plugin of the route; an upstream's own layers are 0, -1, ...
    began: float
    seconds: float
    verdict: Verdict


class Queued(NamedTuple):
    """How a call fared in the line before its upstream."""

    position: int  # its place when it came: 1 is next
    seconds: float  # that it waited; where it was refused, that it would have
    refused: bool = False

    def __str__(self) -> str:
        return f"{self.position}; {'expected' if self.refused else 'waited'}={self.seconds:.2f}"


@dataclass(slots=True)
class Attempt:
    """One call of an upstream, however often its own layers ask. `sent`: may it have acted on the request?"""

    upstream: str
    status: int | None = None  # None: no answer came
    error: str | None = None
    sent: bool = False
    seconds: float = 0.0  # until the answer's head
    changed: tuple[str, ...] = ()  # what was said in other words there: "model: gpt-image-2 -> my-image-deployment"
    credential: str = ""  # which of the upstream's, by an id that is no secret
    began: float = 0.0  # perf_counter seconds; 0: never asked
    ended: float = 0.0  # likewise; 0: its answer was handed on, and ends with the exchange
    bytes: int = 0  # of its answer's body, where that was not handed on
    failure: FailureClass | None = None  # what it was judged to be, where somebody judges
    billed: Billed | None = None  # may it have cost something?
    queued: Queued | None = None  # how it waited in line, where it did

    @property
    def outcome(self) -> str:
        """A word for logs and headers: the status, or what went wrong."""
        return str(self.status) if self.status is not None else self.error or "open"


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end of the connection."""

    address: str  # the peer's IP address, or "unix"
    http: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an exchange ended, for its finishers."""

    status: int  # what the client was told; 0 when it left before it was told anything
    delivered: int  # bytes of the body written to the client
    complete: bool  # the whole answer was written
    left: bool  # the client left before the end
    response: Response | None
    attempts: Sequence[Attempt]
    error: BaseException | None
    seconds: float


Finisher = Callable[[Outcome], Awaitable[None] | None]


class Exchange(Slots):
    """One question. Slots hold what plugins find out: `exchange[CALLER]`."""

    __slots__ = (
        "_finishers",
        "answered",
        "attempts",
        "began",
        "cancel",
        "client",
        "deadline",
        "error",
        "expired",
        "id",
        "keeps_going",
        "lane",
        "left",
        "prefix",
        "reads",
        "received",
        "route",
        "spans",
    )

    def __init__(
        self, id: str, received: Request, client: Client, *, route: str = "", deadline: float = float("inf")
    ) -> None:
        self._values = None
        self.id = id
        self.route = route
        self.prefix = "/v1"  # of the route: what is cut off the target before the upstream's base URL is put there
        self.received = received
        self.client = client
        self.deadline = deadline  # on the house's clock, in seconds
        self.began = perf_counter()
        self.spans: list[Span] = []
        self.attempts: list[Attempt] = []
        self.reads = False  # a layer that does not always read wants to read what comes
        self.left = False  # the client hung up
        self.keeps_going = False
        self.answered = False  # the chain has given an answer, which is being delivered
        self.lane: object = None  # the engine's: the route's chain as it was built
        self.expired = False  # the deadline passed before there was an answer
        self.error: BaseException | None = None  # what ended it, for the log
        self.cancel: Callable[[], object] | None = None  # set by who runs it
        self._finishers: list[Finisher] | None = None

    def on_finish(self, call: Finisher) -> None:
        """Have this called once when the exchange has ended, whatever happened; newest first.

        What is awaited runs in a task of the house's; a plain function runs at once, and must be quick.
        """
        if self._finishers is None:
            self._finishers = []
        self._finishers.append(call)

    def read(self) -> None:
        """Have the answer read, for a layer that `reads_when_asked`. Call it before forward."""
        self.reads = True

    def keep_going(self) -> None:
        """Finish the work even if the client leaves. Call it before forward."""
        self.keeps_going = True

    def leave(self) -> None:
        """The client has left: the work is cancelled, unless it is to go on."""
        if not self.left:
            self.left = True
            if self.cancel is not None and not self.keeps_going:
                self.cancel()

    @property
    def has_finishers(self) -> bool:
        """Whether anybody wants to hear of its end."""
        return bool(self._finishers)

    def take_finishers(self) -> list[Finisher]:
        """The finishers, newest first; a second call finds none, so that none runs twice."""
        finishers, self._finishers = self._finishers, None
        return finishers[::-1] if finishers else []

    def __repr__(self) -> str:
        return f"Exchange({self.id}, {self.received!r})"
