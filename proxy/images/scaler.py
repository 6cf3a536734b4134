"""The process that decodes pictures, seen from the house: started when there is one, killed when it is late."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from ..model.errors import ProxyError
from ..model.images import ImageType
from .scaling import LARGE, MADE, MORE, MOVING, PIXELS, REPLY, VIEWS

SCRIPT = Path(__file__).with_name("scaling.py")
PATIENCE = 10.0  # seconds that one picture may take
LARGEST = 2**24  # bytes of a thumbnail or a view; what says it has more is out of its mind
MOST = 3  # of them that come of one picture
PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
TOO_LARGE = f"thumbnails are made of pictures of up to {PIXELS:,} pixels"
BROKEN = "it can't be decoded, since it is damaged or cut off"
TOO_SLOW = f"making it took longer than {PATIENCE:g} seconds"
CRASHED = "the decoder crashed"
UNSEEN = f"it has more than {PIXELS:,} pixels"
ANIMATED = "it has several frames, of which one would be seen"
LATE = f"looking at it took longer than {PATIENCE:g} seconds"


class Unmade(Exception):
    """No picture came, and none would if asked again. `crashed`: an operator may want to know."""

    def __init__(self, why: str, *, crashed: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.crashed = crashed


class TooMany(ProxyError):
    """More pictures than the decoders can take on; a moment later there may be room."""

    status = 503
    type = "service_unavailable_error"
    code = "service_unavailable"

    def __init__(self, doing: str) -> None:
        super().__init__(f"Too many {doing} at this moment; ask again.", headers={"retry-after": "1"})


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
        return self._asked(descriptor, f"{sort} {width}", {LARGE: TOO_LARGE}, TOO_SLOW)[-1]

    def views(self, descriptor: int, sort: ImageType) -> list[bytes]:
        """The picture in that open file as judges are to see it, in JPEGs. Raises the same."""
        return self._asked(descriptor, f"{sort} {VIEWS}", {LARGE: UNSEEN, MOVING: ANIMATED}, LATE)

    def _asked(self, descriptor: int, words: str, whys: dict[bytes, str], late: str) -> list[bytes]:
        line = self._started()
        ends = time.monotonic() + PATIENCE
        made: list[bytes] = []
        try:
            line.settimeout(PATIENCE)
            socket.send_fds(line, [words.encode()], [descriptor])
            letter = MORE
            while letter == MORE:
                letter, length = REPLY.unpack(_read(line, REPLY.size, ends))
                if length > LARGEST or len(made) == MOST:
                    raise EOFError
                made.append(_read(line, length, ends))
        except TimeoutError:
            self.stop()
            raise Unmade(late, crashed=True) from None
        except (EOFError, OSError):
            self.stop()
            raise Unmade(CRASHED, crashed=True) from None
        if letter == MADE:
            return made
        raise Unmade(whys.get(letter, BROKEN))

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
