"""The protocol of the image store: pictures go in piece by piece and come out under stable URLs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from .body import Body
from .errors import ProxyError

# Whatever stands before it: where we are reached may have changed since the link was given.
OURS = re.compile(r"(?:https?://[^/?#]+)?(?:/[^?#]*)?/files/([a-z2-7]{26}\.[a-z]{3,4})(?:\?[^#]*)?", re.ASCII)
FILES = "/files/"  # what a picture's path begins with, on the public port
Piece = bytes | bytearray | memoryview
ImageType = Literal["png", "jpeg", "webp", "gif", "svg"]
Lifetime = float | Literal["forever"]
MEDIA: dict[ImageType, bytes] = {
    "png": b"image/png",
    "jpeg": b"image/jpeg",
    "webp": b"image/webp",
    "gif": b"image/gif",
    "svg": b"image/svg+xml",
}


def name_in(url: str) -> str | None:
    """The name of the picture that a URL of ours leads to; None where it can't be one of ours."""
    found = OURS.fullmatch(url)
    return None if found is None else found[1]


class ImageStoreError(ProxyError):
    """The place of the pictures can't take one, or give one back: full, read-only, gone."""

    status = 503
    type = "service_unavailable_error"
    code = "image_store_unavailable"


class NotAnImage(ProxyError):
    """What was to be kept is no picture of a sort that is kept."""

    status = 502
    type = "upstream_error"
    code = "not_an_image"


@dataclass(frozen=True, slots=True)
class Stored:
    """A picture under one name. Others may lead to the same bytes; each has an owner and an end of its own."""

    name: str  # NAME.ext
    type: ImageType
    size: int  # bytes
    width: int | None  # pixels; None: an SVG that does not say
    height: int | None
    sha256: str  # of the bytes, in hex
    created: float  # seconds since 1970
    expires: float | None  # None: never
    owner: str | None = None  # the id of the caller whose it is
    request: str | None = None  # the id of the exchange that made it
    path: str = ""  # /files/NAME.ext, with its signature where links are signed
    url: str = ""  # the same behind `public_url`: what a client is told


class Spool(Protocol):
    """A picture on its way into the store. What was written can be read again until the spool is left."""

    @property
    def size(self) -> int:
        """Bytes written so far."""

    def write(self, data: Piece) -> None:
        """Take some bytes. Never waits and never fails: ask `drained` now and then."""

    @property
    def free(self) -> bool:
        """Whether `drained` would not wait, nor raise."""

    def room(self, then: Callable[[], None]) -> bool:
        """Whether `drained` would not wait; if it would, `then` is called once when it has waited."""

    async def drained(self) -> None:
        """Wait until so much is on the disk that memory stays flat. Raises ImageStoreError when the disk refuses."""

    async def commit(self, *, ttl: Lifetime | None = None) -> Stored:
        """Keep it, whole, under a new name; `ttl` in seconds, None: as the config says.

        Raises NotAnImage, or ImageStoreError when it can't be kept; then nothing of it stays behind.
        """

    def read(self) -> AsyncIterator[bytes]:
        """All that was written, from its start, also when keeping it failed."""


class ImageStore(Protocol):
    """Pictures by name. What a name leads to never changes; it ends when its time is over or it is deleted."""

    def spool(self, *, owner: str | None = None, request: str | None = None) -> AbstractAsyncContextManager[Spool]:
        """Take a picture in; what is not committed when the block ends is gone."""

    async def find(self, name: str) -> Stored | None:
        """The picture of that name, with a link that is signed anew; None when there is none, or none any more."""

    async def body(self, name: str) -> Body | None:
        """The bytes of that picture, for whoever must close it."""

    async def delete(self, name: str) -> bool:
        """End a name, and the bytes with their last name; whether there was one."""
