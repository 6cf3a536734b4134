from __future__ import annotations

import pytest

from proxy.api import Headers
from proxy.openai.failure import classify

from .failing import NONE, failed

DATE = "Fri, 15 Jan 2027 08:01:00 GMT"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": " 1.5 "}, 1.5),
        ({"retry_after": "600"}, 600.0),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after_ms": "250", "retry_after": "7"}, 0.25),
        ({"retry_after_ms": "soon", "retry_after": "7"}, 7.0),
        ({"retry_after_ms": "-1", "retry_after": "7"}, 7.0),
        ({"retry_after_ms": "999999999", "retry_after": "7"}, 7.0),
        ({"retry_after": DATE}, 60.0),
        ({"retry_after": "Friday, 15-Jan-27 08:01:00 GMT"}, 60.0),
        ({"retry_after": "Fri Jan 15 08:01:00 2027"}, 60.0),
        ({"retry_after": DATE, "date": "Fri, 15 Jan 2027 08:00:50 GMT"}, 10.0),  # their clock, not ours
        ({"retry_after": DATE, "date": "yesterday"}, 60.0),
    ],
)
def test_a_wait_is_taken_in_any_form(headers: dict[str, str], wait: float) -> None:
    found = failed(429, **headers)
    assert (found.kind, found.retry_after, found.guess) == ("rate_limit", wait, False)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "-5", "nan", "inf", "1e3", "1_0", "0x10", "1.2.3", ".5", "٣", "9" * 400, "601", "86400", "5,5"),
        *("Fri", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 15 Jan 2027 07:59:59 GMT", "Fri, 15 Jan 2027 09:00:00 GMT"),
        *("Fri, 99 Foo 2027 08:01:00 GMT", "Fri, 15 Jan 99999999999 08:01:00 GMT", "0001-01-01", "X" * 9999),
    ],
)
def test_junk_and_what_is_longer_than_can_be_believed_is_a_guess(text: str) -> None:
    found = failed(429, retry_after=text)
    assert (found.kind, found.retry_after, found.guess) == ("rate_limit", None, True)


def test_how_long_can_be_believed_is_the_operators_to_say() -> None:
    headers = Headers.of(retry_after="30")
    found = classify(429, headers, b"", sent=True, paid=True, cooldown_max=20)
    assert found is not None and found.retry_after is None and found.guess
    found = classify(429, Headers.of(retry_after="3600"), b"", sent=True, paid=True, cooldown_max=7200)
    assert found is not None and found.retry_after == 3600 and not found.guess


@pytest.mark.parametrize("wait", [-1, 1e9, float("nan"), float("inf"), True, [5], {"s": 5}, "x", None])
def test_junk_in_a_body_is_a_guess(wait: object) -> None:
    found = classify(429, NONE, {"error": "rate_limit_exceeded", "retry_after": wait}, sent=True, paid=True)
    assert found is not None and found.retry_after is None and found.guess


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("Please try again in 6m0s.", 360.0),
        ("try again in 1h.", None),  # longer than can be believed
        ("Please retry after 9 seconds", 9.0),
        ("Please retry in 34.074824224s.", 34.074824224),
        ("Your rate limit resets in ~30s.", 30.0),
        ("Please try again in 500 milliseconds", 0.5),
        ("try again in 1m30s", 90.0),
        ("try again in 3 sheep", None),
        ("try again in ", None),
        ("try again later", None),
    ],
)
def test_a_wait_in_words_is_a_guess_that_helps(text: str, wait: float | None) -> None:
    found = failed(429, {"error": {"code": "rate_limit_exceeded", "message": text}})
    assert (found.retry_after, found.guess) == (wait, True)
