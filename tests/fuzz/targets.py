"""What holds for any bytes at all: the targets of `make fuzz`. The first bytes of each say how the rest is sent."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import Coroutine
from functools import cache
from itertools import pairwise
from typing import Any, Literal, NoReturn, TypeVar

import orjson
from aiohttp import MultipartReader, StreamReader
from aiohttp.base_protocol import BaseProtocol

from proxy.api import Operation, Rejected, Request, operation, parts, with_field, without_field
from proxy.openai.operation import LIMIT
from proxy.openai.scan_meaning import MOST_IN_ONE

from ..openai.agreement import compare
from ..openai.asking import LONG, MARK, Pieces, ask, whole
from ..openai.stretches import holder, one_stretch, paths

T = TypeVar("T")

JSON, FORM = "application/json", "multipart/form-data; boundary=B"
WAYS = (
    ("/v1/images/generations", JSON),
    ("/v1/images/edits", JSON),
    ("/v1/chat/completions", JSON),
    ("/v1/responses", JSON),
    ("/v1/moderations", JSON),
    ("/v1/somewhere/else", JSON),
    ("/v1/images/edits", FORM),
    ("/v1/audio/transcriptions", FORM),
)
SIZES = (1, 3, 17, 1000)
VALUES = ("b", 'ü"\\', None, 2, [1, {"a": []}])
FEW = 200  # bytes that may be looked at, where it is not as many as by default
DRAWING = ("/v1/images/generations", "/v1/images/edits")
# Members that may hold a picture; one with escapes may be any.
_PICTURES = re.compile(rb'"(?:b64_json|partial_image_b64|result|(?:image_)?url|[^"]*\\\\[^"]*)"\s*:')


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on the one loop: making another for each input would be most of the time."""
    return _loop().run_until_complete(work)


def close() -> None:
    """Close the loop, if there is one."""
    if _loop.cache_info().currsize:
        _loop().close()
        _loop.cache_clear()


