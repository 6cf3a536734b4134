"""The onion: plugins in order around the upstream's door, each timed, each blamed for what it alone did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Literal, Protocol

from ..model.errors import ProxyError
from ..model.exchange import Exchange, Span, Verdict
from ..model.message import Request, Response

if TYPE_CHECKING:
    from ..model.plugin import Forward
    from ..model.services import Log

Door = Callable[[Exchange, Request], Awaitable[Response]]


class Inner(Protocol):
    """What a layer holds: a plugin, or one of an upstream's own layers."""

    def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Awaitable[Response]: ...


class Crashed(ProxyError):
    """A layer raised what it should not have; the client hears its name and an id, the log the rest."""

    def __init__(self, layer: str) -> None:
        super().__init__(f"The layer '{layer}' failed. The request's id leads to the reason in the log.")
        self.layer = layer


class Layer:
    """One plugin in its place. Its span is written when it ends, so spans stand innermost first."""

    __slots__ = ("_call", "_depth", "_inner", "_log", "_name", "_on_crash")

    def __init__(
        self, name: str, plugin: Inner, inner: Door, *, depth: int, log: Log, on_crash: Literal["refuse", "skip"]
    ) -> None:
        self._name = name
        self._call = plugin.__call__
        self._inner = inner
        self._depth = depth
        self._log = log
        self._on_crash = on_crash

    async def ask(self, exchange: Exchange, request: Request) -> Response:
        """Have the plugin look at it, and time it."""
        spans = exchange.spans
        before = len(spans)
        verdict: Verdict = "cancelled"
        began = perf_counter()
        try:
            response = await self._call(exchange, request, partial(self._inner, exchange))
            verdict = "passed" if len(spans) > before else "answered"
            return response
        except ProxyError as error:
            if error.layer is None:
                error.layer = self._name
                verdict = "refused"
            else:
                verdict = "passed"  # it comes from further in
            raise
        except asyncio.CancelledError:
            raise
        except Exception as error:
            verdict = "crashed"
            self._log.error("layer_crashed", layer=self._name, id=exchange.id, exc_info=error)
            if self._on_crash == "refuse" or len(spans) > before:  # what was forwarded once is not asked again
                raise Crashed(self._name) from error
            verdict = "skipped"
            return await self._inner(exchange, request)
        finally:
            spans.append(Span(self._name, self._depth, began, perf_counter() - began, verdict))


def build(
    layers: Sequence[tuple[str, Inner, Literal["refuse", "skip"]]], door: Door, log: Log, *, innermost: int = 1
) -> Door:
    """The chain as one call: layers from the outside in, then the door. `innermost` is the depth of the last layer."""
    for depth, (name, plugin, on_crash) in enumerate(reversed(layers), innermost):
        door = Layer(name, plugin, door, depth=depth, log=log, on_crash=on_crash).ask
    return door


def own_times(spans: Sequence[Span]) -> list[tuple[Span, float]]:
    """Each span with the seconds that its layer took itself, what ran inside it taken off; innermost first."""
    out: list[tuple[Span, float]] = []
    inside: dict[int, float] = {}
    for span in spans:
        out.append((span, max(0.0, span.seconds - inside.pop(span.depth - 1, 0.0))))
        inside[span.depth] = inside.get(span.depth, 0.0) + span.seconds
    return out
