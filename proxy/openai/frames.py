"""What a client says on a socket, of Realtime or of Responses: what of it a model reads, message by message.

As in requests, what is not known to be mere setting is text.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

import orjson

from ..model.body import Bytes
from ..model.errors import ProxyError, Rejected
from .operation import LIMIT
from .operation_body import gather
from .operation_texts import EARLIER, Image, Text, Texts, Unseen

# Of the message itself: which it is, and what it is about. No model reads them.
ENVELOPE = frozenset(("type", "event_id", "item_id", "previous_item_id", "response_id", "stream_id"))
PARTS = ("session", "response")  # of Realtime's messages, with fields as requests have them
# Strings among those fields that say how, not what, beside those of requests.
FORMATS = ("input_audio_format", "output_audio_format")
HOW = frozenset(("type", "id", "object", "tracing", "max_output_tokens", "max_response_output_tokens", *FORMATS))
LISTS = frozenset(("output_modalities", "modalities", "include"))
HEARING = ("audio", "turn_detection", "input_audio_transcription")  # how speech is heard and spoken
HOW_HEARD = frozenset(("type", "language", "voice", "eagerness", "delay", "format"))
HERE = ("auto", "none")  # of conversations: that of this socket, or none


class Said(NamedTuple):
    """What a model will read of one message; `images` stand in the message as those of a request in its body."""

    texts: tuple[Text, ...] = ()
    images: tuple[Image, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    id: str | None = None  # by which an error names the message
    lane: str | None = None  # of several conversations on one socket of Responses
    after: str | None = None  # the response that is to be gone on from: `unseen`, unless it came on the same socket


async def said(data: bytes, kind: str) -> Said:
    """What a text message of a client's says, on a socket of that kind ("realtime", else Responses).

    Raises Rejected for what its readers could read differently.
    """
    reading = await gather(Bytes(data), LIMIT)
    if reading is None:
        return Said(unseen=(Unseen("", f"a message: it is larger than {LIMIT} bytes"),))
    event = reading.value
    if type(event) is not dict:
        raise Rejected("A message on this socket is a JSON object.")
    texts = Texts(reading.nonce, reading.holes)
    fields = {key: value for key, value in event.items() if key not in ENVELOPE or type(value) is not str}
    if kind == "realtime":
        for part in PARTS:
            if type(fields.get(part)) is dict:
                _session(fields.pop(part), part, texts)
    texts.fields(fields)
    unseen = texts.unseen
    if kind == "realtime":  # what it can refer to came on this socket, and was looked at then
        unseen = [one for one in unseen if one.what != EARLIER]
    after = event.get("previous_response_id")
    return Said(
        tuple(texts.texts),
        tuple(texts.images),
        tuple(unseen),
        _name(event.get("event_id")),
        _name(event.get("stream_id")),
        after if type(after) is str else None,
    )


def responded(data: bytes) -> str | None:
    """The id of the response that a message of an upstream's on a socket of Responses says it has begun."""
    if b'"response.created"' not in data[:256]:
        return None
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    response = event.get("response") if type(event) is dict and event.get("type") == "response.created" else None
    return _name(response.get("id")) if type(response) is dict else None


def refused(error: ProxyError, kind: str, said: Said | None = None) -> bytes:
    """The message that tells a client of an error, as that sort of socket has it; the socket goes on."""
    told: dict[str, Any] = {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
    told |= error.more
    if kind == "realtime":
        told["event_id"] = said.id if said is not None else None
        return orjson.dumps({"type": "error", "event_id": f"event_{secrets.token_hex(10)}", "error": told})
    lane = {"stream_id": said.lane} if said is not None and said.lane is not None else {}
    return orjson.dumps({"type": "error", "status": error.status, "error": told, **lane})


def _session(fields: dict[str, Any], part: str, texts: Texts) -> None:
    """A session, or a response: its fields, without what only Realtime knows for settings."""
    for key, value in fields.items():
        kind = type(value)
        if kind is str and (key in HOW or (key == "conversation" and value in HERE)):
            continue
        if kind is list and key in LISTS and all(type(one) is str for one in value):
            continue
        if kind is dict and key == "tracing":  # for a page of upstream's, not for a model
            continue
        if kind is dict and key in HEARING:
            texts.fields(_bare(value), under=f"{part}.{key}.")
        else:
            texts.fields({key: value}, under=f"{part}.")


def _bare(value: Any) -> Any:
    """The same without the strings that say how speech is heard and spoken."""
    if type(value) is dict:
        return {key: _bare(one) for key, one in value.items() if not (key in HOW_HEARD and type(one) is str)}
    return value


def _name(value: Any) -> str | None:
    """A short string of the other side's that is given back to it."""
    return value if type(value) is str and len(value) <= 512 else None
