"""Answers that failed, and how they are asked about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from proxy.api import Failure, Headers
from proxy.openai.failure import classify

# Answers as services give them. "where": whose; "body" or "text": what came; "variant": not seen as it stands.
CASES: list[dict[str, Any]] = [
    orjson.loads(line) for line in (Path(__file__).parent / "failures.jsonl").read_text().splitlines()
]
NONE = Headers()
NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


def headers_of(named: Mapping[str, str]) -> Headers:
    return Headers([(name.encode(), value.encode()) for name, value in named.items()])


def body_of(case: Mapping[str, Any]) -> bytes:
    return case["text"].encode() if "text" in case else orjson.dumps(case["body"])


def asked(case: Mapping[str, Any], *, sent: bool = True, paid: bool = True) -> Failure | None:
    headers = headers_of(case.get("headers", {}))
    return classify(case["status"], headers, body_of(case), sent=sent, paid=paid, look=True, now=NOW)


def failed(status: int, body: Any = b"", *, paid: bool = True, **named: str) -> Failure:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    found = classify(status, NONE.replaced(**named), raw, sent=True, paid=paid, look=True, now=NOW)
    assert found is not None
    return found
