"""What an answer holds, read the plain way: all of it at once, with json.loads and loops. The scanner must agree."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any

CALL = "image_generation_call"
WORDS = ("id", "model", "status", "size", "quality", "output_format")
USAGES = ("usage", "tool_usage", "svg_usage")
# Strict JSON has no control characters in strings; the scanner lets them pass in long ones, and reads no short one.
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
AWAY = {code: 0xF0000 + code for code in range(32)}
BACK = {new: old for old, new in AWAY.items()}
NOT_UTF_8 = re.compile("[\ud800-\udfff]")
UNREAD = re.compile("[\ud800-\udfff\U000f0000-\U000f001f]")


class Object(list[tuple[str, Any]]):
    """A JSON object with its members in order, doubled ones too."""


@dataclass
class Found:
    """One image."""

    path: str
    kind: str | None
    text: str
    item: str | None = None
    partial: int | None = None
    index: int | None = None

    def __post_init__(self) -> None:
        self.text = self.text.translate(BACK)

    @property
    def link(self) -> bool:
        return self.path.endswith(("url",))


@dataclass
class Read:
    """All of an answer."""

    verdict: str | None = None
    pictures: int = 0
    counted: set[str] = field(default_factory=set)
    images: list[Found] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    finish: list[str] = field(default_factory=list)
    error: Any = None
    error_of_item: bool = False
    item_failed: bool = False
    doubled: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    broken: bool = False


def loads(document: bytes) -> Any:
    """The document, as json.loads reads it; invalid UTF-8 and control characters pass, as characters nobody uses."""
    text = document.decode("utf-8", "surrogateescape")
    try:
        return _DECODER.decode(text)
    except ValueError:
        return _DECODER.decode(STRING.sub(lambda found: found[0].translate(AWAY), text))


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits[:300])


_DECODER = json.JSONDecoder(object_pairs_hook=Object, parse_int=_integer)


def plain(value: Any) -> Any:
    """Without Objects: of doubled members the last counts."""
    if isinstance(value, Object):
        return {key: plain(one) for key, one in value}
    return [plain(one) for one in value] if isinstance(value, list) else value


def decoded(text: str) -> bytes | None:
    """The bytes of base64 that can be read in one way only."""
    bare = re.sub(r"[ \t\r\n]", "", text).replace("-", "+").replace("_", "/")
    body = bare.rstrip("=")
    if not re.fullmatch(r"[A-Za-z0-9+/]*", body) or len(body) % 4 == 1:
        return None
    return base64.b64decode(body + "=" * (-len(body) % 4))


def payload(text: str) -> str | None:
    """The base64 of a data: URI; None when it is none."""
    head, comma, rest = text.partition(",")
    words = [word.strip() for word in head[5:].lower().split(";")[1:]]
    return rest if comma and len(head) <= 256 and "base64" in words else None


def plausible(found: Found) -> bool:
    """Whether it begins as a picture does."""
    text = found.text
    if text[:5].lower() == "data:":
        rest = payload(text)
        if rest is None:
            return 0 <= text.find(",") <= 256 and bool(text.partition(",")[2])
        text = rest
    elif found.link:
        return re.match(r"(?i:https?://).|/.", text, re.DOTALL) is not None and not NOT_UTF_8.search(text)
    bare = re.sub(r"[ \t\r\n]", "", text).replace("-", "+").replace("_", "/")
    if len(bare) < 16:
        return bool(decoded(text))
    return re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", bare[:16]) is not None


def document(data: bytes) -> Read:
    """A JSON answer; raises ValueError when it is none."""
    value = loads(data.removeprefix(b"\xef\xbb\xbf"))
    read = Read()
    _answer(value, read, event=False, name="")
    if read.verdict is None:
        read.verdict = "error" if read.item_failed else "none"
    return read


def events(stream: bytes) -> list[tuple[str, str]]:
    """The (name, data) of each event of a stream."""
    found, name, lines = [], "", []
    text = stream.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    for line in [*re.split("\r\n|\n|\r", text), ""]:
        if not line:
            if lines:
                found.append((name, "\n".join(lines)))
            name, lines = "", []
            continue
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "data":
            lines.append(value)
        elif key == "event":
            name = value
    return found


def stream(data: bytes) -> Read:
    """A stream of events, each of which is JSON or [DONE]."""
    read = Read()
    legible = False
    for name, text in events(data):
        if text.startswith("[DONE]"):
            legible = True
            break
        if not text.strip(" \t\r\n"):
            continue
        try:
            value = loads(text.encode("utf-8", "surrogateescape"))
        except ValueError:
            read.broken = True
        else:
            legible = True
            _answer(value, read, event=True, name=name)
        if name == "error":
            read.verdict = read.verdict or "error"
            read.error = {} if read.error is None else read.error
    read.broken = read.broken or not legible
    if read.verdict is None:
        read.verdict = "error" if read.item_failed else "unknown" if read.broken else "none"
    return read


def _answer(value: Any, read: Read, *, event: bool, name: str) -> None:
    if not isinstance(value, Object):
        return
    waiting: list[Found] = []
    values = _first(value)
    sofar: dict[str, Any] = {}
    _doubles(value, read, event)
    for key, one in value:
        if key not in sofar and _small(key, one):
            sofar[key] = one
        _member(key, one, read, "", event=event)
        if not event:
            continue
        if key == "type" and one in ("error", "response.failed"):
            read.verdict = read.verdict or "error"
        elif key in ("b64_json", "partial_image_b64") and isinstance(one, str) and one:
            found = Found(key, "partial" if key[0] == "p" else None, one)
            if key == "b64_json" and "type" in sofar and isinstance(values["type"], str) and values["type"]:
                found.kind = _kind(values["type"], values)
            waiting.append(found)
            read.images.append(found)
            _weigh(found, read)
        elif key == "response" and isinstance(one, Object):
            for inner, two in one:
                if inner not in ("data", "choices"):
                    _member(inner, two, read, "response.", event=False)
        elif key == "item" and isinstance(one, Object):
            _item(one, "item", None, read, sofar.get("output_index"))
    for found in waiting:
        if found.kind is None:
            stated = values.get("type")
            found.kind = _kind(stated or name, values)
        item = values.get("item_id")
        found.item = item if isinstance(item, str) else None
        found.partial = _number(values.get("partial_image_index"))
        found.index = _number(values.get("output_index"))
        if found.kind == "final" and found.item is not None and readable(found):
            read.seen.add(found.item)
        _weigh(found, read)
    _count(waiting, read)
    if event and (name == "error" or values.get("type") == "error"):
        said = {key: values[key] for key in ("code", "message", "param") if key in values}
        if said and (read.error is None or read.error_of_item):
            read.error, read.error_of_item = said, False


def _member(key: str, one: Any, read: Read, before: str, *, event: bool) -> None:
    if key == "error":
        _error(one, read, of_item=False)
    elif key in USAGES and isinstance(one, Object):
        read.facts[key] = plain(one)
    elif key in WORDS and isinstance(one, str):
        read.facts[key] = one
        if key == "status" and one == "failed":
            read.verdict = read.verdict or "error"
    elif key == "data" and isinstance(one, list) and not isinstance(one, Object):
        for at, item in enumerate(one):
            before_it = len(read.images)
            for name, text in item if isinstance(item, Object) else ():
                if name in ("b64_json", "url"):
                    _final(text, f"{before}data[{at}].{name}", at, read)
            _count(read.images[before_it:], read)
    elif key == "output" and isinstance(one, list) and not isinstance(one, Object):
        for at, item in enumerate(one):
            if isinstance(item, Object):
                _item(item, f"{before}output[{at}]", at, read, None)
    elif key == "choices" and isinstance(one, list) and not isinstance(one, Object):
        for at, choice in enumerate(one):
            for name, inner in choice if isinstance(choice, Object) else ():
                if name == "finish_reason" and isinstance(inner, str) and inner not in read.finish:
                    read.finish.append(inner)
                elif name == "error":
                    _error(inner, read, of_item=True)
                elif name in ("message", "delta") and isinstance(inner, Object):
                    _message(inner, f"{before}choices[{at}].{name}", read)


def _message(message: Object, path: str, read: Read) -> None:
    for key, parts in message:
        if key not in ("images", "content") or not isinstance(parts, list) or isinstance(parts, Object):
            continue
        for at, part in enumerate(parts):
            before_it = len(read.images)
            for name, one in part if isinstance(part, Object) else ():
                if name == "image_url":
                    _final(one, f"{path}.{key}[{at}].image_url", at, read)
                    for inner, text in one if isinstance(one, Object) else ():
                        if inner == "url":
                            _final(text, f"{path}.{key}[{at}].image_url.url", at, read)
            _count(read.images[before_it:], read)


def _final(text: Any, path: str, index: int, read: Read) -> None:
    if isinstance(text, str) and text:
        found = Found(path, "final", text, index=index)
        read.images.append(found)
        _weigh(found, read)


def _item(item: Object, path: str, index: int | None, read: Read, outer: Any) -> None:
    values = _first(item)
    sofar: set[str] = set()
    mine = []
    for key, one in item:
        if _small(key, one):
            sofar.add(key)
        if key == "error":
            _error(one, read, of_item=True)
        elif key == "status" and one == "failed":
            read.item_failed = True
        elif key == "result" and isinstance(one, str) and one:
            found = Found(f"{path}.result", None, one, index=index if index is not None else _number(outer))
            read.images.append(found)
            mine.append(found)
            if "type" in sofar and values["type"] == CALL and plausible(found):
                read.verdict = read.verdict or "image"
    for found in mine:
        identity = values.get("id")
        found.item = identity if isinstance(identity, str) else None
        found.kind = "other" if values.get("type") != CALL else "repeated" if identity in read.seen else "final"
    for found in mine:
        if found.kind == "final" and found.item is not None and readable(found):
            read.seen.add(found.item)
        _weigh(found, read)
    _count(mine, read)


def _count(of_one: list[Found], read: Read) -> None:
    """Count the picture of one object, unless it was counted by its id."""
    for found in of_one:
        if found.kind == "final" and plausible(found) and found.item not in read.counted:
            read.pictures += 1
            if found.item is not None:
                read.counted.add(found.item)
            return


def readable(found: Found) -> bool:
    """Whether all of it is a picture that can be read."""
    if not plausible(found):
        return False
    if found.text[:5].lower() != "data:":
        return decoded(found.text) is not None
    text = payload(found.text)
    return text is None or decoded(text) is not None


def _weigh(found: Found, read: Read) -> None:
    if found.kind in ("final", "repeated") and plausible(found):
        read.verdict = read.verdict or "image"


def _error(value: Any, read: Read, *, of_item: bool) -> None:
    if not value and not isinstance(value, Object):
        return
    if read.error is None or (read.error_of_item and not of_item):
        read.error = plain(value) if isinstance(value, Object | str) else {}
        read.error_of_item = of_item
    if of_item:
        read.item_failed = True
    else:
        read.verdict = read.verdict or "error"


def _first(value: Object) -> dict[str, Any]:
    """Of doubled members the first that is a small value."""
    found: dict[str, Any] = {}
    for key, one in value:
        if _small(key, one):
            found.setdefault(key, one)
    return found


def _small(key: str, value: Any) -> bool:
    """Whether it is a word or a number, short enough to be kept, and of characters."""
    if isinstance(value, str):
        return (len(value) < 250 or key == "message") and not UNREAD.search(value)
    return type(value) is int


def _kind(stated: Any, values: dict[str, Any]) -> str:
    if not stated:
        return "partial" if "partial_image_index" in values else "final"
    last = str(stated).rpartition(".")[2]
    return {"partial_image": "partial", "completed": "final"}.get(last, "other")


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def _doubles(value: Object, read: Read, event: bool) -> None:
    names = [key for key, _ in value]
    known = {*WORDS, *USAGES, "error", "data", "output", "choices"}
    if event:
        known |= {"type", "item_id", "output_index", "partial_image_index", "code", "param", "message"}
        known |= {"b64_json", "partial_image_b64", "item", "response"}
    read.doubled |= {key for key in names if key in known and names.count(key) > 1}
