"""What the things found in an answer add up to: images of a kind, facts, a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from .scan_images import Image, Kind, Taking
from .scan_places import DOCUMENT, EVENT, Place
from .scan_walk import Walk

Verdict = Literal["image", "error", "none", "unknown"]
What = Literal["begun", "piece", "ended", "settled"]
Take = Callable[[Image], bool]

MOST_ITEMS = 256  # ids of output items remembered, to know an image that comes again
MOST_IN_ONE = 16  # images of one object that wait for its end: there is one, or a key is doubled
MOST_REASONS = 16
CALL_TYPE = "image_generation_call"
FAILED = ("error", "response.failed")  # types of events that are failures whatever else they hold
WORDS = ("id", "model", "status", "size", "quality", "output_format")
USAGES = ("usage", "tool_usage", "svg_usage")
BESIDE = ("size", "quality", "output_format", "usage", "svg_usage", "status")


class Event(NamedTuple):
    """Something about an image; `data` are its next bytes when it is a piece."""

    what: What
    image: Image
    data: bytes = b""


@dataclass(slots=True)
class Facts:
    """What an answer says of itself, so far. In a stream the latest event counts."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    size: str | None = None
    quality: str | None = None
    output_format: str | None = None
    usage: dict[str, Any] | None = None
    tool_usage: dict[str, Any] | None = None
    svg_usage: dict[str, Any] | None = None
    error: dict[str, Any] | str | None = None  # the first; {} when it is there but can't be read
    finish: list[str] = field(default_factory=list)  # finish reasons, each once
    doubled: list[str] = field(default_factory=list)  # members that an object held twice, each once


class _Frame:
    """An object that says something of the images in it. What it says first counts: decisions hang on it."""

    __slots__ = ("counted", "images", "null", "place", "values")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.counted = False  # a final image of it was: given in two forms, it is one all the same
        self.null: int | None = None  # where its member `url` begins, which is null
        self.values: dict[str, Any] = {}
        self.images: list[tuple[Image, str]] = []


