"""Structured logs: one line an exchange tells its whole story. Never a secret, a prompt or base64."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import MutableMapping
from typing import Any, BinaryIO, Literal

import orjson

from ..core.chain import own_times
from ..model.exchange import Attempt, Exchange, Outcome
from ..model.slots import STOPPED
from .lean import structlog

LONGEST_PATH = 256  # characters of a path that are logged; ids are short, junk is long
Event = MutableMapping[str, Any]


class Lines:
    """Writes one line at a time and survives a full disk: a lost line must not cost a request."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def msg(self, line: bytes | str) -> None:
        """Write a line."""
        raw = line.encode("utf-8", "backslashreplace") if isinstance(line, str) else line
        try:
            with self._lock:
                self._file.write(raw + b"\n")
                self._file.flush()
        except (OSError, ValueError):
            pass

    debug = info = warning = error = critical = exception = msg


def make(format: Literal["json", "text"], file: BinaryIO | None = None) -> Any:
    """The house's logger; stderr by default, so that stdout stays a command's own."""
    out = file if file is not None else sys.stderr.buffer
    shared: list[Any] = [structlog.processors.add_log_level, _crash, structlog.processors.TimeStamper("iso", utc=True)]
    if format == "json":
        shared.append(structlog.processors.JSONRenderer(serializer=_json))
    else:
        shared.append(structlog.dev.ConsoleRenderer(colors=out.isatty()))
    return structlog.wrap_logger(Lines(out), processors=shared, wrapper_class=structlog.BoundLogger)


def _json(event: Event, **_: Any) -> bytes:
    try:
        return orjson.dumps(event, default=repr)
    except TypeError:  # text that came in as broken UTF-8 holds surrogates, which orjson refuses and json escapes
        return json.dumps(event, default=repr, skipkeys=True).encode()


def _crash(logger: Any, method: str, event: Event) -> Event:
    """A crash's place and kind. Not its message: it may quote what a client sent."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        event["crash"] = type(error).__name__
        frames = []
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        event["where"] = frames[-6:]
    return event


class ExchangeLog:
    """Reports each exchange as it ends."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def __call__(self, exchange: Exchange, outcome: Outcome) -> None:
        """One line for one exchange."""
        received = exchange.received
        story: dict[str, Any] = {
            "id": exchange.id,
            "route": exchange.route,
            "method": received.method,
            "path": received.path[:LONGEST_PATH].encode("ascii", "backslashreplace").decode(),
            "client": exchange.client.address,
            "status": outcome.status,
            "bytes_in": received.body.length,
            "bytes_out": outcome.delivered,
            "ms": round(outcome.seconds * 1000, 2),
            "spans": {span.layer: [span.verdict, round(own * 1000, 3)] for span, own in own_times(exchange.spans)},
            "attempts": [f"{attempt.upstream}={attempt.outcome}" for attempt in exchange.attempts],
        }
        if any(attempt.billed is not None for attempt in exchange.attempts):
            story["calls"] = [_call(attempt, exchange, outcome) for attempt in exchange.attempts]
        if (stopped := exchange.get(STOPPED)) is not None:
            story["stopped"] = stopped
        if changed := {one.upstream: one.changed for one in exchange.attempts if one.changed}:
            story["changed"] = changed
        if not outcome.complete:
            story["complete"] = False
        if outcome.left:
            story["left"] = True
        if outcome.error is not None:
            story["error"] = getattr(outcome.error, "code", type(outcome.error).__name__)
            story["by"] = getattr(outcome.error, "layer", None)
        self._log.info("exchange", **story)


def _call(attempt: Attempt, exchange: Exchange, outcome: Outcome) -> dict[str, Any]:
    """One call of an upstream, as somebody judged it."""
    handed = outcome.response is not None and outcome.response.attempt is attempt
    ended = attempt.ended or exchange.began + outcome.seconds
    story = {
        "upstream": attempt.upstream,
        "credential": attempt.credential,
        "outcome": attempt.outcome,
        "class": attempt.failure,
        "first_byte_ms": round(attempt.seconds * 1000, 2),
        "ms": round((ended - attempt.began) * 1000, 2) if attempt.began else None,
        "bytes": outcome.delivered if handed and not attempt.bytes else attempt.bytes,
        "billed": attempt.billed,
    }
    return {name: value for name, value in story.items() if value}