def scanner(data: bytes) -> None:
    """The scanner reads what a plain parser reads, and the same however it is cut."""
    how, at, data = data[:1], data[1:4], data[4:]
    kind: Literal["json", "sse"] = "sse" if how and how[0] & 1 else "json"
    if len(_PICTURES.findall(data)) > MOST_IN_ONE:
        return  # so many in one object are settled before its end
    places = sorted({0, len(data), *(one * len(data) // 255 for one in at)})
    compare(kind, data, [data[one:two] for one, two in pairwise(places)], small=False, untaken=True)


def asking(data: bytes) -> None:
    """What is asked is said or refused; the same in pieces; and nobody who reads it plainly reads anything else."""
    how, size, data = data[:1], data[1:2], data[2:].replace(MARK, LONG[23:].encode())
    target, kind = WAYS[how[0] % len(WAYS)] if how else WAYS[0]
    limit = FEW if how and how[0] > 127 else LIMIT
    found = run(_told(ask(data, target, kind), limit))
    body = Pieces(data, (SIZES[size[0] % len(SIZES)] if size else 7) if len(data) < 10_000 else 1000)
    again = run(_told(ask(body, target, kind), limit))
    if isinstance(found, Rejected) or isinstance(again, Rejected):
        assert isinstance(found, Rejected) and isinstance(again, Rejected), (found, again)
        assert (found.status, found.param) == (again.status, again.param)
        return
    # Long base64 is left where it stands in a body that comes in pieces, and read out of one that is here.
    assert _gist(found) == _gist(again)
    if body.kept is not None:
        assert run(whole(body.kept)) == data
        run(body.aclose())
    if any(not one.path for one in found.unseen):
        assert limit == FEW and len(data) > FEW  # the body is too large to be looked at
    elif kind == JSON and data:
        _says(found, target, _plainly(data))
    elif data:
        read = run(_reference(data))
        if read is not None:
            _says(found, target, {name: value.decode() for name, file, value in read if not file and _is_text(value)})


def multipart(data: bytes) -> None:
    """A form is read the same however it is cut, as another reader reads it, and said to stand where it stands."""
    size, data = data[:1], data[1:]
    found = run(_parts(ask(data, WAYS[6][0], FORM), data))
    again = run(_parts(ask(Pieces(data, 1 + (size[0] if size else 0)), WAYS[6][0], FORM), data))
    if isinstance(found, Rejected) or isinstance(again, Rejected):
        assert str(found) == str(again)
        return
    assert found == again
    read = run(_reference(data))
    if read is not None:
        assert [(name, value) for name, _, value in found] == [(name, value) for name, _, value in read]


def rewriting(data: bytes) -> None:
    """One field of a document is changed, or taken away, and no byte around it."""
    which, what, size, data = data[:1], data[1:2], data[2:3], data[3:].replace(MARK, LONG[23:].encode())
    value = VALUES[what[0] % len(VALUES)] if what else "b"
    if not data:
        return  # then it is a parameter of the query
    if data[:2] == b"--":
        _rewrite_form(data, which, str(value).encode())
        return
    try:
        document = _plainly(data)
    except (ValueError, RecursionError):
        document = None
    every = paths(document)
    path = every[which[0] % len(every)] if every and which else ("model",)
    body = Pieces(data, SIZES[size[0] % len(SIZES)] if len(data) < 10_000 else 1000) if size and size[0] else data
    request = ask(body)
    try:
        set_to = run(_body(with_field(request, path, value)))
        without = run(_body(without_field(request, path)))
    except Rejected:
        return
    except ValueError:  # nothing could hold it
        assert not every
        return
    finally:
        run(request.body.aclose())
    assert _plainly(set_to) == _changed(document, path, value)
    assert one_stretch(data, set_to, orjson.dumps(value)) or not every
    assert _plainly(without) == _changed(document, path)
    assert one_stretch(data, without, b"")


TARGETS = {"scanner": scanner, "operation": asking, "multipart": multipart, "rewrite": rewriting}


async def _told(request: Request, limit: int) -> Operation | Rejected:
    try:
        return await operation(request, limit=limit)
    except Rejected as error:  # BodyTooLarge, too
        return error
    finally:
        if request.body.kept is None:
            await request.body.aclose()


def _gist(found: Operation) -> list[Any]:
    said = [getattr(found, name) for name in ("kind", "model", "n", "size", "quality", "stream", "user", "paid")]
    places = [(image.path, image.source, image.media_type) for image in found.images]
    return [*said, [text for text in found.texts if len(text.text) < 4000], places, found.tools]


def _says(found: Operation, target: str, document: Any) -> None:
    """What was found is what a plain reading shows."""
    if type(document) is not dict:
        assert target == "/v1/somewhere/else"
        return
    get = document.get
    assert found.model == get("model")
    texts = {text.text for text in found.texts}
    hidden = {one.path for one in found.unseen}
    if target in DRAWING:
        assert found.n == (1 if get("n") is None else int(get("n")))
        assert (found.size, found.quality) == (get("size"), get("quality"))
        assert not get("prompt") or get("prompt") in texts or "prompt" in hidden
    assert str(found.stream).lower() == str(get("stream") or False).lower()
    for message in get("messages") or () if type(get("messages")) is list else ():
        said = message.get("content") if type(message) is dict else None
        assert type(said) is not str or not said or said in texts or any("content" in path for path in hidden)
    for name in ("input", "instructions"):
        if type(get(name)) is str and get(name) and target == "/v1/responses":
            assert get(name) in texts or name in hidden


def _plainly(data: bytes) -> Any:
    """The document; raises ValueError for what a strict and simple reader does not read."""
    return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_never)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _never(word: str) -> NoReturn:
    raise ValueError(word)


def _changed(document: Any, path: tuple[str | int, ...], *value: Any) -> Any:
    made = copy.deepcopy(document)
    held = holder(made, path)
    if value:
        held[path[-1]] = value[0]
    elif type(held) is list or path[-1] in held:
        del held[path[-1]]
    return made


async def _body(changing: Coroutine[Any, Any, Request]) -> bytes:
    changed = await changing
    data = await whole(changed.body)
    assert changed.body.length in (None, len(data))
    return data


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


Found = list[tuple[str, bool, bytes]]


async def _parts(request: Request, data: bytes) -> Found | Rejected:
    found: Found = []
    try:
        async for part in parts(request.body, FORM):
            value = await part.body.read(2**20)
            assert data[part.data : part.end] == value and data[part.start :].startswith(b"--B\r\n" + part.raw)
            found.append((part.name, part.filename is not None, value))
    except Rejected as error:
        return error
    return found


async def _reference(body: bytes) -> Found | None:
    """What aiohttp's reader finds, which shares nothing with ours; None for what it does not read."""
    stream = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**20)
    stream.feed_data(body)
    stream.feed_eof()
    found: Found = []
    reader = MultipartReader({"Content-Type": FORM}, stream)  # type: ignore[arg-type]
    try:
        while (part := await reader.next()) is not None:
            assert not isinstance(part, MultipartReader)
            value = bytes(await part.read(decode=False))
            found.append((part.name or "", part.filename is not None, value))
    except Exception:  # whatever it raises, it does not read this
        return None
    return found


def _rewrite_form(data: bytes, which: bytes, value: bytes) -> None:
    found = run(_parts(ask(data, WAYS[6][0], FORM), data))
    if isinstance(found, Rejected) or not found:
        return
    names = [name for name, _, _ in found]
    name = names[which[0] % len(names)] if which else "model"
    if names.count(name) > 1:
        return
    request = ask(data, WAYS[6][0], FORM)
    after = run(_body(with_field(request, name, value)))
    again = run(_parts(ask(after, WAYS[6][0], FORM), after))
    assert not isinstance(again, Rejected)
    expected = [(one, value if one == name else held) for one, _, held in found]
    assert [(one, held) for one, _, held in again] == (expected if name in names else [(name, value), *expected])
    assert name not in names or one_stretch(data, after, value)
    after = run(_body(without_field(request, name)))
    again = run(_parts(ask(after, WAYS[6][0], FORM), after))
    assert not isinstance(again, Rejected)
    assert [(one, held) for one, _, held in again] == [(one, held) for one, _, held in found if one != name]
