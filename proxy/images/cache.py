"""Thumbnails as files beside the blobs: thumbs/ab/abcd....512.webp. What is lost of them is made anew.

Every call may wait for the disk: for threads, but for `open`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from .files import FOLDER, Files

WIDTHS = (256, 512, 1024)
ROOM = 2**30  # bytes for thumbnails where nothing is said of how many pictures may be kept
PART = 10  # and else such a part of those
SPARE = 0.9  # of the room is left when there were too many, so that not every round has to


class Thumb(NamedTuple):
    """A thumbnail's file."""

    path: Path
    sha256: str  # of the picture
    size: int
    made: float


class Cache:
    """The folder of thumbnails. Pictures may be elsewhere; these are always on this machine."""

    def __init__(self, files: Files, *, max_bytes: int | None = None) -> None:
        self.room = ROOM if max_bytes is None else max_bytes // PART
        self._files = files

    def place_of(self, sha256: str, width: int) -> str:
        """Where a thumbnail has its place, seen from the folder."""
        return f"thumbs/{sha256[:2]}/{sha256}.{width}.webp"

    def open(self, sha256: str, width: int) -> IO[bytes] | None:
        """The thumbnail, to be read; None where there is none."""
        with suppress(OSError):
            return (self._files.folder / self.place_of(sha256, width)).open("rb", buffering=0)
        return None

    def put(self, sha256: str, width: int, made: bytes) -> bool:
        """Keep a thumbnail; whether there was a place for it."""
        path = self._files.folder / self.place_of(sha256, width)
        try:
            temp = self._files.create()
        except OSError:
            return False
        try:
            with open(temp.descriptor, "wb", closefd=False) as file:
                file.write(made)
            os.fdatasync(temp.descriptor)  # else a power cut may leave a name with nothing behind it, for good
            path.parent.mkdir(FOLDER, parents=True, exist_ok=True)
            temp.path.rename(path)
            return True
        except OSError:
            return False
        finally:
            self._files.discard(temp)

    def forget(self, sha256: str) -> None:
        """Take the thumbnails of a picture away."""
        for width in WIDTHS:
            with suppress(OSError):
                (self._files.folder / self.place_of(sha256, width)).unlink()

    def orphaned(self, begins: str, kept: Collection[str]) -> None:
        """Take away those of pictures that are gone, of all whose sum begins with this digit."""
        for thumb in self._all(f"{begins}?"):
            if thumb.sha256 not in kept:
                with suppress(OSError):
                    thumb.path.unlink()

    def trim(self) -> int:
        """Take the oldest away where there are too many; how many bytes are left."""
        thumbs = list(self._all("*"))
        left = sum([thumb.size for thumb in thumbs])
        if left > self.room:
            for thumb in sorted(thumbs, key=lambda thumb: thumb.made):
                if left <= self.room * SPARE:
                    break
                with suppress(OSError):
                    thumb.path.unlink()
                    left -= thumb.size
        return left

    def _all(self, folders: str) -> Iterator[Thumb]:
        for folder in (self._files.folder / "thumbs").glob(folders):
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(OSError):
                        stat = entry.stat(follow_symlinks=False)
                        yield Thumb(Path(entry.path), entry.name.partition(".")[0], stat.st_size, stat.st_mtime)
