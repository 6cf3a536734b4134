"""Typed places for facts: a slot is its own key, so two plugins never collide by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from .limit import NO_LIMITS, Limits

if TYPE_CHECKING:
    from .health import Capability

Rehosting = Literal["on-request", "always", "never"]
ANYBODY = "open"  # the id of callers who need no key; what is theirs is nobody's own, so no key may be called so
T = TypeVar("T")
D = TypeVar("D")


class Slot(Generic[T]):
    """One place for a value of type T; found by identity, the name is for people."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Slot({self.name!r})"


class Slots:
    """A typed mapping from slots to values: `exchange[CALLER]`."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[Slot[Any], Any] | None = None  # most exchanges and answers never need one

    def __getitem__(self, slot: Slot[T]) -> T:
        if self._values is None:
            raise KeyError(slot)
        value: T = self._values[slot]
        return value

    def __setitem__(self, slot: Slot[T], value: T) -> None:
        if self._values is None:
            self._values = {}
        self._values[slot] = value

    def __contains__(self, slot: Slot[Any]) -> bool:
        return self._values is not None and slot in self._values

    @overload
    def get(self, slot: Slot[T]) -> T | None: ...
    @overload
    def get(self, slot: Slot[T], default: D) -> T | D: ...
    def get(self, slot: Slot[T], default: D | None = None) -> T | D | None:
        """The slot's value, or the default when nobody has filled it."""
        if self._values is None:
            return default
        return self._values.get(slot, default)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the public id of their key and the group it belongs to. Never the secret."""

    id: str
    group: str | None = None
    name: str = ""  # for people
    endpoints: frozenset[str] = frozenset(("*",))  # which sorts of endpoint they may use
    models: tuple[str, ...] = ()  # globs of the models they may use; none: all
    rehost: Rehosting | None = None  # what becomes of pictures in their answers; None: as the chain says
    limits: Limits = NO_LIMITS  # of this key alone


CALLER: Slot[Caller] = Slot("caller")
"""Filled by the plugin that knows who calls; what reaches an upstream's credential must sit behind one."""

STOPPED: Slot[str] = Slot("stopped")
"""Why no further upstream was asked, in a word: for the client's headers and the log."""

CHANGED: Slot[tuple[str, ...]] = Slot("changed")
"""What of the request was said in other words before any upstream heard it, for the client's headers and the log."""

CAPABILITY: Slot[Capability] = Slot("capability")
"""What sort of work is asked; filled by who cares for the upstreams' health, which is kept for each sort apart."""
