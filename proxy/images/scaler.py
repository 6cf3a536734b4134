"""The process that makes thumbnails, seen from the house: started when there is one to make, killed when it is late."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from ..model.images import ImageType
from .scaling import LARGE, MADE, PIXELS, REPLY

SCRIPT = Path(__file__).with_name("scaling.py")
PATIENCE = 10.0  # seconds that one thumbnail may take
LARGEST = 2**24  # bytes of a thumbnail; what says it has more is out of its mind
PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
TOO_LARGE = f"thumbnails are made of pictures of up to {PIXELS:,} pixels"
BROKEN = "it can't be decoded, since it is damaged or cut off"
TOO_SLOW = f"making it took longer than {PATIENCE:g} seconds"
CRASHED = "the decoder crashed"


class Unmade(Exception):
    """No thumbnail came, and none would if asked again. `crashed`: an operator may want to know."""

    def __init__(self, why: str, *, crashed: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.crashed = crashed


def there() -> bool:
    """Whether Pillow is installed; looked for without loading it."""
    return importlib.util.find_spec("PIL") is not None


class Scaler:
    """One such process. For one thread at a time, but for `kill`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs, if one does."""
        return None if self._process is None else self._process.pid

    def scaled(self, descriptor: int, sort: ImageType, width: int) -> bytes:
        """The picture in that open file, so wide. Raises Unmade, or OSError where no process can be started."""
        line = self._started()
        ends = time.monotonic() + PATIENCE
        try:
            line.settimeout(PATIENCE)
            socket.send_fds(line, [f"{sort} {width}".encode()], [descriptor])
            letter, length = REPLY.unpack(_read(line, REPLY.size, ends))
            if length > LARGEST:
                raise EOFError
            made = _read(line, length, ends)
        except TimeoutError:
            self.stop()
            raise Unmade(TOO_SLOW, crashed=True) from None
        except (EOFError, OSError):
            self.stop()
            raise Unmade(CRASHED, crashed=True) from None
        if letter == MADE:
            return made
        raise Unmade(TOO_LARGE if letter == LARGE else BROKEN)

    def kill(self) -> None:
        """End the process, whatever it is at; who waits for it hears that it crashed."""
        if (process := self._process) is not None:
            process.kill()

    def stop(self) -> None:
        """End the process, and forget it."""
        process, self._process = self._process, None
        line, self._line = self._line, None
        if line is not None:
            line.close()
        if process is not None:
            process.kill()
            process.wait()

    def _started(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self.stop()  # somebody else has ended it: the kernel where memory was short, or an operator
        if self._line is None:
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    self._process = subprocess.Popen(
                        [sys.executable, "-P", str(SCRIPT), str(theirs.fileno())],
                        pass_fds=[theirs.fileno()],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        # No secret of ours: what a picture may take over should find none.
                        env={name: os.environ[name] for name in PASSED if name in os.environ},
                    )
            except BaseException:
                ours.close()
                raise
            self._line = ours
        return self._line


def _read(line: socket.socket, size: int, ends: float) -> bytes:
    """So many bytes. Raises TimeoutError when they are late, EOFError when they don't come any more."""
    found = bytearray()
    while len(found) < size:
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        line.settimeout(left)
        piece = line.recv(min(2**18, size - len(found)))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)
