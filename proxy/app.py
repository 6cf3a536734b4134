"""The composition: a config becomes engine, upstreams, plugins and listeners, and serves until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import build
from .core.clock import SystemClock
from .core.config import Complaint, ConfigError
from .core.engine import Engine, Generation
from .model.errors import ProxyError, UpstreamError
from .model.store import StoreError
from .state import State
from .telemetry.log import ExchangeLog, make
from .wire import internals
from .wire.listening import BACKLOG, Acceptor, Shares, bind, clear, spelled
from .wire.secure import Greeter
from .wire.server import Edge
from .wire.trust import Trust

if TYPE_CHECKING:
    import ssl

    from .core.config import Config

THRESHOLDS = (10_000, 20, 100)  # of the collector: objects for a look at the young, such looks for one at the older
TICK = 0.5  # seconds between two looks at the clocks of clients and exchanges


@dataclass(frozen=True, slots=True)
class Prepared:
    """A config with all that it takes to put it to work, which can't fail any more."""

    config: Config
    generation: Generation
    context: ssl.SSLContext | None


class House:
    """Framegate at work in one process."""

    def __init__(
        self,
        config: Config,
        *,
        environ: Mapping[str, str] | None = None,
        log: Any = None,
        clock: Any = None,
        mark: str = "",
    ) -> None:
        internals.check()
        internals.quiet()
        self.config = config
        self.log = log if log is not None else make(config.log.format)
        self.clock = clock if clock is not None else SystemClock()
        report = ExchangeLog(self.log) if config.log.exchanges else None
        self.engine = Engine(self.clock, self.log, report, mark)
        self.edge = Edge(self.engine)
        self.state = State(config, environ if environ is not None else os.environ, self.clock)
        self.address = ""
        self.greeter: Greeter | None = None  # where TLS is spoken
        self._server: asyncio.Server | None = None
        self._acceptor: Acceptor | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Build the first generation and open the listener. Raises OSError or what a plugin raised."""
        warn(self.config, self.log)
        try:
            await self.furnish()
            await self._listen()
        except BaseException:
            await self.stop(0)
            raise

    async def furnish(self) -> None:
        """Build the first generation, and no listener. Raises what a plugin raised."""
        prepared = await self.prepare(self.config)
        if prepared.context is not None:
            self.greeter = Greeter(prepared.context, self.config.server.header_timeout, self.log)
        self.commit(prepared)
        self._sweep()

    async def reload(self, config: Config) -> None:
        """Put a new config to work for new exchanges; the listener stays. Raises what a plugin raised."""
        config, fixed = carried(self.config, config)
        self.commit(await self.prepare(config))
        warn(config, self.log, fixed)

    async def prepare(self, config: Config) -> Prepared:
        """All that config needs, which serves nobody yet. Raises OSError or what a plugin raised."""
        context = None if config.pair is None else config.pair.context()
        return Prepared(config, await build.generation(config, self.engine, self.state, self.clock, self.log), context)

    def commit(self, prepared: Prepared) -> None:
        """Put what was prepared to work."""
        self.engine.swap(prepared.generation)
        if self.greeter is not None and prepared.context is not None and prepared.config.pair != self.config.pair:
            self.greeter.context = prepared.context
        self.config = prepared.config

    async def stop(self, timeout: float | None = None) -> None:
        """Refuse what is new, let what runs end within `drain_timeout`, hang up."""
        server, self._server = self._server, None
        self.shut()
        if server is not None:
            server.close()
            if self.config.server.listen.path is not None:
                # Before the drain, not behind it: by then the path may be that of the next Framegate.
                with suppress(FileNotFoundError):
                    os.unlink(self.config.server.listen.path)
        await self.engine.drain(self.config.server.drain_timeout if timeout is None else timeout)
        await self.state.aclose()
        self.edge.listener.pre_shutdown()  # else each idle connection is waited for, as if it were at work
        await self.edge.listener.shutdown(1.0)
        if self.greeter is not None:
            await self.greeter.part(1.0)
        if self._sweeper is not None:
            self._sweeper.cancel()
        if server is not None:
            await server.wait_closed()

    def shut(self) -> None:
        """Take no more connections from shared sockets."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.close()

    def hurry(self) -> None:
        """Cut short what a stop waits for."""
        for exchange in tuple(self.engine.live):
            if exchange.cancel is not None:
                exchange.cancel()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        listen = self.config.server.listen
        if self.greeter is not None:
            sockets = bind(listen)
            self.accept(sockets, Shares(1), 0)
            return
        if listen.path is not None:
            clear(Path(listen.path))
            self._server = await loop.create_unix_server(self.edge.listener, listen.path, backlog=BACKLOG)
        else:
            self._server = await loop.create_server(self.edge.listener, listen.host, listen.port, backlog=BACKLOG)
        self.address = self.state.address = spelled(self._server.sockets[0])

    def accept(self, sockets: Sequence[socket.socket], shares: Shares, place: int) -> None:
        """Take connections from sockets that listen, as many as the others at their places, until we stop."""
        self.address = self.state.address = spelled(sockets[0], self.config.scheme)
        listener = self.edge.listener
        self._acceptor = Acceptor(
            sockets,
            listener,
            lambda: len(listener.connections),
            self.engine.spawn,
            shares,
            place,
            self.log,
            self.greeter,
        )
        self._acceptor.open()

    def _sweep(self) -> None:
        server = self.config.server
        stall = max((route.deadline for route in self.config.routes), default=600.0)
        self.edge.sweep(header=server.header_timeout, body=server.body_timeout, stall=stall)
        if self.greeter is not None:
            self.greeter.sweep(stall)
        tick = min(TICK, max(0.02, min(server.header_timeout, server.body_timeout) / 8))
        self._sweeper = asyncio.get_running_loop().call_later(tick, self._sweep)


