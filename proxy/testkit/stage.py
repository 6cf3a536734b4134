"""A stage for plugins: the real server, engine, chain and services, with neither a socket nor an upstream."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from .. import build
from ..core import engine, order
from ..core.config import Config, PluginTable, RouteTable, load
from ..core.upstreams import Upstream
from ..model.exchange import Exchange
from ..model.message import Request
from ..model.plugin import Plugin
from ..model.services import Clock, Services
from ..model.slots import Slot
from ..state import State, kept
from ..wire.server import Edge
from ..wire.upstream import Wire
from .clock import TurnedClock
from .house import ANYWHERE, leaks_nothing
from .playing import PATIENCE, PLAYING, Facts, Played, Playing, Question
from .remote import Leads, ScriptedRemote
from .script import Asked, Script, ScriptedWire, answer
from .watch import UNHEARD, LogKept, Watch, WatchedEngine

MAIN = "main"  # the upstream's name where a test gives none


class LeftOpen(AssertionError):
    """A plugin has left something open; the text says what."""


class Stage:
    """`async with Stage(Gate(word="x")) as stage:` plays a plugin, or several, the outermost first.

    `upstream` says what comes from behind: an `answer(...)`, an `UpstreamError`, a list of these (one for each time
    that it is asked), or a function that is given what was `Asked`. A mapping names several upstreams; the first is
    the route's, and a plugin gets to the others with `request.to(name)`. `facts` stand on every exchange before the
    plugin sees it. `remote` says what upstreams' URLs lead to: bytes, pieces, or an error; all others are 404, and no
    socket is opened. `settings` are further tables of a config, with the secrets that they name in `environ`; a
    `[[routes]]` table in it is the route that is played, whatever chain it names.

    At its end, what the plugin has left open fails the test, and so does a crash of a finisher or of spawned work,
    unless `crashes` says that it is meant.
    """

    def __init__(
        self,
        *plugins: Plugin,
        upstream: Script | Mapping[str, Script] | None = None,
        facts: Facts | None = None,
        remote: Mapping[str, Leads] | None = None,
        clock: TurnedClock | None = None,
        settings: str = "",
        environ: Mapping[str, str] | None = None,
        on_crash: Literal["refuse", "skip"] = "refuse",
        crashes: bool = False,
    ) -> None:
        self.plugins = plugins
        self.clock = clock if clock is not None else TurnedClock()
        self.facts: dict[Slot[Any], Any] = dict(facts or {})
        self.asked: list[Asked] = []  # everything that upstreams were asked, in order
        self.services: Services  # what the plugins were lent
        self._scripts: Mapping[str, Script]
        if isinstance(upstream, Mapping):
            self._scripts = upstream
        else:
            self._scripts = {MAIN: answer() if upstream is None else upstream}
        self._remote = ScriptedRemote(remote or {})
        self._settings = settings
        self._environ = dict(environ or {})
        self._on_crash = on_crash
        self._crashes = crashes
        self._log = LogKept()
        self._stack = AsyncExitStack()
        self._wires: dict[str, ScriptedWire] = {}
        self._plays: list[Playing] = []
        self._spoilt: list[BaseException] = []
        self._more = asyncio.Event()  # set, and another put in its place, each time that an upstream is asked
        self._watch: Watch
        self._engine: WatchedEngine
        self._edge: Edge
        self._folder: Path

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every line logged so far."""
        return self._log.lines

    @property
    def fetched(self) -> list[str]:
        """Every URL that was fetched, in order."""
        return self._remote.asked

    # --- opening and closing

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="framegate-stage-"))
            self._folder = Path(folder)
            config = self._config()
            self._watch = Watch()
            stack.callback(self._watch.close)
            self._engine = WatchedEngine(self.clock, self._log, self._watch, self._opened)
            self._edge = Edge(self._engine)
            state = State(config, self._environ, self.clock)
            stack.push_async_callback(state.aclose)
            stack.push_async_callback(self._engine.drain, 0)  # of what was begun before a plugin could not start
            with self._watch.inside():
                made = await build.generation(
                    config, self._engine, state, self.clock, self._log, make=self._upstream, remote=self._remote
                )
            self._engine.swap(made)
            self.clock.watchers.append(self._engine.sweep)
            stack.callback(self.clock.watchers.remove, self._engine.sweep)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            begun = [playing for playing in self._plays if not playing.over]
            left = [f"the exchange was begun and never waited for: {playing}" for playing in begun]
            await self._engine.drain(0)
            for playing in self._plays:
                await playing.hang_up()
            left += self._left_open() + await self._watch.left()
        finally:
            await self._stack.aclose()
        if error is None:
            self._judge(left)
        elif left:
            error.add_note("\n".join(["Besides, this was left open:", *left]))

    def _left_open(self) -> list[str]:
        left = [
            f"{body.name} was neither read to its end nor closed; who drops a response closes it"
            for wire in self._wires.values()
            for body in wire.bodies
            if not body.done
        ]
        left += [f"what {url.partition('?')[0]} leads to was opened and not left" for url in self._remote.held]
        for name in self._engine.cut:
            what = f"spawned work '{name}'"
            if name == "generation-retired":
                what = "running() of a plugin"
            elif name.startswith("finish-"):
                what = "a finisher"
            left.append(f"{what} had not ended {engine.GRACE:g} s after the stage was closed, and was cut off")
        for playing in self._plays:
            exchange = playing.exchange
            if exchange is not None and exchange.take_finishers():
                left.append(f"a finisher came when the exchange had ended, and never ran: {playing}")
        return left

    def _judge(self, left: Sequence[str]) -> None:
        if self._spoilt:
            raise self._spoilt[0]
        unheard = [(event, details, crash) for event, details, crash in self._log.crashes if event in UNHEARD]
        if unheard and not self._crashes:
            event, details, crash = unheard[0]
            where = f"spawned work '{details['task']}'" if event == "task_crashed" else "a finisher"
            if details.get("task") == "generation-retired":
                where = "running() of a plugin, when the stage closed"
            raise AssertionError(f"{where} crashed: {type(crash).__name__}: {crash}") from crash
        if left:
            raise LeftOpen("\n".join(["the plugin left something open:", *(f"- {one}" for one in left)]))
        leaks_nothing(self._settings, self._environ, self._log.raw.getvalue(), self._folder)

    # --- what it is made of

    def _config(self) -> Config:
        """A config as an operator would write it, with these very instances in the place of plugins' tables."""
        settings = self._settings
        lines = "" if "[server]" in settings else ANYWHERE
        for name in self._scripts:
            if f"[upstreams.{name}]" not in settings:
                lines += f'[upstreams."{name}"]\nbase_url = "http://upstream.invalid/v1"\n'
        lines += settings if "[[routes]]" in settings else f'{settings}\n[[routes]]\nmatch = "* /v1/*"\n'
        path = self._folder / "framegate.toml"
        path.write_text(lines)
        config = load(path, self._environ, kept=kept(self._environ))
        path.unlink()
        tables: dict[str, PluginTable] = {}
        for plugin in self.plugins:
            kind = type(plugin).__name__.lower()
            name = kind if kind not in tables else f"{kind}-{len(tables) + 1}"
            if self._on_crash == "skip" and not plugin.skippable:
                raise ValueError(f"'{name}' must not be skipped when it crashes: its class does not say skippable")
            tables[name] = _Given(name, type(plugin), name, self._on_crash, given=plugin)
        order.reads(self.plugins)  # as the checker would
        route = config.routes[0]
        routes = (replace(route, chain=tuple(tables)), replace(route, chain=("lent",)))  # the second is never taken
        tables["lent"] = _Given("lent", _Lent, "lent", given=_Lent(self))
        upstreams = {name: config.upstreams[name] for name in (*self._scripts, *config.upstreams)}
        known = {one.name: getattr(config, one.name) for one in fields(config)}
        return _Config(**{**known, "upstreams": upstreams, "plugins": tables, "routes": routes})

    def _upstream(self, config: Config, name: str, clock: Clock, *rest: Any) -> Upstream:
        """The upstream as the house makes it, layers and all, but for its wire."""
        made = build.upstream(config, name, clock, *rest)
        assert isinstance(made.wire, Wire)
        wire = self._wires[name] = ScriptedWire(
            name,
            self._scripts.get(name, answer()),
            target=made.wire.address.target,
            asked=self._note,
            spoilt=self._spoilt.append,
        )
        return replace(made, wire=wire)

    def _opened(self, exchange: Exchange) -> None:
        playing = PLAYING.get()
        if playing is not None:
            for slot, value in playing.facts.items():
                exchange[slot] = value
            playing.opened(exchange)

    def _note(self, asked: Asked) -> None:
        playing = PLAYING.get()
        if playing is not None:
            playing.asked.append(asked)
        self.asked.append(asked)
        self._more.set()
        self._more = asyncio.Event()

    # --- playing

    def begin(
        self,
        request: Request | str = "GET /v1/models",
        *,
        json: Any = None,
        body: bytes | None = None,
        pieces: Iterable[bytes | asyncio.Event] | None = None,
        headers: Mapping[str, str] | None = None,
        facts: Facts | None = None,
    ) -> Playing:
        """Have a client ask, and return at once; await what it returns to hear the end."""
        given = {**self.facts, **(facts or {})}
        filled = set(given)
        for plugin in self.plugins:
            for slot in plugin.needs:
                if slot not in filled:
                    name = type(plugin).__name__
                    raise ValueError(
                        f"{name} needs the fact '{slot.name}', and nobody fills it: pass facts={{...: ...}}"
                    )
            filled.update(plugin.fills)
        question = Question.of(request, json=json, body=body, pieces=pieces, headers=headers)
        playing = Playing(question, given, self._edge, self._watch, self._log, self._spoilt)
        self._plays.append(playing)
        return playing

    async def play(
        self,
        request: Request | str = "GET /v1/models",
        *,
        json: Any = None,
        body: bytes | None = None,
        pieces: Iterable[bytes | asyncio.Event] | None = None,
        headers: Mapping[str, str] | None = None,
        facts: Facts | None = None,
    ) -> Played:
        """Have a client ask ("POST /v1/images/generations", or a whole Request), and wait until all of it is over.

        `json` and `body` go out with the head, like a small request; `pieces` come one by one when the exchange has
        begun, like an upload. Among them an `asyncio.Event` is waited for at that place.
        """
        return await self.begin(request, json=json, body=body, pieces=pieces, headers=headers, facts=facts)

    async def reached(self, times: int = 1) -> None:
        """Wait until the upstreams, all together, have been asked that many times."""
        try:
            async with asyncio.timeout(PATIENCE):
                while len(self.asked) < times:
                    await self._more.wait()
        except TimeoutError:
            text = f"after {PATIENCE:g} s upstreams had been asked {len(self.asked)} times, not {times}"
            raise AssertionError(text) from None


