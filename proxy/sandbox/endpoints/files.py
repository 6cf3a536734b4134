"""/v1/files: uploads kept in memory while the sandbox runs."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

from aiohttp import BodyPartReader, web

from .. import field
from ..answer import Answer, Route, told
from ..refusal import Refusal
from ..stored import STORED, Stored

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
# OpenAI gives these back to models only, never to callers.
_NOT_FOR_DOWNLOAD = frozenset({"assistants", "user_data"})
_FIELDS = frozenset({"purpose", "expires_after[anchor]", "expires_after[seconds]"})
_LONGEST_FIELD = 1024
_SOONEST, _LATEST = 3600, 2592000  # seconds until a file expires
_MOST_A_PAGE = 10_000
_NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)


async def create(request: web.Request) -> Answer:
    """Keeps a file."""
    stored = request.app[STORED]
    if request.content_type != "multipart/form-data":
        raise Refusal(f"Invalid Content-Type header ({request.content_type}), expected multipart/form-data.")
    try:
        fields, name, content = await _upload(request, stored)
    except (ValueError, web.RequestPayloadError) as exc:  # no boundary, or parts that aren't any
        raise Refusal("We could not parse the multipart form of your request.") from exc
    if content is None:
        raise field.missing("file")
    if "purpose" not in fields:
        raise field.missing("purpose")
    purpose = field.choice(fields, "purpose", _PURPOSES, default="")
    now = int(time.time())
    said: dict[str, Any] = {
        "id": f"file-{uuid.uuid4().hex}",
        "object": "file",
        "bytes": len(content),
        "created_at": now,
        "expires_at": _expiry(fields, now),
        "filename": name,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
    stored.files[said["id"]] = said, content
    return told(said)


async def _upload(request: web.Request, stored: Stored) -> tuple[dict[str, str], str, bytes | None]:
    """The form's fields, the file's name and its content, no more of it held than there is room for."""
    stored.expire()
    fields: dict[str, str] = {}
    name, content = "", None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise ValueError("a part without a name")
        if part.name == "file":
            name = part.filename or "upload"
            content = await _read(part, stored.room())
        elif part.name in _FIELDS:
            fields[part.name] = (await _read(part, _LONGEST_FIELD)).decode("utf-8", "replace")
        else:
            raise field.unknown(part.name)
    return fields, name, content


async def _read(part: BodyPartReader, most: int) -> bytes:
    found = bytearray()
    while piece := await part.read_chunk(2**16):
        found += piece
        if len(found) > most:
            message = (
                f"The sandbox has room for {most} more bytes of '{part.name}', and there were more; delete files first."
            )
            raise Refusal(message, param=part.name, code="file_too_large", status=413)
    return bytes(found)


def _expiry(fields: dict[str, str], now: int) -> int | None:
    if "expires_after[seconds]" not in fields and "expires_after[anchor]" not in fields:
        return None
    if field.text(fields, "expires_after[anchor]") is None:
        raise field.missing("expires_after[anchor]")
    field.choice(fields, "expires_after[anchor]", ("created_at",), default="")
    seconds = field.text(fields, "expires_after[seconds]", "") or ""
    if not _NUMBER.fullmatch(seconds):
        raise field.wrong_type("expires_after[seconds]", "an integer", seconds)
    name = "expires_after[seconds]"
    return now + field.whole({name: int(seconds)}, name, _SOONEST, _LATEST, default=_LATEST)


async def listing(request: web.Request) -> Answer:
    """The files, newest first, a page at a time."""
    stored = request.app[STORED]
    stored.expire()
    found = [said for said, _ in stored.files.values()]
    return told(page(request, found, _MOST_A_PAGE, _MOST_A_PAGE, purpose=request.query.get("purpose")))


def page(
    request: web.Request, found: list[dict[str, Any]], usual: int, most: int, *, purpose: str | None = None
) -> dict[str, Any]:
    """One page of a list that is given in the order in which it grew."""
    limit = request.query.get("limit", str(usual))
    if not _NUMBER.fullmatch(limit):
        raise field.wrong_type("limit", "an integer", limit)
    count = field.whole({"limit": int(limit)}, "limit", 1, most, default=usual)
    order = field.choice(dict(request.query), "order", ("asc", "desc"), default="desc")
    if purpose is not None:
        found = [one for one in found if one["purpose"] == purpose]
    if order == "desc":
        found = found[::-1]
    after = request.query.get("after")
    if after is not None:
        at = next((at for at, one in enumerate(found) if one["id"] == after), None)
        if at is None:
            raise Refusal(f"Invalid 'after': there is no '{after}' in this list.", param="after", code="invalid_value")
        found = found[at + 1 :]
    shown = found[:count]
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    return {"object": "list", "data": shown, "has_more": len(found) > count, **ends}


async def one(request: web.Request) -> Answer:
    """What is known of a file."""
    said, _ = _file(request)
    return told(said)


async def content(request: web.Request) -> Answer:
    """The bytes as they were uploaded."""
    said, data = _file(request)
    if said["purpose"] in _NOT_FOR_DOWNLOAD:
        raise Refusal(f"Not allowed to download files of purpose: {said['purpose']}")
    return Answer(data, content_type="application/octet-stream")


async def delete(request: web.Request) -> Answer:
    """Forgets a file."""
    said, _ = _file(request)
    del request.app[STORED].files[said["id"]]
    return told({"id": said["id"], "object": "file", "deleted": True})


def _file(request: web.Request) -> tuple[dict[str, Any], bytes]:
    name = request.match_info["file"]
    found = request.app[STORED].file(name)
    if found is None:
        raise Refusal(f"No such File object: {name}", param="id", status=404)
    return found


ROUTES: tuple[Route, ...] = (
    ("POST", "/v1/files", create),
    ("GET", "/v1/files", listing),
    ("GET", "/v1/files/{file}", one),
    ("DELETE", "/v1/files/{file}", delete),
    ("GET", "/v1/files/{file}/content", content),
)
