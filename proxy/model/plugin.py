"""A plugin is one layer of the onion; its annotated fields are its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, dataclass_transform

from .slots import Slot

if TYPE_CHECKING:
    from .exchange import Exchange
    from .message import Request, Response
    from .services import Services


class Forward(Protocol):
    """The rest of the chain. May be called never, once, or again."""

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        """Ask the rest of the chain."""


@dataclass_transform()
class Plugin:
    """One layer of the onion.

    A subclass is a dataclass without saying so: its annotated fields are its settings, read from the config table
    `[plugins.NAME]`, required ones first. What one field alone can't say is checked in `__post_init__` with a
    ValueError meant for the operator.
    """

    fills: ClassVar[tuple[Slot[Any], ...]] = ()
    """Slots that this layer fills before it forwards."""
    needs: ClassVar[tuple[Slot[Any], ...]] = ()
    """Slots that a layer outside this one must fill."""
    inside: ClassVar[tuple[str, ...]] = ()
    """Kinds of plugin that must sit outside this one, where the chain has them."""
    skippable: ClassVar[bool] = False
    """Whether `on_crash = "skip"` is allowed: true only for a layer whose absence can't hurt."""

    reads_when_asked: ClassVar[bool] = False
    """Whether it says of each exchange that it reads, by `exchange.read()`: where nobody does, nobody looks."""

    known_as = ""
    """Its name in the config; the house writes it there before it runs."""

    @property
    def reads(self) -> Collection[str]:
        """What it wants seen in answers: "verdict", "usage", "images". A class attribute, where no setting decides it.

        Where a plugin of the route reads, `response.reading` is there, and upstreams are asked not to compress.
        """
        return ()

    @property
    def anonymous(self) -> bool:
        """Whether, as it is set, it lets everybody in and can't tell one caller from another; for loopback alone."""
        return False

    def __init_subclass__(cls, **kw: Any) -> None:
        super().__init_subclass__(**kw)
        dataclass(cls)

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Open what the layer needs while it serves, and close it after its generation's last exchange."""
        yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        """Look, refuse or forward, look again, answer."""
        raise NotImplementedError
