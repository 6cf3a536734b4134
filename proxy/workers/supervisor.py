"""Several workers behind one address: started, watched, started again, given one config, and ended together.

It has neither event loop nor thread, so that a worker can be forked from it at any time.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from .. import build
from ..app import carried, settle, warn
from ..core.config import ConfigError
from ..telemetry.log import make
from ..wire.listening import AWAY, Shares, bind, spelled
from .channel import pack
from .seat import HEARD, Seat
from .worker import Worker

if TYPE_CHECKING:
    from ..core.config import Config

TRIES = 5  # starts in a row that may fail while nobody serves
PREPARE = 60.0  # seconds in which every worker must have made a new config ready
LATE = 20.0  # seconds beyond drain_timeout until a worker that has not ended is killed: what it cancels needs some


@dataclass(eq=False, slots=True)
class Reload:
    """A new config on its way into all workers: first every one makes it ready, then every one takes it."""

    number: bytes
    config: Config
    fixed: list[str]
    waiting: set[Seat]
    until: float
    committing: bool = False


class Supervisor:
    """Binds the listener, starts the workers, and keeps them."""

    def __init__(self, config: Config, reread: Callable[[], Config] | None = None) -> None:
        self.config = config
        self.log = make(config.log.format)
        self._reread = reread
        self._mark = f"framegate-{secrets.token_hex(8)}"  # one for all: a loop may lead through another worker
        self._seats = [Seat(place, self.log) for place in range(config.server.workers)]
        self._shares = Shares(len(self._seats))
        self._sockets: list[socket.socket] = []
        self._opened = False  # every worker was ready once, and connections are taken
        self._wanted = False  # a reload
        self._reloads = 0
        self._reload: Reload | None = None
        self._status: int | None = None  # once we stop: what to exit with
        self._until = 0.0  # once we stop: when who is left is killed
        self._hurried = False

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit status."""
        warn(self.config, self.log)
        try:
            self._sockets = bind(self.config.server.listen)
        except OSError as error:
            self.log.error("start_failed", listen=str(self.config.server.listen), why=error.strerror or str(error))
            return 1
        if threading.active_count() > 1:
            names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
            why = "a plugin started them when it was imported; workers are without them: start them in running()"
            self.log.warning("threads_before_workers", threads=names, why=why)
        build.load(self.config)
        settle()  # what workers share with us stays shared only as long as no collector walks it
        try:
            with self._signals():
                while self._status is None or any(seat.pid for seat in self._seats):
                    self._turn()
        finally:
            for seat in self._seats:
                seat.hang_up()
            self._close_sockets()
        self.log.info("stopped")
        return self._status

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Hear signals as bytes on a socket."""
        self._woken, waker = socket.socketpair()
        with self._woken, waker:
            self._woken.setblocking(False)
            waker.setblocking(False)
            before = {number: signal.signal(number, lambda *_: None) for number in HEARD}
            old = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(old)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _turn(self) -> None:
        """Start who is due, wait for something to happen, and see to it."""
        now = monotonic()
        if self._status is None:
            self._start_due(now)
            self._begin_reload()
        talking = [seat.control for seat in self._seats if seat.control is not None]
        if self._woken in select.select([self._woken, *talking], [], [], self._patience(now))[0]:
            for number in self._woken.recv(4096):
                self._signalled(number)
        for seat in self._seats:
            cause = seat.reap() if seat.pid else None
            for word, payload in seat.hear():
                self._heard(seat, word, payload)
            if cause is not None:
                self._ended(seat, cause)
        now = monotonic()
        if self._reload is not None and now > self._reload.until:
            self._too_late(self._reload)
        if self._status is not None and now > self._until:
            self._kill()

    def _patience(self, now: float) -> float | None:
        """How long nothing need be done of our own accord."""
        if self._status is not None:
            times = [self._until]
        elif self._reload is not None:
            times = [self._reload.until]
        else:
            times = [seat.due for seat in self._seats if not seat.pid]
        return max(0.0, min(times) - now) if times else None

    # --- workers

    def _start_due(self, now: float) -> None:
        if self._reload is not None:
            return  # who is started now would have the one config or the other
        for seat in self._seats:
            if seat.pid or seat.due > now:
                continue
            try:
                seat.fork(partial(self._work, seat))
            except OSError as error:
                self._ended(seat, f"it can't be forked: {os.strerror(error.errno or 0).lower()}")

    def _work(self, seat: Seat, control: socket.socket) -> int:
        """What runs in the worker's process."""
        for other in self._seats:
            other.hang_up()  # else their workers would not notice that the supervisor has gone
        self._woken.close()
        return Worker(seat.place, self.config, self._mark, self._sockets, self._shares, control, seat.log).run()

    def _ended(self, seat: Seat, cause: str) -> None:
        served, pid, cause = seat.state == "serving", seat.pid, seat.why or cause
        wait = seat.leave(monotonic())
        self._shares.set(seat.place, AWAY)
        if self._reload is not None and seat in self._reload.waiting:
            if self._reload.committing:
                self._arrived(self._reload, seat)  # whoever sits there next has the new config
            else:
                self._refuse(f"{seat.name} ended: {cause}")
        if self._status is not None:
            return
        if not self._opened or not (served or any(one.state == "serving" for one in self._seats)):
            if seat.why and not self._opened:
                return self._give_up("start_failed", cause)  # the next would have that reason, too
            if seat.failures >= TRIES:
                text = f"{seat.name} ended {TRIES} times before it could serve; the last time: {cause}"
                return self._give_up("gave_up" if self._opened else "start_failed", text)
        seat.log.error("worker_ended", pid=pid, why=cause, restart_in=wait)

    def _give_up(self, event: str, why: str) -> None:
        self.log.error(event, listen=str(self.config.server.listen), why=why)
        self._stop(1)

    def _heard(self, seat: Seat, word: str, payload: bytes) -> None:
        if word == "ready":
            seat.serves(monotonic())
            if self._status is not None:
                return
            if self._opened:
                seat.tell("serve")
                seat.log.info("worker_started", pid=seat.pid)
            elif all(one.state == "serving" for one in self._seats):
                self._open()
        elif word == "failed":
            seat.why = payload.decode()
        else:
            number, _, why = payload.partition(b"\n")
            if self._reload is None or number != self._reload.number:
                return  # of one that has been refused since
            if word == "refused":
                self._refuse(f"{seat.name}: {why.decode()}")
            else:
                self._arrived(self._reload, seat)

    def _open(self) -> None:
        """All are ready for the first time: let them serve."""
        self._opened = True
        for seat in self._seats:
            seat.tell("serve")
        routes = [route.match for route in self.config.routes]
        address = spelled(self._sockets[0], self.config.scheme)
        self.log.info("serving", address=address, workers=len(self._seats), routes=routes)

    # --- another config

    def _begin_reload(self) -> None:
        if not self._wanted or self._reload is not None or self._reread is None:
            return
        seats = [seat for seat in self._seats if seat.pid]
        if not self._opened or not seats or any(seat.state == "starting" for seat in seats):
            return  # as soon as they have started
        self._wanted = False
        try:
            config, fixed = carried(self.config, self._reread())
            packed = pack(config)
        except ConfigError as error:
            self.log.error("reload_refused", complaints=str(error).splitlines())
            return
        except Exception as error:
            self.log.error("reload_refused", exc_info=error)
            return
        self._reloads += 1
        number = b"%d" % self._reloads
        self._reload = Reload(number, config, fixed, set(seats), monotonic() + PREPARE)
        for seat in seats:
            seat.tell("prepare", number + b"\n" + packed)

    def _arrived(self, reload: Reload, seat: Seat) -> None:
        """One more has it ready, or has taken it."""
        reload.waiting.discard(seat)
        if reload.waiting:
            return
        if reload.committing:
            self._reload = None
            self.log.info("reloaded")
            warn(self.config, self.log, reload.fixed)
            return
        self.config = reload.config
        reload.committing, reload.until = True, monotonic() + PREPARE
        reload.waiting = {one for one in self._seats if one.pid}
        for one in self._seats:
            one.tell("commit", reload.number)

    def _too_late(self, reload: Reload) -> None:
        if not reload.committing:
            late = ", ".join(sorted(seat.name for seat in reload.waiting))
            return self._refuse(f"not ready within {PREPARE:g} s: {late}")
        reload.until = float("inf")
        for seat in reload.waiting:  # their loops stand still, and they must not wake up with the old config
            seat.kill(f"it has not taken the new config within {PREPARE:g} s")

    def _refuse(self, why: str) -> None:
        """Keep the old config everywhere; no worker has the new one at work yet."""
        self._reload = None
        for seat in self._seats:
            seat.tell("discard")
        self.log.error("reload_refused", complaints=[why])

    # --- the end

    def _signalled(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._wanted = self._reread is not None
        elif number in (signal.SIGTERM, signal.SIGINT):
            if self._status is None:
                seconds = self.config.server.drain_timeout
                self.log.info("draining", workers=sum(seat.pid > 0 for seat in self._seats), seconds=seconds)
                self._stop(0)
            elif not self._hurried:
                self._hurried = True
                self._until = min(self._until, monotonic() + LATE)
                for seat in self._seats:
                    seat.tell("hurry")

    def _stop(self, status: int) -> None:
        self._status = status
        self._reload = None
        self._until = monotonic() + self.config.server.drain_timeout + LATE
        self._close_sockets()
        for seat in self._seats:
            seat.tell("drain")

    def _kill(self) -> None:
        self._status = 1
        self._until = monotonic() + LATE
        for seat in self._seats:
            if seat.pid:
                seat.kill("it did not end in time")

    def _close_sockets(self) -> None:
        sockets, self._sockets = self._sockets, []
        if sockets and self.config.server.listen.path is not None:
            # Before the drain, not behind it: by then the path may be that of the next Framegate.
            Path(self.config.server.listen.path).unlink(missing_ok=True)
        for one in sockets:
            one.close()
