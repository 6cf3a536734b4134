"""Every upstream by name, each with an inner chain of its own: queue, model names, credential, then the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Literal, Protocol

from ..model.errors import ProxyError, UpstreamError
from ..model.exchange import Attempt, Client, Exchange, Outcome, Span, Verdict
from ..model.message import Request, Response
from .chain import Door, Inner, build
from .ended import told
from .finish import begin

if TYPE_CHECKING:
    from ..model.health import Health
    from ..model.services import Asks, Log, Spawn
    from .credential import Credential
    from .model_names import ModelNames

FOREVER = float("inf")


class Wire(Protocol):
    """What carries a request to one upstream."""

    def send(self, request: Request) -> Awaitable[Response]: ...
    async def aclose(self) -> None: ...
    async def dial(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream: its wire, the credential attached at its door, and the layers before that, outermost first."""

    name: str
    wire: Wire
    layers: tuple[tuple[str, Inner], ...]
    names: ModelNames | None = None  # that of them which knows what it serves
    credential: Credential | None = None

    @property
    def bare(self) -> bool:
        """Whether what is sent there goes out as it is."""
        return not self.layers and self.credential is None


class Upstreams:
    """The door to all of them. Targets here are what goes behind an upstream's base URL."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        log: Log,
        health: Health,
        spawn: Spawn,
        usual: tuple[str, ...] | None = None,
    ) -> None:
        self.health = health
        self.usual = tuple(upstreams) if usual is None else usual
        self._log = log
        self._spawn = spawn
        self._upstreams = dict(upstreams)
        self._doors: dict[str, Door] = {
            name: build(
                [(layer, inner, "refuse") for layer, inner in upstream.layers],
                _sent(upstream, depth=-len(upstream.layers)),
                log,
                innermost=1 - len(upstream.layers),
            )
            for name, upstream in upstreams.items()
        }

    def names(self) -> tuple[str, ...]:
        """All upstreams, in the config's order."""
        return tuple(self._upstreams)

    def __getitem__(self, name: str) -> Upstream:
        return self._upstreams[name]

    def choosy(self, name: str, /) -> bool:
        """Whether there is anything that it does not serve, by its setting `only`."""
        names = self._upstreams[name].names
        return names is not None and names.choosy

    def serves(self, name: str, asked: Asks, /) -> Literal[True] | str:
        """Whether that upstream serves what is asked, by its setting `only`; else why not, in a word."""
        names = self._upstreams[name].names
        return True if names is None else names.serves(asked)

    async def call(self, name: str, request: Request, /, *, deadline: float = FOREVER) -> Response:
        """Ask that upstream for a question of our own, with a target as clients write it ("/v1/moderations").

        The attempt is no part of the caller's exchange.
        """
        exchange = Exchange("", request, Client("framegate"), deadline=deadline)
        try:
            response = await self.ask(exchange, request, name, request.target.removeprefix("/v1"))
        except BaseException as error:
            self._finish(exchange, None, error)
            raise
        if not exchange.has_finishers:
            return response
        return told(response, partial(self._finish, exchange, response, None))

    def _finish(self, exchange: Exchange, response: Response | None, error: BaseException | None) -> None:
        """A call of our own has ended, or its answer has."""
        if finishers := exchange.take_finishers():
            seconds = perf_counter() - exchange.began
            status = 0 if response is None else response.status
            outcome = Outcome(status, 0, error is None, False, response, exchange.attempts, error, seconds)
            if (rest := begin(finishers, outcome, self._log, "call")) is not None:
                self._spawn(rest, name="finish-call")

    def ask(self, exchange: Exchange, request: Request, name: str, rest: str) -> Awaitable[Response]:
        """Ask that upstream for `rest`, the target behind its base URL. Each call is one attempt."""
        door = self._doors.get(name)
        if door is None:
            raise ProxyError(f"There is no upstream '{name}'.")
        attempt = Attempt(name)
        exchange.attempts.append(attempt)
        return door(exchange, Request(request.method, rest, request.headers, request.body, name, attempt))

    async def aclose(self) -> None:
        """Hang up everywhere."""
        for upstream in self._upstreams.values():
            await upstream.wire.aclose()


def _sent(upstream: Upstream, *, depth: int) -> Door:
    """The innermost door: one call of the wire, its end written down in its attempt and as a span.

    The credential is no layer: it waits for nothing, and each layer holds a kilobyte of a request that waits.
    """
    name, send, credential = upstream.name, upstream.wire.send, upstream.credential

    async def door(exchange: Exchange, request: Request) -> Response:
        attempt = request.attempt
        assert attempt is not None
        if credential is not None:
            request = credential.attach(exchange, request)
        attempt.sent = True  # until it is known better: cancelled in mid-flight, it may have been heard
        began = perf_counter()
        attempt.began = attempt.began or began
        try:
            response = await send(request)
            attempt.status = response.status
            if response.attempt is not attempt:
                response = replace(response, attempt=attempt)
            return response if credential is None else credential.detach(response)
        except UpstreamError as error:
            attempt.sent = error.sent
            attempt.error = "timeout" if error.timeout else "broken" if error.sent else "unreachable"
            error.layer = error.layer or name
            error.attempt = attempt
            raise
        except ProxyError as error:  # the request's own body: too large, too slow, broken
            attempt.error = error.code
            raise
        except asyncio.CancelledError:
            attempt.error = "cancelled"
            raise
        finally:
            seconds = perf_counter() - began
            attempt.seconds += seconds
            verdict: Verdict = "answered" if attempt.status is not None else "refused"
            exchange.spans.append(Span(name, depth, began, seconds, verdict))

    return door