async def play(
    *plugins: Plugin,
    request: Request | str = "GET /v1/models",
    upstream: Script | Mapping[str, Script] | None = None,
    facts: Facts | None = None,
    json: Any = None,
    body: bytes | None = None,
    pieces: Iterable[bytes | asyncio.Event] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Played:
    """Play one request on a stage of its own: `played = await play(Gate(word="x"), request="GET /v1/x")`."""
    async with Stage(*plugins, upstream=upstream, facts=facts) as stage:
        return await stage.play(request, json=json, body=body, pieces=pieces, headers=headers)


@dataclass(frozen=True, slots=True)
class _Given(PluginTable):
    """A plugin's table whose instance is there already."""

    given: Plugin = field(kw_only=True)

    def make(self) -> Plugin:
        """That instance, under the name that it has on the stage."""
        self.given.known_as = self.name
        return self.given


class _Config(Config):
    """A config whose routes reach every upstream there is."""

    __slots__ = ()

    def reach(self, route: RouteTable) -> tuple[str, ...]:
        """All of them; the first is the route's own."""
        return tuple(self.upstreams)


class _Lent(Plugin):
    """Stands on a route that nobody takes and shows the test what plugins are lent."""

    stage: Any

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Hand it on."""
        self.stage.services = services
        yield
