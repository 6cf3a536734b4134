"""What an answer says of its failure, gathered from every form in which services say such things."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from .scan import Scanner

Shape = Literal["error", "json", "html", "text", "empty"]
"""`error`: JSON in which a service tells of an error; `json`: any other; `html`: XML too."""

MOST = 64 * 1024  # bytes of a body that are looked at; errors are short, and what comes behind is none
MOST_TEXT = 4096  # characters of a message
MOST_WORD = 200
MOST_ITEMS = 16  # of a list
FAILED = frozenset(
    ("failed", "fail", "error", "canceled", "cancelled", "aborted", "request moderated", "content moderated")
)
TELLING = frozenset(  # members of an error
    ("code", "type", "status", "message", "msg", "details", "errors", "retry_after", "innererror", "inner_error")
)
LEGIBLE = (b"{", b"[")


@dataclass(slots=True)
class Said:
    """What an answer says; words, finish and text are in lower case."""

    shape: Shape = "empty"
    status: int | None = None  # that the body itself names
    code: str | None = None  # the first, as it is written
    type: str | None = None
    words: list[str] = field(default_factory=list)  # all names that the error has for itself
    finish: list[str] = field(default_factory=list)  # why a 200 ended: finish reasons, blocks, flags
    text: str = ""
    wait: float | str | None = None  # before asking again

    def word(self, value: object, *, type: bool = False) -> None:
        """A code or a type of the error."""
        if not isinstance(value, str):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**6:
                return
            value = str(value)
        if not 0 < len(value) <= MOST_WORD:
            return
        if type:
            self.type = self.type or value
        else:
            self.code = self.code or value
        self.words.append(value.casefold())

    def say(self, value: object) -> None:
        """Some text that it has for people."""
        if isinstance(value, str) and value and len(self.text) < MOST_TEXT:
            self.text = f"{self.text}\n{value[:MOST_TEXT].casefold()}" if self.text else value[:MOST_TEXT].casefold()

    def end(self, value: object) -> None:
        """Why it ended."""
        if isinstance(value, str) and 0 < len(value) <= MOST_WORD:
            self.finish.append(value.casefold())


def of_body(body: bytes, encoding: str | None, *, ok: bool) -> Said:
    """What those bytes say. `ok`: the status says that all is well, so only what is clearly an error is one."""
    said = Said()
    if encoding is not None:
        body = _inflated(body, encoding)
    text = body[:MOST].lstrip(b"\xef\xbb\xbf \t\r\n")  # some services send blanks to keep the connection alive
    if not text:
        return said
    if text.startswith(b"<"):
        said.shape = "html"
    elif text.startswith(LEGIBLE):
        said.shape = "json"
        try:
            document = orjson.loads(text)
        except ValueError:
            document = _seen(text)
        if document is not None:
            _document(said, document, ok=ok)
            return said
    else:
        said.shape = "text"
    said.say(text[:MOST_TEXT].decode("utf-8", "replace"))
    return said


def of_document(document: object, *, ok: bool) -> Said:
    """What a document says that somebody else has read: a body, an event, a task."""
    said = Said("json")
    _document(said, document, ok=ok)
    return said


def of_error(error: object) -> Said:
    """What the error says that was found in an answer."""
    said = Said("error")
    _error(said, error)
    return said


def _inflated(body: bytes, encoding: str) -> bytes:
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    for bits in (47, -15):  # gzip or zlib by its head; deflate as some servers misread it
        try:
            return zlib.decompressobj(bits).decompress(body, MOST)
        except zlib.error:
            continue
    return body


def _seen(text: bytes) -> dict[str, Any] | None:
    """The error of a document that is cut or broken, when it stands in the readable part."""
    scanner = Scanner("json")
    scanner.feed(text)
    error = scanner.facts.error
    return {"error": error} if error else None


def _document(said: Said, document: object, *, ok: bool) -> None:
    if isinstance(document, list):  # Google wraps what it streams
        document = next((item for item in document[:MOST_ITEMS] if isinstance(item, dict)), None)
    if not isinstance(document, Mapping) or document.get("cloudflare_error") is True:  # its own, in the service's place
        return
    error = document.get("error")
    if not ok and type(error) is dict and error:  # nearly all of them
        said.shape = "error"
        _error(said, error)
        if said.wait is None:
            said.wait = document.get("retry_after")
        return
    _finish(said, document)
    told = error or _envelope(document) or _task(document)
    if told or (not ok and (document.get("detail") or document.get("errors") or _coded(document))):
        said.shape = "error"
    for name in ("response", "data"):  # an event of the Responses API; a task
        inner = document.get(name)
        if isinstance(inner, Mapping) and (inner.get("error") or _task(inner)):
            said.shape = "error"
            _top(said, inner)
    if said.shape == "error":
        _top(said, document)


def _envelope(document: Mapping[str, Any]) -> bool:
    """Whether it is `{"code": 429, "msg": "..."}`, or an event that says it is an error."""
    if document.get("type") in ("error", "response.failed"):
        return True
    code = document.get("code")
    return (_number(code) or 0) >= 300 and _has_text(document)


def _task(document: Mapping[str, Any]) -> bool:
    """Whether it is a task, and failed."""
    return any(
        isinstance(value, str) and value.casefold() in FAILED
        for value in (document.get("status"), document.get("state"))
    )


def _coded(document: Mapping[str, Any]) -> bool:
    """Whether it is `{"code": "Throttling", "message": "..."}` or the like. A message alone may be a gateway's."""
    named = any(isinstance(document.get(key), str) and document[key] for key in ("code", "name", "title", "error_type"))
    return named and (_has_text(document) or isinstance(document.get("status"), int))


