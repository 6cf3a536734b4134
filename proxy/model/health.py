"""How upstreams are: who may be asked, and from when on again."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from .exchange import Attempt
    from .failure import Bench

Capability = Literal["image", "text", "audio", "embeddings", "other"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How one upstream is, for one sort of work."""

    usable: bool  # some credential of it may be asked now
    wait: float = 0.0  # seconds until one may be; 0 when usable
    firm: bool = False  # it said so itself: `Retry-After`, a dead key, an empty balance; a breaker only guesses
    why: str = ""  # "rate_limit", "balance", "auth" or "breaker"


class Health(Protocol):
    """What is known of the upstreams of a house. It outlives a config, and all processes on one store share it."""

    @property
    def calm(self) -> bool:
        """Whether nothing is held against anybody."""

    def standing(self, upstream: str, capability: Capability, /) -> Standing:
        """How it is now."""

    def enter(self, upstream: str, capability: Capability, /, *, last: bool = False) -> bool:
        """Whether it may be asked now; then it counts as asked. `last`: there is no other, so no guess keeps it out."""

    def another(self, attempt: Attempt, capability: Capability, /) -> bool:
        """Whether the same upstream may be asked by another of its credentials than in that attempt."""

    def passed(self, attempt: Attempt, capability: Capability, seconds: float, /) -> None:
        """It answered, after that long; or what went wrong was not its fault."""

    def failed(
        self,
        attempt: Attempt,
        capability: Capability,
        bench: Bench,
        /,
        *,
        retry_after: float | None = None,
        cooldown_max: float = 600.0,
    ) -> None:
        """It failed, and is left alone as that sort of failure asks for."""

    def left(self, attempt: Attempt, capability: Capability, /) -> None:
        """Nobody waited for the end: it says nothing of the upstream."""

    def latency(self, upstream: str, capability: Capability, /) -> float:
        """Seconds that an answer may take now, for comparing one with another."""

    def sharing(self) -> AbstractAsyncContextManager[None]:
        """While somebody is inside, what other processes found out is taken over within a second."""

    def snapshot(self) -> list[dict[str, Any]]:
        """Who is left alone, by which credential (an id, no secret), for what, why, and for how many seconds."""
