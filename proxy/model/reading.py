"""What the one reader sees in an answer, for the plugins that declare `reads`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

Verdict = Literal["image", "error", "none", "unknown"]
READS = frozenset(("images", "usage", "verdict"))  # what a plugin may want to see in answers


class Picture(Protocol):
    """A picture in an answer, as far as it is known: more comes until it is settled.

    Offsets count the answer's bytes, without the coding in which they came. answer[quote:end + 1] is the string with
    its quotes, answer[start:end] the text of the picture in it (behind the comma of a data: URI), answer[key:quote] the
    member's name and colon.
    """

    @property
    def path(self) -> str:
        """Where it stands: `data[0].b64_json`."""

    @property
    def kind(self) -> Literal["final", "partial", "repeated", "other"] | None:
        """What it is; None while that is open. "repeated": an earlier final one again; "other": no picture at all."""

    @property
    def form(self) -> Literal["base64", "url", "text"]:
        """How it is given; "text" is a data: URI that is not base64."""

    @property
    def index(self) -> int | None:
        """Its number in its list, else the output_index that was told."""

    @property
    def partial(self) -> int | None:
        """The number of a partial one."""

    @property
    def item(self) -> str | None:
        """The id of its output item."""

    @property
    def key(self) -> int:
        """Where its member begins."""

    @property
    def quote(self) -> int:
        """Where its string begins, with the quote."""

    @property
    def start(self) -> int:
        """Where its text begins."""

    @property
    def end(self) -> int:
        """Where its text ends, which is the closing quote; -1 before that has come."""

    @property
    def media(self) -> str | None:
        """The media type that a data: URI names."""

    @property
    def url(self) -> str | None:
        """Where it is to be fetched, when it is given so and has ended."""

    @property
    def sniffed(self) -> Literal["png", "jpeg", "webp", "gif", "svg"] | None:
        """The type that its first bytes show; known 44 characters into the text."""

    @property
    def bad(self) -> str | None:
        """Why it can't be read, in words, as far as it was."""

    @property
    def canonical(self) -> bool | None:
        """Whether the bytes so far in base64 are its text to the letter; None where they were not wanted."""

    @property
    def length(self) -> int:
        """How many bytes it has so far, where they were wanted."""

    @property
    def event(self) -> int:
        """Where the event begins in which it stands; 0 where the answer is no stream."""

    @property
    def null(self) -> int | None:
        """Where a member `url` of its object begins that is null, once that has come; `safe` holds one before it."""

    @property
    def declared(self) -> Mapping[str, Any]:
        """What stands beside it: output_format, size, quality, usage, status."""


class Taker(Protocol):
    """Who takes the pictures of an answer. It is told of a piece of the answer before that piece flows on.

    How long before is not said: where the answer is kept or inflated in between, it may be some pieces. The answer
    waits while the taker does, so a slow disk slows the upstream. Each picture that has begun is ended and settled,
    also when the answer breaks off, with `bad` saying so. A taker that raises, or is cancelled, breaks the answer and
    hears no more.
    """

    def wants(self, picture: Picture) -> bool:
        """Whether its bytes are to be decoded; asked of base64 alone, when it begins."""

    async def begun(self, picture: Picture, /) -> None:
        """Its text has begun and its form is known."""

    async def piece(self, picture: Picture, data: bytes, /) -> None:
        """Its next bytes, where they are wanted."""

    async def ended(self, picture: Picture, /) -> None:
        """Its closing quote has come, or the answer broke off: `end`, `bad`, `canonical` and `length` stand."""

    async def settled(self, picture: Picture, /) -> None:
        """Nothing more will be known of it: `kind`, `item` and `declared` stand."""


class Skimmer(Protocol):
    """Who takes the pictures of an answer and is also the next whom its bytes flow to.

    In the middle of a picture it can have both at one call, the moment they come: the bytes that the text decodes to,
    and the text itself, which then does not flow. That wakes nobody, where a piece that flows wakes every layer.
    """

    def skims(self, picture: Picture, /) -> bool:
        """Whether it takes the next piece so; asked when all that came before has flowed."""

    def skim(self, picture: Picture, data: Sequence[bytes], rest: bytes, go_on: Callable[[], None], /) -> bool:
        """Take the bytes of a piece of text. False: no more for now, until it calls `go_on`.

        `rest` are the fewer than four characters at the text's end that are in no bytes yet; all others are.
        """


class Reading(Protocol):
    """What the one reader sees in an answer while its bytes pass, unchanged."""

    async def verdict(self) -> Verdict:
        """Whether the answer holds a final picture, an error, or neither; "unknown" when that can't be told.

        While nobody has read the body, it reads ahead as far as it must, 64 KiB at the most; the bytes are held and
        come first when somebody reads. White space and comments are no evidence. A partial picture ends the wait, for
        who streams wants to see it, but decides nothing: "unknown", and `partials` says why. Afterwards it says what is
        known by then. Raises what the body raises, when the answer breaks off before there was evidence; cancelled, it
        loses nothing. A status from 400 on is an error whatever follows.
        """

    def images(self, taker: Taker, skimmer: Skimmer | None = None) -> None:
        """Have this one told of the pictures. There is one taker, and it comes before the first byte flows.

        `skimmer`: the same one, where it iterates the very body that is read, with nothing in between.
        """

    def follow(self) -> None:
        """Have all of it looked at as it flows, for usage and pictures, where no plugin reads more than verdicts.

        Asked answer by answer, before the first byte flows; where a plugin of the route reads usage it is so anyway.
        """

    @property
    def safe(self) -> int:
        """The offset before which no byte can turn out to belong to a member that holds a picture.

        Who cuts pictures out lets go of the bytes before it, and holds those behind.
        """

    @property
    def whole(self) -> int:
        """The offset behind the last event that has come whole; 0 where the answer is no stream.

        Who withholds a picture lets the bytes before it go on, and no half of an event.
        """

    @property
    def usage(self) -> Mapping[str, Any] | None:
        """The answer's `usage`; None until the body has ended or was let go of, or if there is none."""

    @property
    def tool_usage(self) -> Mapping[str, Any] | None:
        """Its `tool_usage`, likewise."""

    @property
    def svg_usage(self) -> Mapping[str, Any] | None:
        """Its `svg_usage`, likewise."""

    @property
    def said(self) -> Mapping[str, str]:
        """What else it has said of itself so far: id, model, status, size, quality, output_format."""

    @property
    def error(self) -> Mapping[str, Any] | str | None:
        """The first error object that was seen; {} when there is one that can't be read."""

    @property
    def finish(self) -> Sequence[str]:
        """The finish reasons of a chat so far, each once."""

    @property
    def partials(self) -> int:
        """How many partial pictures have come so far: it has begun to draw."""

    @property
    def pictures(self) -> int:
        """How many final pictures have come so far; one that comes again, or in two forms, counts once."""

    @property
    def ended(self) -> bool:
        """Whether no more will come."""

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end and all of it could be read."""

    @property
    def broken(self) -> str | None:
        """Why it can't be read, in words that hold nothing of it; None as long as it can."""

    @property
    def size(self) -> int:
        """How many bytes of the body have come, compressed ones as they are."""
