"""How long an upstream asks to be left alone, in all the forms that it may use."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

from ..model.message import Headers
from .failure_said import Said

# What OpenAI, Azure, Google and Replicate write for people; nothing else is looked for in text.
LEADS = ("try again in ", "retry after ", "retry in ", "limit resets in ")
SPAN = re.compile(
    r" ?~?(\d{1,6}(?:\.\d{1,9})?) ?(ms|milliseconds?|s|seconds?|m|minutes?|h|hours?|d|days?)(?![a-z])",
    re.ASCII,
)
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MOST_SPANS = 4  # "1d2h3m4s"


def told(headers: Headers, said: Said, *, now: float, most: float) -> float | None:
    """Seconds in a field meant for them; None when there are none, or none that can be believed."""
    ms = number(headers.get("retry-after-ms"))
    after = headers.get("retry-after")
    for seconds in (None if ms is None else ms / 1000, number(after)):
        if seconds is not None and seconds <= most:
            return seconds
    if after is not None:
        seconds = _until(after, headers.get("date"), now)
        if seconds is not None and seconds <= most:
            return seconds
    if isinstance(said.wait, int | float) and not isinstance(said.wait, bool):
        return float(said.wait) if 0 <= said.wait <= most else None
    seconds = number(said.wait)
    return seconds if seconds is not None and seconds <= most else None


def worded(text: str, *, most: float) -> float | None:
    """Seconds in a sentence, such as "Please try again in 6m0s."."""
    for lead in LEADS:
        at = text.find(lead)
        if at < 0:
            continue
        at += len(lead)
        seconds = 0.0
        for _ in range(MOST_SPANS):
            if (span := SPAN.match(text, at)) is None:
                break
            at = span.end()
            unit = span[2]
            seconds += float(span[1]) * UNITS["ms" if unit.startswith(("ms", "milli")) else unit[0]]
        if 0 < seconds <= most:
            return seconds
    return None


def number(text: object) -> float | None:
    """A number of seconds written in digits; what Python would also take, such as "1e3" or "nan", is junk."""
    if not isinstance(text, str):
        return None
    digits = text.strip(" \t")
    whole, _, rest = digits.partition(".")
    if not 0 < len(digits) <= 20 or not digits.isascii() or not whole.isdigit() or not (rest.isdigit() or not rest):
        return None
    return float(digits)


def _until(text: str, date: str | None, now: float) -> float | None:
    """Seconds until a date, by the upstream's own clock where it tells that, for ours may differ."""
    end = _instant(text)
    if end is None:
        return None
    begin = None if date is None else _instant(date)
    seconds = end - (now if begin is None else begin)
    return seconds if seconds >= 0 else None


def _instant(text: str) -> float | None:
    if len(text) > 64:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
