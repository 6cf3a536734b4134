"""One exchange from start to finish: route, chain, answer, ending; and the generations of the config it runs under."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Protocol

import orjson

from ..model.body import Bytes
from ..model.errors import ProxyError, Rejected
from ..model.exchange import Client, Exchange, Outcome
from ..model.images import FILES
from ..model.message import Headers, Request, Response
from ..model.slots import CHANGED, STOPPED
from . import order
from .bar import let_in, reader, refused
from .chain import Crashed, Door, build
from .finish import begin
from .render import render
from .routes import Route, Routes

if TYPE_CHECKING:
    from ..model.plugin import Plugin
    from ..model.services import Clock, Log, Services
    from .upstreams import Upstreams

GRACE = 5.0  # seconds for what was cancelled to end, and for finishers to run
VERBOSE = "/readyz?verbose"  # names upstreams, so it is there only where everything is shown
HEALTH = ("/livez", "/readyz", VERBOSE)
Report = Callable[[Exchange, Outcome], None]
Files = Callable[[Request], Awaitable[Response]]


class Runs(Protocol):
    """What is open for as long as a generation."""

    def running(self, services: Services) -> AbstractAsyncContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Placed:
    """A plugin instance under its name, with what a crash of it means."""

    name: str
    plugin: Plugin
    on_crash: Literal["refuse", "skip"]


@dataclass(frozen=True, slots=True)
class Lane:
    """What runs behind one route."""

    generation: Generation
    door: Door
    upstream: str  # where a request goes that names none
    deadline: float  # seconds
    max_body: int  # bytes
    transparent: bool  # empty chain, no credential of ours: nothing is added
    expose: Literal["all", "id"]


class Generation:
    """One config at work: its routes, plugins and upstreams. Closed after its last exchange."""

    def __init__(self, upstreams: Upstreams, *, verbose: bool = False) -> None:
        self.upstreams = upstreams
        self.routes: Routes[Lane] = Routes(())
        self.files: Files | None = None  # what answers under /files/
        self.verbose = verbose  # whether anybody may see how its upstreams are
        self.exchanges = 0
        self._stack = AsyncExitStack()
        self._stack.push_async_callback(upstreams.aclose)
        self._retired = False
        self._idle = asyncio.Event()

    async def start(self, plugins: Sequence[Runs], services: Services) -> None:
        """Open what the plugins need; when one can't, close what was opened and raise its reason."""
        try:
            for plugin in plugins:
                await self._stack.enter_async_context(plugin.running(services))
        except BaseException:
            await self._stack.aclose()
            raise

    def lane(
        self, placed: Sequence[Placed], log: Log, *, prefix: str, upstream: str, reach: frozenset[str], **rest: Any
    ) -> Lane:
        """The chain of one route around the door to the upstreams that it reaches, and the reader of their answers."""
        reads = order.reads(one.plugin for one in placed)
        if reads:
            reader()  # loaded now, and not when the first request wants to read

        always = any(one.plugin.reads and not one.plugin.reads_when_asked for one in placed)
        verdict_only = "usage" not in reads  # who takes pictures says so, answer by answer

        def door(exchange: Exchange, request: Request) -> Awaitable[Response]:
            name = request.upstream or upstream
            if name not in reach:
                # The checks against open proxies rest on where a route can get to.
                raise ProxyError(f"The upstream '{name}' is not one that this route reaches.")
            rest = request.target[len(prefix) :]
            if exchange.holding or exchange.inspectors:
                return barred(exchange, request, name, rest)
            return (read_by if always or exchange.reads else self.upstreams.ask)(exchange, request, name, rest)

        async def read_by(exchange: Exchange, request: Request, name: str, rest: str) -> Response:
            read, uncoded = reader()
            answer = await self.upstreams.ask(exchange, uncoded(request), name, rest)
            return read(answer, verdict_only=verdict_only)

        async def barred(exchange: Exchange, request: Request, name: str, rest: str) -> Response:
            refused(exchange)
            looks = bool(exchange.inspectors) and "images" in reads
            if not (looks or always or exchange.reads):
                return await let_in(exchange, await self.upstreams.ask(exchange, request, name, rest), inspected=False)
            read, uncoded = reader()
            answer = await self.upstreams.ask(exchange, uncoded(request), name, rest)
            return read(await let_in(exchange, answer, inspected=looks), verdict_only=verdict_only)

        layers = [(one.name, one.plugin, one.on_crash) for one in placed]
        transparent = not placed and self.upstreams[upstream].bare
        return Lane(self, build(layers, door, log), upstream, transparent=transparent, **rest)

    def leave(self) -> None:
        """An exchange has ended."""
        self.exchanges -= 1
        if self._retired and not self.exchanges:
            self._idle.set()

    async def retire(self) -> None:
        """Wait for the last exchange, then close."""
        self._retired = True
        if self.exchanges:
            await self._idle.wait()
        await self._stack.aclose()


