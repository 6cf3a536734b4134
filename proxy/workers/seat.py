"""The place of one worker among several: who sits there, what we tell it and what it says."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal, NoReturn

from .channel import frame, frames

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
SETTLED = 5.0  # seconds of service after which a worker that ends counts as one that was well
FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0  # seconds before one that was not is started again; doubled each time
SEND = 5.0  # seconds that a worker may leave us waiting with what we tell it
READ = 2**16  # bytes of what a worker says, taken at once


class Seat:
    """One place. Its worker is forked from us, so we must have neither event loop nor thread."""

    def __init__(self, place: int, log: Any) -> None:
        self.name = f"worker {place + 1}"
        self.place = place
        self.log = log.bind(worker=place + 1)
        self.state: Literal["away", "starting", "serving"] = "away"
        self.pid = 0
        self.control: socket.socket | None = None
        self.failures = 0  # workers in a row that did not get to serve, or not for long
        self.due = 0.0  # when the next is started
        self.why = ""  # the reason that the last gave for not starting
        self._since = 0.0
        self._heard = bytearray()

    def fork(self, work: Callable[[socket.socket], int]) -> None:
        """Start a worker, which gets its end of the channel; `work` ends with the exit status. Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.settimeout(SEND)
        self.why = ""
        # Held back until the worker has handlers of its own: with ours it would wake us, not itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        try:
            pid = os.fork()
            if not pid:
                ours.close()
                _become(lambda: work(theirs), self.log)
        except OSError:
            ours.close()
            theirs.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        theirs.close()
        self.pid, self.control, self.state = pid, ours, "starting"
        self._heard.clear()

    def serves(self, now: float) -> None:
        """It is ready."""
        self.state, self._since = "serving", now

    def reap(self) -> str | None:
        """How its worker has ended; None when it has not."""
        pid, code = os.waitpid(self.pid, os.WNOHANG)
        return _cause(os.waitstatus_to_exitcode(code)) if pid else None

    def leave(self, now: float) -> float:
        """It has ended; in how many seconds the next is started."""
        well = self.state == "serving" and now - self._since >= SETTLED
        self.failures = 0 if well else self.failures + 1
        wait = min(FIRST_WAIT * 2 ** (self.failures - 1), LONGEST_WAIT) if self.failures else 0.0
        self.due = now + wait
        self.state, self.pid = "away", 0
        self.hang_up()
        return wait

    def kill(self, why: str) -> None:
        """End it at once."""
        self.log.error("worker_killed", pid=self.pid, why=why)
        os.kill(self.pid, signal.SIGKILL)

    def tell(self, word: str, payload: bytes = b"") -> None:
        """Tell it that."""
        if self.control is None:
            return
        try:
            self.control.sendall(frame(word, payload))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended, which we are about to hear
        except OSError:
            # Half a message would make nonsense of the next. One that takes none for so long is beyond help.
            self.kill(f"it has not listened for {SEND:g} s")
            self.hang_up()

    def hear(self) -> Iterator[tuple[str, bytes]]:
        """What it has said since we last asked."""
        if self.control is not None:
            self.control.setblocking(False)
            try:
                while piece := self.control.recv(READ):
                    self._heard += piece
                self.hang_up()  # it is about to end, which SIGCHLD will tell
            except BlockingIOError:
                self.control.settimeout(SEND)
            except OSError:
                self.hang_up()
        return frames(self._heard)

    def hang_up(self) -> None:
        """Let go of our end of the channel; a worker that still runs takes it for our end, and drains."""
        control, self.control = self.control, None
        if control is not None:
            control.close()


def _become(work: Callable[[], int], log: Any) -> NoReturn:
    """What the forked process does, from its first step to its end."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to us all; the supervisor decides
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        status = work()
    except BaseException as error:
        with suppress(Exception):
            log.error("worker_crashed", exc_info=error)
    finally:
        os._exit(status)  # what the supervisor has on its stack is none of ours


def _cause(code: int) -> str:
    if code >= 0:
        return f"it ended with status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
