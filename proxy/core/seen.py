"""What the reader has seen in an answer so far, as plugins ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..model.body import Body
from ..openai.reader import Reader


class Seen(Body):
    """A body that is read as it flows: half of a `Reading`, the words."""

    __slots__ = ()

    def _seen(self) -> Reader:
        """The reader, which has looked at all that is here."""
        raise NotImplementedError

    @property
    def safe(self) -> int:
        """The offset before which nothing can belong to a member that holds an image."""
        return self._seen().safe

    @property
    def whole(self) -> int:
        """The offset behind the last event that has come whole."""
        return self._seen().whole

    @property
    def usage(self) -> Mapping[str, Any] | None:
        """Its usage, once it has ended."""
        reader = self._seen()
        return reader.facts.usage if reader.ended else None

    @property
    def tool_usage(self) -> Mapping[str, Any] | None:
        """Its tool_usage, once it has ended."""
        reader = self._seen()
        return reader.facts.tool_usage if reader.ended else None

    @property
    def svg_usage(self) -> Mapping[str, Any] | None:
        """Its svg_usage, once it has ended."""
        reader = self._seen()
        return reader.facts.svg_usage if reader.ended else None

    @property
    def said(self) -> Mapping[str, str]:
        """What else it says of itself."""
        return self._seen().said

    @property
    def error(self) -> Mapping[str, Any] | str | None:
        """The first error object in it."""
        return self._seen().facts.error

    @property
    def finish(self) -> Sequence[str]:
        """Its finish reasons."""
        return self._seen().facts.finish

    @property
    def partials(self) -> int:
        """How many partial images have come."""
        return self._seen().partials

    @property
    def pictures(self) -> int:
        """How many final images have come."""
        return self._seen().pictures

    @property
    def ended(self) -> bool:
        """Whether no more will come."""
        return self._seen().ended

    @property
    def complete(self) -> bool:
        """Whether all of it came and could be read."""
        return self._seen().complete

    @property
    def broken(self) -> str | None:
        """Why it can't be read."""
        return self._seen().broken
