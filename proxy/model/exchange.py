"""One client's question and all that is known about it, shared by every layer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .errors import ProxyError
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
    withheld: bool = False  # its answer came and was not let in: what it has cost stands in nothing that anybody saw

    @property
    def outcome(self) -> str:
        """A word for logs and headers: the status, or what went wrong."""
        return str(self.status) if self.status is not None else self.error or "open"


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end of the connection."""

    address: str  # the peer's IP address, or "unix"
    http: tuple[int, int] = (1, 1)


class Outcome(NamedTuple):
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
Inspector = Callable[[Response], Awaitable[Response]]


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
        "holding",
        "id",
        "inspectors",
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
        self.holding: tuple[asyncio.Task[None], ...] = ()  # verdicts without which no good answer comes in
        self.inspectors: tuple[Inspector, ...] = ()
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

    async def hold(
        self, forward: Callable[[Request], Awaitable[Response]], request: Request, *, until: Coroutine[Any, Any, None]
    ) -> Response:
        """Ask the rest of the chain while `until` judges the question.

        Before it has ended, nothing but errors comes in from any upstream, and nothing at all gets out. What it raises
        is raised here; the work inside is cancelled at once then, and what upstreams were sent may have been billed.
        """
        loop = asyncio.get_running_loop()
        verdict = loop.create_task(until, name="verdict")
        work = loop.create_task(_asked(forward, request), name="held")
        before, handed = len(self.attempts), False
        self.holding = (*self.holding, verdict)
        try:
            await asyncio.wait((verdict, work), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((verdict,))  # also for an error: it is heard as it would be if the verdict came first
            if verdict.cancelled():
                raise ProxyError("The verdict that the answer was held for never came.")
            verdict.result()
            await asyncio.wait((work,))
            handed = True
            return work.result()
        finally:
            self.holding = tuple([one for one in self.holding if one is not verdict])
            verdict.cancel()
            if not handed:
                work.cancel()
            _, late = await asyncio.gather(verdict, work, return_exceptions=True)
            if not handed:
                if isinstance(late, Response):
                    await late.aclose()
                if not verdict.cancelled() and verdict.exception() is not None:
                    _doubt(self.attempts[before:])

    def inspect(self, inspector: Inspector) -> None:
        """Have this look at every good answer where it comes in, before any plugin further in. Call it before forward.

        It is given the answer with a `reading` of its own, and returns what is to come in instead; or raises, and
        nothing does. It is asked where a plugin of the route reads "images", and of no socket.
        """
        self.inspectors = (*self.inspectors, inspector)

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


async def _asked(forward: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    return await forward(request)


def _doubt(attempts: Sequence[Attempt]) -> None:
    """They were cut off, or nobody has looked at what they brought."""
    for attempt in attempts:
        if attempt.sent and attempt.billed is None and (attempt.status or 200) < 400:
            attempt.withheld = attempt.status is not None
            if attempt.error in (None, "cancelled"):
                attempt.billed = "maybe"