def _has_text(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("message"), str) or isinstance(document.get("msg"), str)


def _top(said: Said, document: Mapping[str, Any]) -> None:
    """The members beside or in place of `error`."""
    _error(said, document.get("error"))
    for key in ("error_type", "code", "name", "failCode"):
        said.word(document.get(key))
    for key in ("status", "state"):
        value = document.get(key)
        if isinstance(value, str) and value.casefold() in FAILED:
            said.words.append(value.casefold())
    if said.status is None:
        said.status = _number(document.get("code")) or _number(document.get("status"))
    for key in ("message", "msg", "title", "error_message", "failMsg"):
        said.say(document.get(key))
    for key in ("detail", "errors"):
        _detail(said, document.get(key))
    if said.wait is None:
        said.wait = document.get("retry_after")


def _error(said: Said, error: object) -> None:
    if isinstance(error, str):
        said.word(error)  # BFL says a code here, Replicate a sentence
        said.say(error)
    if not isinstance(error, Mapping):
        return
    for key in error:  # it has four members or five; asking for all that there might be takes longer
        if key in TELLING:
            value = error[key]
            if value is None:
                continue
            if key == "message" or key == "msg":
                said.say(value)
            elif key == "type":
                said.word(value, type=True)
            elif key == "code" or key == "status":
                said.status = said.status or _number(value)
                said.word(value)
            elif key == "details" or key == "errors":
                _detail(said, value)
            elif key == "retry_after":
                said.wait = value
            elif isinstance(value, Mapping):  # Azure's finer code
                said.word(value.get("code"))


def _detail(said: Said, detail: object) -> None:
    """FastAPI's and fal's list, Google's details, or a sentence. What was asked stands there too, and is left there."""
    if isinstance(detail, str):
        said.say(detail)
    for item in detail[:MOST_ITEMS] if isinstance(detail, list) else [detail]:
        if isinstance(item, str) and item is not detail:
            said.say(item)
        elif isinstance(item, Mapping):
            for key in ("code", "reason", "status"):
                said.word(item.get(key))
            said.word(item.get("type"), type=True)
            for key in ("msg", "message"):
                said.say(item.get(key))
            delay = item.get("retryDelay")
            if said.wait is None and isinstance(delay, str):
                said.wait = delay.removesuffix("s")
            violations = item.get("violations")
            for violation in violations[:MOST_ITEMS] if isinstance(violations, list) else ():
                if isinstance(violation, Mapping):
                    said.word(violation.get("quotaId"))


def _finish(said: Said, document: Mapping[str, Any]) -> None:
    """Reasons for which an answer has ended, in the forms of chat, Responses, Gemini and picture services."""
    for key in ("finish_reason", "finishReason"):
        said.end(document.get(key))
    inner = document.get("response")
    for whole in (document, inner if isinstance(inner, Mapping) else {}):
        incomplete = whole.get("incomplete_details")
        if isinstance(incomplete, Mapping):
            said.end(incomplete.get("reason"))
    feedback = document.get("promptFeedback")
    if isinstance(feedback, Mapping) and feedback.get("blockReason"):
        said.end("blocked")
        said.end(feedback["blockReason"])
    for item in _items(document, "choices") + _items(document, "candidates"):
        said.end(item.get("finish_reason"))
        said.end(item.get("finishReason"))
        message = item.get("message")
        if isinstance(message, Mapping) and message.get("refusal"):
            said.end("refusal")
    for item in _items(document, "output"):
        if any(part.get("type") == "refusal" for part in _items(item, "content")):
            said.end("refusal")
    pictures = _items(document, "data")
    if pictures and all(item.get("is_image_safe") is False for item in pictures):
        said.end("is_image_safe")
    flags = document.get("has_nsfw_concepts")
    if isinstance(flags, list) and flags and all(flag is True for flag in flags):
        said.end("has_nsfw_concepts")


def _items(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    items = document.get(key)
    return [item for item in items[:MOST_ITEMS] if isinstance(item, Mapping)] if isinstance(items, list) else []


def _number(value: object) -> int | None:
    """A status that a body names, as a number or as text."""
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599 else None
