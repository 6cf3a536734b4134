"""The control port: faults told beforehand, and what was asked of the sandbox, for whoever is in another process."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from .faults import FINE, TABLE
from .house import HOUSE, House
from .record import Record

_KNOWN = frozenset(["fault", "sequence", "times", "match", "model"])
_MOST = 1000  # records in one answer


def build(house: House) -> web.Application:
    """The control port's own application."""
    app = web.Application()
    app[HOUSE] = house
    app.router.add_get("/", _index)
    app.router.add_post("/faults", _tell)
    app.router.add_delete("/faults", _forget)
    app.router.add_get("/requests", _requests)
    app.router.add_delete("/requests", _clear)
    app.router.add_get("/counters", _counters)
    return app


async def _index(request: web.Request) -> web.Response:
    """What faults there are."""
    return _json({"faults": [told(fault.name) for fault in TABLE]})


def told(name: str) -> dict[str, Any]:
    """One row of the table."""
    fault = next(fault for fault in TABLE if fault.name == name)
    argument = None if fault.argument is None else fault.argument.words
    return {"name": name, "sentence": fault.sentence, "billed": fault.billed, "argument": argument}


async def _tell(request: web.Request) -> web.Response:
    try:
        body = orjson.loads(await request.read())
        if not isinstance(body, dict):
            raise ValueError("a JSON object is expected")
        unknown = sorted(set(body) - _KNOWN)
        if unknown:
            raise ValueError(f"no such field: '{unknown[0]}'; there are {', '.join(sorted(_KNOWN))}")
        row = body.get("sequence", [body["fault"]] if "fault" in body else [])
        if ("fault" in body) == ("sequence" in body) or not _texts(row):
            raise ValueError(f'either "fault" (a name) or "sequence" (a list of names, or "{FINE}") is needed')
        for name in ("match", "model"):
            if not isinstance(body.get(name), str | None):
                raise ValueError(f"{name} is a text or null")
        request.app[HOUSE].script.tell(
            row, times=body.get("times", 1), match=body.get("match"), model=body.get("model")
        )
    except ValueError as exc:
        return _json({"error": str(exc)}, 400)
    return _json({"told": row}, 201)


async def _forget(request: web.Request) -> web.Response:
    request.app[HOUSE].script.clear()
    return web.Response(status=204)


async def _requests(request: web.Request) -> web.Response:
    records = list(request.app[HOUSE].ledger.records)[-_MOST:]
    return _json({"requests": [Record.told(record) for record in records]})


async def _clear(request: web.Request) -> web.Response:
    request.app[HOUSE].ledger.clear()
    return web.Response(status=204)


async def _counters(request: web.Request) -> web.Response:
    return _json(request.app[HOUSE].ledger.counters.told())


def _texts(row: object) -> bool:
    return isinstance(row, list) and bool(row) and all(isinstance(name, str) for name in row)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