def warn(config: Config, log: Any, fixed: Sequence[str] = ()) -> None:
    """Log what an operator may not expect of this config."""
    if config.unbuilt:
        log.warning("settings_without_effect", settings=list(config.unbuilt))
    if config.short_keys:
        log.warning("short_keys", keys=list(config.short_keys), why="under 32 characters a key can be guessed")
    if (why := config.certificate_doubt) is not None:
        log.warning("certificate_in_doubt", why=why)
    if fixed:
        log.warning("restart_needed", settings=list(fixed), why="these take effect at the next start")


def carried(old: Config, new: Config) -> tuple[Config, list[str]]:
    """The new config with what can't change while we serve as it was, and the names of that. Raises ConfigError.

    A certificate can: a listener with TLS takes the new pair. It can't begin to speak TLS, nor cease to.
    """
    if new.server.listen.loopback and not old.server.listen.loopback:
        # It was checked for open proxies as one that only this machine reaches, and the listener stays where it is.
        text = f"can't become {new.server.listen} while {old.server.listen} is served; stop and start"
        raise ConfigError([Complaint("server.listen", text)])
    server, pair = old.server, old.pair
    if old.pair is not None and new.pair is not None:
        server = replace(server, certificate=new.server.certificate, private_key=new.server.private_key)
        pair = new.pair
    kept = {"server": server, "store": old.store, "log": old.log}
    fixed = [name for name, table in kept.items() if table != getattr(new, name)]
    return replace(new, server=server, store=old.store, log=old.log, pair=pair), fixed


def serve(config: Config, *, reread: Callable[[], Config] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP takes the config anew, and keeps the old one when the new is bad."""
    if config.server.workers > 1:
        from .workers.supervisor import Supervisor

        return Supervisor(config, reread).run()
    with asyncio.Runner(loop_factory=loop_factory(config)) as runner:
        return runner.run(_serve(config, reread))


def loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop that the config asks for; None: asyncio's own."""
    if config.server.loop != "uvloop":
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(config: Config, reread: Callable[[], Config] | None) -> int:
    house = House(config)
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: house.hurry() if told.is_set() else told.set())
    if reread is not None:
        loop.add_signal_handler(signal.SIGHUP, lambda: house.engine.spawn(_reload(house, reread), name="reload"))
    try:
        await house.start()
    except (OSError, ProxyError) as error:
        house.log.error("start_failed", listen=str(config.server.listen), why=str(error))
        return 1
    settle()
    house.log.info("serving", address=house.address, routes=[route.match for route in config.routes])
    await told.wait()
    house.log.info("draining", exchanges=len(house.engine.live), seconds=config.server.drain_timeout)
    await house.stop()
    house.log.info("stopped")
    return 0


def settle() -> None:
    """What stands now stands until the end: the collector need not walk it again.

    Nor need it come often. A request leaves no cycle behind, but thousands that are held at once look like garbage that
    grows, and with Python's own thresholds walking them was a sixth of their price.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


async def _reload(house: House, reread: Callable[[], Config]) -> None:
    try:
        await house.reload(await asyncio.to_thread(reread))
    except ConfigError as error:
        house.log.error("reload_refused", complaints=str(error).splitlines())
    except Exception as error:
        house.log.error("reload_refused", exc_info=error)
    else:
        house.log.info("reloaded")


async def _dial(config: Config) -> list[str]:
    house = House(config, log=make("text"))
    complaints = []
    if config.store.redis is not None:
        try:
            await house.state.get("vault", "pepper")
        except StoreError as error:
            complaints.append(f"store: {error.message}{f' ({error.__cause__})' if str(error.__cause__ or '') else ''}")
        finally:
            await house.state.aclose()
    trust = Trust()
    for name in config.upstreams:
        wire = build.upstream(config, name, house.clock, environ=house.state.environ, trust=trust).wire
        try:
            await wire.dial()
        except UpstreamError as error:
            complaints.append(f"upstreams.{name}: {error.message}")
        finally:
            await wire.aclose()
    return complaints


def dial(config: Config) -> Sequence[str]:
    """Connect to each upstream once, and to a store elsewhere; one complaint for each that can't be reached."""
    return asyncio.run(_dial(config))
