"""Structured logs: one line an exchange tells its whole story. Never a secret, a prompt or base64."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import UTC, datetime
from select import PIPE_BUF
from typing import Any, BinaryIO, Literal

import orjson

from ..core.chain import own_times
from ..model.exchange import Attempt, Exchange, Outcome
from ..model.images import FILES
from ..model.slots import CHANGED, STOPPED

LONGEST_PATH = 256  # characters of a path that are logged; ids are short, junk is long
Event = MutableMapping[str, Any]
NOTHING: Mapping[str, Any] = {}


class Lines:
    """Writes one line at a time and survives a full disk: a lost line must not cost a request."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def msg(self, line: bytes | str) -> None:
        """Write a line."""
        self._write((line.encode("utf-8", "backslashreplace") if isinstance(line, str) else line) + b"\n")

    def msgs(self, lines: Iterable[bytes]) -> None:
        """Write lines, as many at a time as a pipe into which other workers write takes without parting them."""
        together = b""
        for line in lines:
            if len(together) + len(line) >= PIPE_BUF:
                self._write(together)
                together = b""
            together += line + b"\n"
        self._write(together)

    def _write(self, raw: bytes) -> None:
        try:
            with self._lock:
                self._file.write(raw)
                self._file.flush()
        except (OSError, ValueError):
            pass

    debug = info = warning = error = critical = exception = msg


class JSONLog:
    """The house's logger where lines are JSON. structlog's way to such a line costs as much as all the rest of it."""

    __slots__ = ("_bound", "_lines")

    def __init__(self, lines: Lines, bound: Mapping[str, Any] = NOTHING) -> None:
        self._lines = lines
        self._bound = bound

    def bind(self, **details: Any) -> JSONLog:
        """A logger whose lines all hold these details."""
        return JSONLog(self._lines, {**self._bound, **details})

    def info(self, event: str, **details: Any) -> None:
        """What somebody may want to know."""
        self._write("info", event, details)

    def warning(self, event: str, **details: Any) -> None:
        """What a person should look at."""
        self._write("warning", event, details)

    def error(self, event: str, **details: Any) -> None:
        """What a person must act on."""
        self._write("error", event, details)

    def infos(self, event: str, many: Iterable[Event]) -> None:
        """The same event several times."""
        self._lines.msgs([self._line("info", event, details) for details in many])

    def _write(self, level: str, event: str, details: Event) -> None:
        self._lines.msg(self._line(level, event, details))

    def _line(self, level: str, event: str, details: Event) -> bytes:
        line = {**self._bound, **details, "event": event, "level": level}
        if "exc_info" in line:
            _crash(self, level, line)
        line["timestamp"] = datetime.now(UTC)
        try:
            return orjson.dumps(line, default=repr, option=orjson.OPT_UTC_Z)
        except TypeError:  # text that came in as broken UTF-8 holds surrogates, which orjson refuses and json escapes
            line["timestamp"] = line["timestamp"].isoformat()
            return json.dumps(line, default=repr, skipkeys=True).encode()


def make(format: Literal["json", "text"], file: BinaryIO | None = None) -> Any:
    """The house's logger; stderr by default, so that stdout stays a command's own."""
    out = file if file is not None else sys.stderr.buffer
    if format == "json":
        return JSONLog(Lines(out))
    from .lean import structlog

    return structlog.wrap_logger(
        Lines(out),
        processors=[
            structlog.processors.add_log_level,
            _crash,
            structlog.processors.TimeStamper("iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=out.isatty()),
        ],
        wrapper_class=structlog.BoundLogger,
    )


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
    """Reports each exchange as it ends; what ends in one round of the loop is written together, at the end of it.

    A line between two requests finds its instructions gone from the processor's cache, and costs twice as much; lines
    that wait longer are many, and push out the rest.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._ended: list[tuple[Exchange, Outcome]] = []

    def __call__(self, exchange: Exchange, outcome: Outcome) -> None:
        """One line for one exchange."""
        self._ended.append((exchange, outcome))
        if len(self._ended) == 1:
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        ended, self._ended = self._ended, []
        stories = [_story(exchange, outcome) for exchange, outcome in ended]
        if isinstance(self._log, JSONLog):
            self._log.infos("exchange", stories)
        else:
            for story in stories:
                self._log.info("exchange", **story)


def _story(exchange: Exchange, outcome: Outcome) -> dict[str, Any]:
    received = exchange.received
    path = received.path[:LONGEST_PATH]
    if path.startswith(FILES):  # who knows a picture's name may see it: the log must not tell
        path = f"{path[: len(FILES) + 4]}..."
    spans = {span.layer: [span.verdict, _ms(own, 1000)] for span, own in own_times(exchange.spans)}
    attempts, told, judged = exchange.attempts, [], False
    queued: dict[str, str] = {}
    changed: dict[str, tuple[str, ...]] = {}
    for attempt in attempts:
        told.append(f"{attempt.upstream}={attempt.outcome}")
        judged = judged or attempt.billed is not None
        if attempt.queued is not None:
            queued[attempt.upstream] = str(attempt.queued)
        if attempt.changed:
            changed[attempt.upstream] = attempt.changed
    story: dict[str, Any] = {
        "id": exchange.id,
        "route": exchange.route,
        "method": received.method,
        "path": path if path.isascii() else path.encode("ascii", "backslashreplace").decode(),
        "client": exchange.client.address,
        "status": outcome.status,
        "bytes_in": received.body.length,
        "bytes_out": outcome.delivered,
        "ms": _ms(outcome.seconds, 100),
        "spans": spans,
        "attempts": told,
    }
    if judged:
        story["calls"] = [_call(attempt, exchange, outcome) for attempt in attempts]
    if (stopped := exchange.get(STOPPED)) is not None:
        story["stopped"] = stopped
    if queued:
        story["queued"] = queued
    if (asked := exchange.get(CHANGED)) is not None:
        changed["request"] = asked
    if changed:
        story["changed"] = changed
    if not outcome.complete:
        story["complete"] = False
    if outcome.left:
        story["left"] = True
    if outcome.error is not None:
        story["error"] = getattr(outcome.error, "code", type(outcome.error).__name__)
        story["by"] = getattr(outcome.error, "layer", None)
    return story


def _ms(seconds: float, parts: int) -> float:
    """Milliseconds in so many parts of one; `round` goes by way of text, at three times the price."""
    return int(seconds * 1000 * parts + 0.5) / parts


def _call(attempt: Attempt, exchange: Exchange, outcome: Outcome) -> dict[str, Any]:
    """One call of an upstream, as somebody judged it."""
    handed = outcome.response is not None and outcome.response.attempt is attempt
    ended = attempt.ended or exchange.began + outcome.seconds
    story = {
        "upstream": attempt.upstream,
        "credential": attempt.credential,
        "outcome": attempt.outcome,
        "class": attempt.failure,
        "first_byte_ms": _ms(attempt.seconds, 100),
        "ms": _ms(ended - attempt.began, 100) if attempt.began else None,
        "bytes": outcome.delivered if handed and not attempt.bytes else attempt.bytes,
        "billed": attempt.billed,
        "withheld": attempt.withheld,
    }
    return {name: value for name, value in story.items() if value}
