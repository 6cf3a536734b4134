"""What clients really send: recorded requests, and what each asks (see record.py)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.api import Operation, Request, operation

from .asking import LONG, MARK, RECORDED, Pieces, ask, whole

LINES = [orjson.loads(line) for line in RECORDED.read_bytes().splitlines()]
NAMES = [f"{number}-{line['by']}-{line['target']}" for number, line in enumerate(LINES)]
DEFAULTS: dict[str, Any] = {
    "capability": "other",
    "paid": False,
    "model": None,
    "n": 1,
    "size": None,
    "quality": None,
    "background": None,
    "output_format": None,
    "response_format": None,
    "stream": False,
    "user": None,
    "safety_identifier": None,
    "texts": [],
    "images": [],
    "tools": [],
    "unseen": [],
}


def recorded(line: dict[str, Any]) -> bytes:
    return line["body"].encode("latin-1").replace(MARK, LONG[23:].encode())  # type: ignore[no-any-return]


def told(found: Operation, body: bytes) -> dict[str, Any]:
    """An operation as the file writes it; what stands in the body is read from there."""
    plain = {name: getattr(found, name) for name in ("kind", *DEFAULTS)}
    plain["texts"] = [list(text) for text in found.texts]
    plain["tools"] = [[part for part in tool if part is not None] for tool in found.tools]
    plain["unseen"] = [list(one) for one in found.unseen]
    plain["images"] = [
        [*image[:4], *([body[image.start :][: image.length].decode("latin-1")] if image.start >= 0 else [])]
        for image in found.images
    ]
    return plain


def expected(line: dict[str, Any]) -> dict[str, Any]:
    said = orjson.loads(orjson.dumps(line["expected"]).replace(MARK, LONG[23:].encode()))
    return {**DEFAULTS, **said}


def made(line: dict[str, Any], *, pieces: int = 0) -> Request:
    body = recorded(line)
    return ask(Pieces(body, pieces) if pieces else body, line["target"], line["type"], method=line["method"])


def test_there_are_enough() -> None:
    assert len(LINES) >= 150


@pytest.mark.parametrize("line", LINES, ids=NAMES)
async def test_reads_what_clients_send(line: dict[str, Any]) -> None:
    request = made(line)
    assert told(await operation(request), recorded(line)) == expected(line)
    assert await whole(request.body) == recorded(line)


@pytest.mark.parametrize("pieces", [1000])
@pytest.mark.parametrize("line", LINES, ids=NAMES)
async def test_reads_the_same_as_it_comes_and_can_forward_it(line: dict[str, Any], pieces: int) -> None:
    request = made(line, pieces=pieces)
    assert told(await operation(request), recorded(line)) == expected(line)
    if request.body.kept is not None:
        assert await whole(request.body.kept) == recorded(line)
        await request.body.aclose()
