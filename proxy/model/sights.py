"""The protocol of what looks at pictures: each is decoded elsewhere, and given again as plain pixels for a judge."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from typing import IO, Literal, NamedTuple, Protocol

Looked = bytes | IO[bytes] | AsyncIterable[bytes]  # a picture's bytes: here, in a file, or still to be read


class Unreadable(Exception):
    """A picture can't be shown to a judge; `why` in words that hold nothing of it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class View(NamedTuple):
    """A picture as judges get it: decoded and written anew by us, small enough for all of them."""

    type: Literal["png", "jpeg", "webp", "gif"]
    data: bytes


class Sights(Protocol):
    """Looks at pictures, whatever they hold."""

    @property
    def there(self) -> bool:
        """Whether any can be looked at: what decodes them is installed."""

    async def views(self, picture: Looked) -> Sequence[View]:
        """What there is to be seen of it: one view, or several of one in which some is transparent.

        What is still to be read is read when it is this picture's turn, so that no more than a few are in memory. Of
        a file it is not said where it stands afterwards. Raises Unreadable, or a ProxyError where too many wait.
        """
