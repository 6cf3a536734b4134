"""Which upstreams refused a request for its content, as far as an exchange's ending tells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from proxy.api import Failure, Failures, Outcome, Response

from .verdict import Stage

SMALL = 2**16  # bytes of an error that are looked at
MANY = 20  # categories that are believed
LONGEST = 64  # characters of one
GOOD = 2**14  # bytes of a good answer that may be a refusal all the same: it says little else
# What such a one has and others have not: an end that is none of these, or an error. To read an answer costs 80 us; two
# patterns that begin with letters of their own are quicker than one that joins them.
ENDS = re.compile(rb'eason"\s*:\s*"(?!(?:stop|length|tool_calls|function_call)")')
ERROR = re.compile(rb'"error"\s*:\s*[^n\s]')


class Refusal(NamedTuple):
    """An upstream's own: what it says of it, as far as it says anything."""

    upstream: str
    stage: Stage = "input"
    categories: tuple[str, ...] = ()


def refusals(outcome: Outcome, failures: Failures) -> Sequence[Refusal]:
    """Those of all attempts that somebody judged; and of the answer that was handed on, where nobody did."""
    response = outcome.response
    last = response.attempt if response is not None else None
    found = []
    for attempt in outcome.attempts:
        if attempt is not last and attempt.failure == "safety":
            found.append(Refusal(attempt.upstream))
    if response is not None and last is not None and last.failure in (None, "safety"):
        failure = _failure(response, failures, last.upstream) if last.failure is None else None
        if last.failure == "safety" or (failure is not None and failure.kind == "safety"):
            found.append(_told(last.upstream, response))
    return found


def _failure(response: Response, failures: Failures, upstream: str) -> Failure | None:
    """What an answer is that nobody judged. A good one is looked at only where the route reads answers anyway."""
    reading, status = response.reading, response.status
    if status < 400:
        if reading is None or not _telling(response) or (reading.error is None and not reading.finish):
            return None
        return failures.of_reading(
            response.headers,
            paid=False,
            image=False,
            verdict="none" if reading.error is None else "error",
            error=reading.error,
            finish=reading.finish,
            upstream=upstream,
        )
    body = _body(response)
    if body is None:
        return None
    return failures.classify(status, response.headers, body, sent=True, paid=False, upstream=upstream)


def _telling(response: Response) -> bool:
    """Whether a good answer may be a refusal. One that is here whole may be unread; another was read as it passed."""
    body = response.body.now()
    return body is None or (len(body) <= GOOD and (ENDS.search(body) or ERROR.search(body)) is not None)


def _body(response: Response) -> bytes | Mapping[str, Any] | None:
    """What there is of an error: what was read of it, else what came in one piece."""
    error = response.reading.error if response.reading is not None else None
    if error:
        return {"error": error}
    body = response.body.now()
    return None if body is None else body[:SMALL]


def _told(upstream: str, response: Response) -> Refusal:
    """With the stage and the categories that OpenAI's form of refusal has."""
    body = _body(response)
    if isinstance(body, bytes):
        try:
            body = orjson.loads(body)
        except ValueError:
            body = None
    error = body.get("error") if isinstance(body, Mapping) else None
    details = error.get("moderation_details") if isinstance(error, Mapping) else None
    if not isinstance(details, Mapping):
        return Refusal(upstream)
    named = details.get("categories")
    categories = [one[:LONGEST] for one in named if isinstance(one, str)] if isinstance(named, list | tuple) else []
    stage: Stage = "output" if details.get("moderation_stage") == "output" else "input"
    return Refusal(upstream, stage, tuple(categories[:MANY]))