class Meaning:
    """Told of the places by the walk; keeps what they mean."""

    def __init__(self, take: Take | None, *, stream: bool) -> None:
        self.walk = Walk(EVENT if stream else DOCUMENT, self)
        self.verdict: Verdict | None = None
        self.facts = Facts()
        self.partials = 0
        self.pictures = 0
        self.event = 0  # where the event begins that is being read
        self.events: list[Event] = []
        self._told = 0  # how many there were before these
        self._take = take
        self._frames: list[_Frame] = []
        self._root: _Frame | None = None  # of an event, until its name is known
        self._taking: Taking | None = None
        self._sort = ""  # of the string that is being taken
        self._items: set[str] = set()
        self._counted: set[str] = set()
        self._item_failed = False
        self._error_is_of_item = False

    @property
    def held(self) -> int | None:
        """Where what a picture may bring along begins: its member while its form is not known, a null before it."""
        taking, frame = self._taking, self._frames[-1] if self._frames else None
        if taking is not None and taking.known:
            return None
        if frame is not None and frame.null is not None and not frame.images:
            return frame.null
        return taking.image.key if taking is not None else None

    def fresh(self) -> list[Event]:
        """The list to which what comes next is added."""
        self._told += len(self.events)
        self.events = []
        return self.events

    def midst(self) -> Taking | None:
        """The picture in the middle of whose base64 it stands, of which only more of that can come or its end."""
        taking = self._taking
        return taking if taking is not None and taking.skims and self.walk.in_text else None

    def late(self, take: Take, data: bytes) -> list[Event] | None:
        """Have images decoded; what there is to say of them so far, where `data` is all that came.

        None: more has been told than can be caught up with. One may have begun, if it has not ended.
        """
        taking = self._taking
        if self._told + len(self.events) == 0:
            self._take = take
            return []
        if self._told + len(self.events) > 1 or taking is None or not self.walk.in_text:
            return None
        events, image = [Event("begun", taking.image)], taking.image
        if image.form == "base64" and take(image):
            found = taking.late(memoryview(data)[image.start :])
            if found is None:
                return None
            events += [Event("piece", image, piece) for piece in found]
        self._take = take
        return events

    # What the walk tells.

    def opened(self, place: Place) -> None:
        """An object that says something of its images."""
        self._frames.append(_Frame(place))

    def closed(self, place: Place) -> None:
        """Its end: what it did not say by now it won't."""
        frame = self._frames.pop()
        if place is EVENT:
            self._root = frame  # the name of the event may follow its data
        else:
            self._settle(frame, "")

    def doubled(self, place: Place) -> None:
        """A member of ours came twice in one object."""
        if place.name not in self.facts.doubled:
            self.facts.doubled.append(place.name)

    def value(self, place: Place, value: object) -> None:
        """A small value."""
        frame, name = self._frames[-1], place.name
        of_item = len(self._frames) > 1
        if name == "url":
            if value is None and frame.null is None:
                frame.null = self.walk.kept_key
                for image, _ in frame.images:
                    image.null = frame.null
        elif name == "error":
            self._error(value, of_item)
        elif name == "finish_reason":
            if isinstance(value, str) and value not in self.facts.finish and len(self.facts.finish) < MOST_REASONS:
                self.facts.finish.append(value)
        elif isinstance(value, dict) if name in USAGES else type(value) in (str, int):
            frame.values.setdefault(name, value)
            if not of_item:
                self._fact(name, value)
            elif name == "status" and value == "failed":
                self._item_failed = True

    def begun(self, place: Place, key: int, quote: int) -> None:
        """A string that may hold an image begins."""
        self._sort = place.take
        image = Image(self.walk.path(), key, quote, index=self.walk.index(), null=self._frames[-1].null)
        image.event = self.event
        self._taking = Taking(image, url=place.take == "url")

    def text(self, data: bytes, at: int, end: int, offset: int, escaped: bool) -> None:
        """Some of it."""
        taking = self._taking
        if taking is None:
            return
        if not taking.known:
            at = taking.know(data, at, end, offset)
            if not taking.known:
                return
            self._begin(taking)
        if at < end:
            self._piece(taking, taking.text(data, at, end, escaped))
        if self.verdict is None and taking.image.plausible:
            self._weigh(taking.image, self._sort, self._frames[-1])

    def ended(self, quote: int) -> None:
        """Its end."""
        taking, self._taking = self._taking, None
        if taking is None:
            return
        if not taking.known:
            if not taking.know_now():
                return  # an empty string is no image
            self._begin(taking)
        self._piece(taking, taking.end(quote))
        self._ended(taking.image)

    # What the scanner tells.

    def dispatched(self, name: str) -> None:
        """An event of a stream is whole."""
        root, self._root = self._root, None
        if root is None:
            return
        self._settle(root, name)
        if name == "error" or root.values.get("type") == "error":
            said: dict[str, Any] = {key: root.values[key] for key in ("code", "message", "param") if key in root.values}
            if said and (self.facts.error is None or self._error_is_of_item):
                self.facts.error, self._error_is_of_item = said, False

    def cut(self, name: str) -> None:
        """The document broke off: what is open is settled as it stands."""
        taking, self._taking = self._taking, None
        if taking is not None and taking.known:
            taking.cut()
            self._ended(taking.image)
        if self._root is not None:
            self._frames.append(self._root)
            self._root = None
        while self._frames:
            self._settle(self._frames.pop(), name)

    def failed(self) -> None:
        """The answer is an error."""
        if self.verdict is None:
            self.verdict = "error"
        if self.facts.error is None:
            self.facts.error = {}

    def conclude(self, *, unknown: bool) -> None:
        """Nothing more will be known: the verdict falls."""
        if self.verdict is None:
            self.verdict = "error" if self._item_failed else "unknown" if unknown else "none"

    # Ours.

    def _fact(self, name: str, value: Any) -> None:
        if name in USAGES or (name in WORDS and isinstance(value, str)):
            setattr(self.facts, name, value)
        if (name == "status" and value == "failed") or (name == "type" and value in FAILED):
            self.verdict = self.verdict or "error"

    def _error(self, value: object, of_item: bool) -> None:
        if not value and not isinstance(value, dict):
            return  # null, false, "": there is none
        if self.facts.error is None or (self._error_is_of_item and not of_item):
            self.facts.error = value if isinstance(value, dict | str) else {}
            self._error_is_of_item = of_item
        if of_item:
            self._item_failed = True
        else:
            self.verdict = self.verdict or "error"

    def _begin(self, taking: Taking) -> None:
        image = taking.image
        self._tell(image, self._sort, self._frames[-1], None)
        self.events.append(Event("begun", image))
        if self._take is not None and image.form == "base64":
            taking.take = self._take(image)
        self._piece(taking, taking.begin())

    def _piece(self, taking: Taking, data: bytes) -> None:
        if data:
            self.events.append(Event("piece", taking.image, data))

    def _ended(self, image: Image) -> None:
        frame = self._frames[-1]
        self.events.append(Event("ended", image))
        self._weigh(image, self._sort, frame)
        frame.images.append((image, self._sort))
        if len(frame.images) > MOST_IN_ONE:
            self._settle_one(*frame.images.pop(0), frame, "")

    def _settle(self, frame: _Frame, name: str) -> None:
        for image, sort in frame.images:
            self._settle_one(image, sort, frame, name)

    def _settle_one(self, image: Image, sort: str, frame: _Frame, name: str) -> None:
        self._tell(image, sort, frame, name)
        if image.kind == "partial":
            self.partials += 1
        elif image.kind == "final" and image.item is not None and image.plausible and image.bad is None:
            self._remember(image.item)
        if image.kind == "final" and image.plausible and image.end >= 0:
            self._count(image.item, frame)
        self._weigh(image, sort, frame)
        self.events.append(Event("settled", image))

    def _remember(self, item: str) -> None:
        if len(self._items) < MOST_ITEMS:
            self._items.add(item)

    def _count(self, item: str | None, frame: _Frame) -> None:
        """One picture more. Whether its bytes could be read takes no part: nobody may have looked."""
        if frame.counted or item in self._counted:
            return
        frame.counted = True
        self.pictures += 1
        if item is not None and len(self._counted) < MOST_ITEMS:
            self._counted.add(item)

    def _tell(self, image: Image, sort: str, frame: _Frame, name: str | None) -> None:
        """Put on the image what is known of it by now."""
        values = frame.values
        item = values.get("id") if sort == "item" else values.get("item_id")
        image.item = item if isinstance(item, str) else None
        if image.index is None:
            image.index = _number(values, "output_index")
        if image.index is None and self._frames:
            image.index = _number(self._frames[0].values, "output_index")  # which stands beside `item`
        image.partial = _number(values, "partial_image_index")
        image.declared = {key: values[key] for key in BESIDE if key in values}
        if image.kind is None:
            image.kind = _kind(sort, values, name, self._items)

    def _weigh(self, image: Image, sort: str, frame: _Frame) -> None:
        """A final image that begins as one does is what decides."""
        if self.verdict is not None or not image.plausible:
            return
        if image.kind in ("final", "repeated") or (
            image.kind is None and sort == "item" and frame.values.get("type") == CALL_TYPE
        ):
            self.verdict = "image"


def _number(values: dict[str, Any], name: str) -> int | None:
    value = values.get(name)
    return value if type(value) is int else None


def _kind(sort: str, values: dict[str, Any], name: str | None, seen: set[str]) -> Kind | None:
    """The kind of an image by what stands beside it; None while that is open, which is until there is a name."""
    if sort in ("final", "url"):
        return "final"
    if sort == "partial":
        return "partial"
    stated = values.get("type")
    if sort == "item":
        if stated != CALL_TYPE:
            return None if stated is None and name is None else "other"
        if "id" not in values and name is None:
            return None
        return "repeated" if values.get("id") in seen else "final"
    if not stated:
        if name is None:
            return None
        stated = name
    if not stated:
        return "partial" if "partial_image_index" in values else "final"
    found = str(stated).rpartition(".")[2]
    return "partial" if found == "partial_image" else "final" if found == "completed" else "other"
