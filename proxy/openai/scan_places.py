"""Where OpenAI, and those who speak like it, put things in an answer: the only table of paths there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WORD = 256  # bytes of a small value: a model, an id, a status
TEXT = 4096  # of a message that stands alone
NULL = 4
SMALL = 2**14  # of a usage or an error; an error may cite a prompt


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A place in a document by its path from the root. What has no place is walked over."""

    name: str = ""
    members: Mapping[bytes, Place] = field(default_factory=dict)
    items: Place | None = None
    keep: int = 0  # the value is kept whole when it is at most that long
    take: str = ""  # a string here is handed out as it flows; the word says which sort of string
    frame: bool = False  # the opening and the end of an object here are told


def word(name: str) -> Place:
    return Place(name, keep=WORD)


def place(name: str, *members: Place, items: Place | None = None, take: str = "", frame: bool = False) -> Place:
    return Place(name, {one.name.encode(): one for one in members}, items, take=take, frame=frame)


def many(name: str, item: Place) -> Place:
    return Place(name, items=item)


USAGE = tuple(Place(name, keep=SMALL) for name in ("usage", "tool_usage", "svg_usage"))
ERROR = Place("error", keep=SMALL)
DECLARED = tuple(word(name) for name in ("output_format", "size", "quality"))

# The words behind `take` say when a string there is a picture: always ("final"), when the item around it is an
# image_generation_call ("item"), by the type of the event ("event"), or never more than a partial one.
# Some write `"url": null` beside a picture in base64: who puts a URL there must know.
DATA = place("item", place("b64_json", take="final"), Place("url", take="url", keep=NULL), frame=True)
CALL = place(
    "item",
    *(word(name) for name in ("type", "id", "status")),
    *DECLARED,
    Place("svg_usage", keep=SMALL),
    ERROR,
    place("result", take="item"),
    frame=True,
)
# {"image_url": {"url": ...}} is what is documented; {"image_url": "..."} is what some send.
PART = place("part", place("image_url", place("url", take="url"), take="url"), frame=True)
MESSAGE = (many("images", PART), many("content", PART))
CHOICE = place("choice", word("finish_reason"), ERROR, place("message", *MESSAGE), place("delta", *MESSAGE), frame=True)
ANSWER = (
    *(word(name) for name in ("id", "model", "status")),
    *DECLARED,
    *USAGE,
    ERROR,
    many("data", DATA),
    many("output", CALL),
    many("choices", CHOICE),
)
RESPONSE = place("response", *(one for one in ANSWER if one.name not in ("data", "choices")))

# A whole answer, and one event of a stream.
DOCUMENT = place("", *ANSWER, frame=True)
EVENT = place(
    "",
    *ANSWER,
    *(word(name) for name in ("type", "item_id", "output_index", "partial_image_index", "code", "param")),
    Place("message", keep=TEXT),
    place("b64_json", take="event"),
    place("partial_image_b64", take="partial"),
    CALL,
    RESPONSE,
    frame=True,
)