class Engine:
    """The house's middle: every exchange passes here. The wire brings requests and takes answers away."""

    def __init__(self, clock: Clock, log: Log, report: Report | None, mark: str = "") -> None:
        self.clock = clock
        self.log = log
        self.live: set[Exchange] = set()
        self.draining = False
        self._report = report
        self._generation: Generation | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._emptied: asyncio.Event | None = None  # somebody waits for the last exchange
        # Ids are for people and logs; they are unique, not secret.
        self._boot = os.urandom(5).hex()
        self._count = itertools.count(1)
        self.mark = mark or f"framegate-{secrets.token_hex(8)}"  # of our own hop: what carries it comes from ourselves

    def swap(self, generation: Generation) -> None:
        """Let new exchanges run under this generation; the old one closes after its last."""
        old, self._generation = self._generation, generation
        if old is not None:
            self.spawn(old.retire(), name="generation-retired")

    # --- one exchange

    def open(self, received: Request, client: Client) -> Exchange:
        """Begin an exchange; it must be finished with `finish`."""
        exchange = Exchange(f"{self._boot}{next(self._count):06x}", received, client)
        self.live.add(exchange)
        return exchange

    async def ask(self, exchange: Exchange) -> Response:
        """Run the chain. Every error becomes an answer here; only cancellation gets out."""
        try:
            received = exchange.received
            if received.target in HEALTH and received.method in ("GET", "HEAD"):
                response = self._health(received)
            elif received.target.startswith(FILES) and (files := self._files()) is not None:
                exchange.route = FILES
                response = await files(received)
            else:
                lane = self._place(exchange)
                response = await lane.door(exchange, received)
        except ProxyError as error:
            exchange.error = error
            response = render(error, exchange.id)
        except asyncio.CancelledError:
            if exchange.left or not exchange.expired:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            response = render(self._late(exchange), exchange.id)
        except Exception as error:
            self.log.error("exchange_crashed", id=exchange.id, exc_info=error)
            exchange.error = Crashed("framegate")
            response = render(exchange.error, exchange.id)
        exchange.answered = True
        return response

    def _place(self, exchange: Exchange) -> Lane:
        """Find the route; refuse what must not get further."""
        received = exchange.received
        if self.draining or self._generation is None:
            raise ProxyError(
                "Framegate is stopping; ask again.",
                status=503,
                type="service_unavailable_error",
                code="service_unavailable",
                should_retry=True,
                headers={"retry-after": "1"},
            )
        route: Route[Lane] = self._generation.routes.find(received.method, received.target)
        lane = route.payload
        exchange.route = route.name
        exchange.prefix = route.prefix
        exchange.lane = lane
        exchange.deadline = self.clock.now() + lane.deadline
        lane.generation.exchanges += 1
        view = received.headers.view
        if len(view.getall("Authorization", ())) > 1:
            raise Rejected("Two Authorization headers; send one.")
        if "CDN-Loop" in view and any(self.mark in value for value in view.getall("CDN-Loop")):
            raise Rejected(
                "This request comes from Framegate itself: an upstream's base_url leads back here.",
                status=508,
                code="loop_detected",
            )
        received.body.allow(lane.max_body)
        return lane

    def _health(self, received: Request) -> Response:
        ready = received.target == "/livez" or not self.draining
        told: dict[str, Any] = {"status": "ok" if ready else "draining"}
        generation = self._generation
        if received.target == VERBOSE and generation is not None and generation.verbose:
            told["upstreams"] = dict.fromkeys(generation.upstreams.names(), "ok")
            told["resting"] = resting = generation.upstreams.health.snapshot()
            told["upstreams"] |= {one["upstream"]: "resting" for one in resting if one["upstream"] in told["upstreams"]}
        body = orjson.dumps(told)
        headers = Headers.of(content_type="application/json", content_length=str(len(body)), cache_control="no-store")
        return Response(200 if ready else 503, headers, Bytes(body), reason=b"OK" if ready else b"Service Unavailable")

    def _files(self) -> Files | None:
        """What answers for pictures, also while we stop: that is short, and a link is in somebody's hand already."""
        return self._generation.files if self._generation is not None else None

    def _late(self, exchange: Exchange) -> ProxyError:
        sent = any(attempt.sent for attempt in exchange.attempts)
        exchange.error = error = ProxyError(
            f"The deadline passed before there was an answer. {'It may' if sent else 'It can not'} have been billed.",
            status=504,
            type="upstream_error",
            code="upstream_timeout",
        )
        return error

    def marks(self, exchange: Exchange, response: Response) -> list[bytes]:
        """The header lines that an answer carries of ours; none on a transparent route."""
        lane = exchange.lane
        if not isinstance(lane, Lane) or lane.transparent:
            return []
        marks = [b"x-framegate-id: " + exchange.id.encode()]
        if lane.expose == "all" and exchange.attempts:
            overhead = perf_counter() - exchange.began
            told = []
            winner = response.attempt or exchange.attempts[-1]
            for attempt in exchange.attempts:
                overhead -= attempt.seconds
                if attempt.queued is not None and not attempt.queued.refused:
                    overhead -= attempt.queued.seconds
                told.append(f"{attempt.upstream}={attempt.outcome}")
            marks += (
                b"x-framegate-upstream: " + winner.upstream.encode(),
                b"x-framegate-attempts: " + ", ".join(told).encode(),
                b"x-framegate-overhead-ms: %.2f" % max(0.0, overhead * 1000),
            )
            if winner.queued is not None:
                marks.append(b"x-framegate-queue: " + str(winner.queued).encode())
            if (stopped := exchange.get(STOPPED)) is not None:
                marks.append(b"x-framegate-stopped: " + stopped.encode())
            if changed := (*exchange.get(CHANGED, ()), *winner.changed):
                marks.append(b"x-framegate-changed: " + "; ".join(changed).encode())
        return marks

    def finish(self, exchange: Exchange, ended: Callable[[], Outcome]) -> None:
        """End an exchange, once: report it, run its finishers (those that wait in a task), let its generation go.

        `ended` tells how it ended; it is asked only where somebody wants to know.
        """
        if exchange not in self.live:
            return
        self.live.discard(exchange)
        if self._emptied is not None and not self.live:
            self._emptied.set()
        finishers = exchange.take_finishers()
        lane, report = exchange.lane, self._report
        if report is not None and lane is None and exchange.received.target in HEALTH:
            report = None  # those who ask whether we live ask every few seconds
        if report is not None or finishers:
            outcome = ended()
            if report is not None:
                report(exchange, outcome)
            if finishers and (rest := begin(finishers, outcome, self.log, exchange.id)) is not None:
                self.spawn(self._finish(exchange, rest), name=f"finish-{exchange.id}")
                return
        if isinstance(lane, Lane):
            lane.generation.leave()

    async def _finish(self, exchange: Exchange, rest: Awaitable[None]) -> None:
        try:
            await rest
        finally:
            if isinstance(exchange.lane, Lane):
                exchange.lane.generation.leave()

    # --- all of them

    def sweep(self) -> None:
        """End what has outlived its deadline: work without an answer, and work whose client has left."""
        now = self.clock.now()
        for exchange in tuple(self.live):
            if exchange.deadline < now and exchange.cancel is not None and (exchange.left or not exchange.answered):
                exchange.expired = True
                exchange.deadline = float("inf")
                exchange.cancel()

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> None:
        """Start work that the app owns; its crash is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("task_crashed", task=task.get_name(), exc_info=error)

    async def drain(self, timeout: float) -> None:
        """Refuse what is new, let what runs end within `timeout` seconds, then cancel it; then wait for all tasks."""
        self.draining = True
        await self._quiet(timeout)
        for exchange in tuple(self.live):
            if exchange.cancel is not None:
                exchange.cancel()
        await self._quiet(GRACE)
        if self._generation is not None:
            generation, self._generation = self._generation, None
            self.spawn(generation.retire(), name="generation-retired")
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _quiet(self, timeout: float) -> None:
        """Wait until no exchange is live, for `timeout` seconds at the most."""
        if self.live:
            self._emptied = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), timeout)
