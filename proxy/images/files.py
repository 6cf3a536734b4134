"""Pictures' bytes as files of one folder, each named by its SHA-256. Every call may wait for the disk: for threads.

spool/XX        pictures on their way in, each locked by the process that writes it
blobs/ab/abcd   whole pictures
locks/ab        for those in blobs/ab: shared by who puts one there, until it has a name; alone with who takes one away
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from ..model.images import ImageStoreError

T = TypeVar("T")

# For the owner and the group: with a group of its own nginx can read what it is to send (`accel`).
FOLDER, FILE = 0o750, 0o640


class Blob(NamedTuple):
    """A whole picture in the folder."""

    sha256: str
    size: int
    written: float  # seconds since 1970, by the disk's clock


class Temp(NamedTuple):
    """A picture on its way in."""

    path: Path
    descriptor: int


def translated(error: OSError) -> ImageStoreError:
    """The one error for a disk that refuses, in the system's words."""
    return ImageStoreError(f"The store of pictures can't be used: {os.strerror(error.errno or errno.EIO)}.")


class Files:
    """A folder of pictures on this machine; several processes may share it."""

    def __init__(self, folder: Path, *, lasting: bool = True) -> None:
        self.folder = folder
        self.lasting = lasting  # whether whole pictures stay here, too
        self._spool = folder / "spool"
        self._blobs = folder / "blobs"
        self._locks = folder / "locks"

    def prepare(self) -> None:
        """Make the folders, and see that something can be written there. Raises ImageStoreError."""
        try:
            self.discard(self.create())
        except OSError as error:
            raise translated(error) from error

    def create(self) -> Temp:
        """A new file to write a picture to. Raises OSError."""
        path = self._spool / secrets.token_hex(16)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        try:
            temp = Temp(path, os.open(path, flags, FILE))
        except FileNotFoundError:
            for folder in (self.folder, self._spool):
                folder.mkdir(FOLDER, parents=True, exist_ok=True)
            temp = Temp(path, os.open(path, flags, FILE))
        try:
            # The kernel lets go of it when the process dies, however it dies: then anybody may clear the file away.
            fcntl.flock(temp.descriptor, fcntl.LOCK_EX)
            swept = os.fstat(temp.descriptor).st_nlink == 0  # before we had the lock
        except BaseException:
            self.discard(temp)
            raise
        if swept:
            os.close(temp.descriptor)
            return self.create()
        return temp

    def discard(self, temp: Temp) -> None:
        """Forget a file that is not wanted, or is in its place by now."""
        with suppress(OSError):
            temp.path.unlink()
        os.close(temp.descriptor)

    def place(self, temp: Temp, sha256: str) -> int:
        """Put a picture that is whole in its place, also where the same is there already. Raises OSError.

        What is there may be damaged; what has just been written is not. Until the descriptor returned is closed nobody
        takes away what lies there, be it this one or another's of the same bytes.
        """
        path = self.path(sha256)
        lock = self._locked(sha256, fcntl.LOCK_SH)
        try:
            try:
                temp.path.rename(path)
            except FileNotFoundError:
                for folder in (self._blobs, path.parent):
                    folder.mkdir(FOLDER, exist_ok=True)
                temp.path.rename(path)
        except BaseException:
            os.close(lock)
            raise
        return lock

    @contextmanager
    def alone(self, sha256: str) -> Iterator[bool]:
        """Keep all others from putting it in its place; False when somebody has just put it there, or one near it."""
        lock = None
        with suppress(BlockingIOError):
            lock = self._locked(sha256, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                os.close(lock)

    def remove(self, sha256: str) -> None:
        """Take a picture away; who is reading it reads on. Raises ImageStoreError."""
        with suppress(FileNotFoundError):
            self._guarded(self.path(sha256).unlink)

    def open(self, sha256: str) -> IO[bytes] | None:
        """The picture, to be read; None when it is not there. Raises ImageStoreError."""
        with suppress(FileNotFoundError):
            return self._guarded(lambda: self.path(sha256).open("rb", buffering=0))
        return None

    def path(self, sha256: str) -> Path:
        """Where a picture has its place."""
        return self.folder / self.place_of(sha256)

    def place_of(self, sha256: str) -> str:
        """The same, seen from the folder."""
        return f"blobs/{sha256[:2]}/{sha256}"

    def shard(self, begins: str) -> list[Blob]:
        """The pictures whose sum begins with this digit. Raises ImageStoreError."""

        def listed() -> list[Blob]:
            found = []
            for folder in self._blobs.glob(f"{begins}?"):
                with os.scandir(folder) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            stat = entry.stat(follow_symlinks=False)
                            found.append(Blob(entry.name, stat.st_size, stat.st_mtime))
            return found

        with suppress(FileNotFoundError):
            return self._guarded(listed)
        return []

    def sweep(self) -> int:
        """Clear away what killed processes have left half written; how many files. Raises ImageStoreError."""
        return self._guarded(lambda: sum([self._swept(path) for path in self._spool.glob("*")]))

    def _swept(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return True
        except (BlockingIOError, FileNotFoundError):  # somebody writes it, or has just put it in its place
            return False
        finally:
            os.close(descriptor)

    def _locked(self, sha256: str, how: int) -> int:
        """A descriptor that holds the lock until it is closed, or its process is gone."""
        # One for each of 256 folders: who takes a picture away finds its own free now and then, however many come in.
        path = self._locks / sha256[:2]
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, FILE)
        except FileNotFoundError:
            self._locks.mkdir(FOLDER, parents=True, exist_ok=True)
            descriptor = os.open(path, flags, FILE)
        try:
            fcntl.flock(descriptor, how)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise translated(error) from error
