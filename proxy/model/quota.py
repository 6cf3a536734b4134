"""Limits as the store counts them: what a request takes of each, held by a lease until it is known what was used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from .limit import Limits
    from .slots import Caller

LEASE = 10.0  # seconds after which what a process holds is given back, unless it has been heard of
MOST = 2**53 - 1  # of anything that is counted: as far as every store counts exactly
PIECES = 60  # into which a rolling window is cut: an amount counts for as long as the window, and a piece at the most


class Line(NamedTuple):
    """One limit as the store knows it. Of `window` and `until` at most one is given.

    With neither, what a request takes counts as long as the request holds it, and no longer.
    """

    counter: str  # whose, and of what; one name stands for one window, for ever
    ceiling: int
    window: int = 0  # milliseconds for which an amount counts
    until: int = 0  # milliseconds since 1970 until which the counter is wanted: the end of a calendar's period


class Claim(NamedTuple):
    """Take the amounts, all or none. The same id again changes nothing. With an empty id, only look."""

    id: str
    lines: Sequence[Line]
    amounts: Sequence[int]


class Settle(NamedTuple):
    """End a claim: what was used stays counted where it was taken, and nothing else.

    The lines are those of the claim. A claim that nobody knows (its lease ran out, or the store lost it) is counted
    now. Asked again, it changes nothing.
    """

    id: str
    lines: Sequence[Line]
    used: Sequence[int]


class Claimed(NamedTuple):
    """What came of a claim, line by line. Where it was refused, nothing was taken."""

    taken: bool
    levels: tuple[int, ...]  # what counts after it
    waits: tuple[int, ...]  # milliseconds until the amount fits; 0: it does; -1: that can't be told from here
    resets: tuple[int, ...]  # milliseconds until nothing of what counts now counts; -1: that can't be told


@dataclass(frozen=True, slots=True)
class Tally:
    """What a process asks of the store at one moment; each is done or refused for itself, in order."""

    holder: str  # the process: as long as it is heard of, it holds what it claimed
    asked: Sequence[Claim | Settle]
    expected: int | None = None  # milliseconds: what the store's clock should show, by the process's own


class Tallied(NamedTuple):
    """What the store did: for each claim what came of it, for each settlement None."""

    now: int  # milliseconds on the store's clock, which follows the wall clock and never steps
    answers: Sequence[Claimed | None]


Resource = Literal["requests", "images", "tokens", "concurrent", "budget"]
"""What a limit counts; a budget counts nano-USD."""

Scope = Literal["key", "group", "user", "all", "route", "model", "upstream"]
"""For whom a limit counts: for one of them together."""


class Bound(NamedTuple):
    """A limit as it holds for one request."""

    line: Line
    resource: Resource
    scope: Scope
    limit: str  # as an operator writes it: "20 / 1m"
    until: float  # seconds since 1970 at which its calendar's period ends; 0: it has none


class Bounds:
    """All limits that hold for one request, of each counter the tightest."""

    __slots__ = ("all", "lines", "places", "resources")

    def __init__(self, bounds: Iterable[Bound] = ()) -> None:
        tightest: dict[str, Bound] = {}
        for one in bounds:
            known = tightest.get(one.line.counter)
            if known is None or one.line.ceiling < known.line.ceiling:
                tightest[one.line.counter] = one
        self.all = tuple(tightest.values())
        self.lines = tuple([one.line for one in self.all])
        self.resources = tuple([one.resource for one in self.all])
        self.places: dict[Resource, list[int]] = {}  # where the limits of each resource stand among all
        for at, resource in enumerate(self.resources):
            self.places.setdefault(resource, []).append(at)

    def __bool__(self) -> bool:
        return bool(self.all)

    def amounts(self, by_resource: Mapping[Resource, int]) -> tuple[int, ...]:
        """What a request takes of each, line by line."""
        return tuple([by_resource[resource] for resource in self.resources])


class Quotas(Protocol):
    """The limits of the config, and what is held of them; shared by all plugins and all processes."""

    def bounds(
        self,
        caller: Caller | None,
        route: str,
        models: Sequence[str],
        *,
        own: tuple[Scope, str, Limits] | None = None,
        shared: bool = True,
    ) -> Bounds:
        """The limits that hold for a request of this caller, on this route, that names these models.

        `own`: further ones, with their scope and the name under which they are counted; with `shared` false only these.
        """

    @property
    def by_model(self) -> bool:
        """Whether any limit stands on models: only then need they be known."""

    async def claim(
        self, id: str, bounds: Bounds, amounts: Sequence[int], *, local: bool = False, soon: bool = False
    ) -> Claimed:
        """Take the amounts, all or none; without an id, only look. Raises StoreError when nobody could say in time.

        What was taken must be settled, by the same id. `local`: in the memory of this process alone. `soon`:
        without waiting a moment for the claims of others, for there is a line behind it.
        """

    def settle(self, id: str, bounds: Bounds, used: Sequence[int], *, local: bool = False) -> None:
        """End a claim: what was used stays counted where it was taken, and nothing else. Nobody waits for it."""
