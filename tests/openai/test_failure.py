from __future__ import annotations

import gzip
import json
import time
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api import Failure, Headers, ProxyError, QueueFull, Rejected, UpstreamError
from proxy.openai.failure import classify, of_error, of_reading
from proxy.openai.failure_rule import shipped

from .failing import CASES, NONE, NOW, asked, body_of, failed, headers_of

# What each class allows: the same upstream again, the next one (paid for, free to repeat), what rests, what is billed.
TABLE = {
    "rate_limit": ("after", "yes", "yes", "retry_after", "no"),
    "balance": ("never", "yes", "yes", "balance", "no"),
    "auth": ("never", "yes", "yes", "auth", "no"),
    "failure": ("last", "yes", "yes", "breaker", "no"),
    "result_missing": ("never", "on_result_missing", "on_result_missing", "breaker", "maybe"),
    "ambiguous": ("never", "on_ambiguous", "yes", "breaker", "maybe"),
    "connect": ("once", "yes", "yes", "breaker", "no"),
    "safety": ("never", "on_safety", "on_safety", "none", "no"),
    "invalid": ("never", "no", "no", "none", "no"),
}

# --- The table


@pytest.mark.parametrize("case", CASES, ids=[f"{case['class']}-{case['status']}-{case['where']}" for case in CASES])
def test_an_answer_is_of_its_class_with_its_actions(case: dict[str, Any]) -> None:
    found = asked(case)
    if case["class"] is None:
        assert found is None
        return
    assert found is not None
    again, next, _, bench, billed = TABLE[case["class"]]
    assert found.kind == case["class"]
    assert (found.again, found.next) == (case.get("again", again), next)
    assert (found.bench, found.billed) == (case.get("bench", bench), case.get("billed", billed))
    assert (found.retry_after, found.guess) == (case.get("wait"), case.get("guess", False))
    if "code" in case:
        assert found.told.code == case["code"]


def test_every_class_but_connect_has_cases_and_there_are_plenty() -> None:
    assert {case["class"] for case in CASES} == {*TABLE, None} - {"connect"}
    assert len(CASES) >= 120


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["class"] == "ambiguous"], ids=lambda case: case["where"]
)
def test_what_is_free_to_repeat_goes_on_to_the_next_and_what_was_not_sent_is_a_plain_failure(
    case: dict[str, Any],
) -> None:
    free, unsent = asked(case, paid=False), asked(case, sent=False)
    assert free is not None and (free.kind, free.next, free.again) == ("ambiguous", "yes", "never")
    assert unsent is not None and (unsent.kind, unsent.next, unsent.billed) == ("failure", "yes", "no")


@pytest.mark.parametrize(("kind", "row"), TABLE.items())
def test_a_class_has_the_actions_of_its_row(kind: Any, row: tuple[str, ...]) -> None:
    told = failed(400).told
    paid, free = (Failure.of(kind, told, paid=paid) for paid in (True, False))
    assert (paid.again, paid.next, free.next, paid.bench, paid.billed) == row


def test_every_shipped_rule_decides_a_case() -> None:
    rules = {found.rule for case in CASES if (found := asked(case)) is not None}
    assert {rule.name for rule in shipped()} - rules == set()


# --- Bodies


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["where"])
def test_a_200_is_not_looked_into_unless_asked(case: dict[str, Any]) -> None:
    found = classify(200, NONE, body_of(case), sent=True, paid=True)
    assert found is None


def deflated(raw: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(raw) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", deflated)]
)
def test_a_packed_error_is_read(encoding: str, packed: Any) -> None:
    body = packed(orjson.dumps({"error": {"code": "insufficient_quota"}}))
    assert failed(429, body, content_encoding=encoding).kind == "balance"


def test_a_bomb_is_unpacked_no_further_than_an_error_is_long() -> None:
    bomb = gzip.compress(b"[" * 50_000_000)
    begun = time.process_time()
    assert failed(500, bomb, content_encoding="gzip").kind == "ambiguous"
    assert time.process_time() - begun < 1


def test_packed_in_a_way_that_is_not_known_is_no_error_of_the_service() -> None:
    assert failed(500, b"\x1b\x03\x80", content_encoding="br").kind == "ambiguous"
    assert failed(500, b"no gzip", content_encoding="gzip").kind == "ambiguous"


def test_an_error_in_front_of_what_was_cut_off_is_read() -> None:
    raw = orjson.dumps({"error": {"code": "insufficient_quota", "message": "x"}, "rest": "y" * 100_000})
    assert failed(429, raw[:70_000]).kind == "balance"
    assert failed(500, raw[:70_000]).kind == "failure"


@pytest.mark.parametrize(
    ("event", "kind", "code"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "x", "param": None}, "rate_limit", None),
        ({"type": "error", "error": {"type": "invalid_request_error", "code": None, "message": "x"}}, "invalid", None),
        ({"type": "error", "error": {"code": "moderation_blocked", "message": "x"}}, "safety", "moderation_blocked"),
        (
            {"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error"}}},
            "result_missing",
            "server_error",
        ),
        (
            {"type": "response.failed", "response": {"error": {"code": "server_is_overloaded", "message": "x"}}},
            "failure",
            "server_is_overloaded",
        ),
        (
            {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "content_filter"}}},
            "safety",
            None,
        ),
    ],
)
def test_an_event_of_a_stream_is_judged_like_a_body(event: dict[str, Any], kind: str, code: str | None) -> None:
    found = classify(200, NONE, event, sent=True, paid=True)
    assert found is not None and found.kind == kind
    assert code is None or found.told.code == code


def test_an_error_in_a_200_that_cost_nothing_to_ask_is_a_failure() -> None:
    assert failed(200, {"error": {"message": "x"}}, paid=False).kind == "failure"


# --- Where nobody answered


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UpstreamError("refused", sent=False), "connect"),
        (UpstreamError("no connection in time", sent=False, timeout=True), "connect"),
        (UpstreamError("no answer", sent=True, timeout=True), "ambiguous"),
        (UpstreamError("the answer broke off", sent=True), "ambiguous"),
    ],
)
def test_where_nobody_answered_it_counts_whether_it_was_sent(error: UpstreamError, kind: str) -> None:
    found = of_error(error, paid=True)
    assert found is not None and found.kind == kind
    again, next, _, bench, billed = TABLE[kind]
    assert (found.again, found.next, found.bench, found.billed) == (again, next, bench, billed)
    free = of_error(error, paid=False)
    assert free is not None and free.next == "yes"


def test_a_full_line_of_ours_benches_nobody() -> None:
    error = UpstreamError("all busy", sent=False)
    error.code = "queue_unavailable"
    found = of_error(error, paid=True)
    assert found is not None and (found.kind, found.again, found.bench, found.next) == (
        "connect",
        "last",
        "none",
        "yes",
    )


def test_who_would_wait_too_long_goes_elsewhere_and_benches_nobody() -> None:
    for wait in (None, 75.0):
        found = of_error(QueueFull("it would take too long", wait=wait), paid=True)
        assert found is not None
        assert (found.kind, found.again, found.bench, found.next, found.billed) == (
            "connect",
            "never",
            "none",
            "yes",
            "no",
        )


def test_a_credential_that_a_caller_lacks_benches_nobody() -> None:
    found = of_error(ProxyError("There is none.", code="provider_credential_missing"), paid=True)
    assert found is not None and (found.kind, found.bench, found.next) == ("auth", "none", "yes")


def test_a_fault_of_ours_or_the_callers_is_no_failure_of_an_upstream() -> None:
    assert of_error(Rejected("No."), paid=True) is None
    assert of_error(ProxyError("Broken."), paid=True) is None


# --- What was found while a 200 was read


@pytest.mark.parametrize(
    ("seen", "kind", "billed"),
    [
        ({"verdict": "image"}, None, ""),
        ({"verdict": "image", "error": {"code": "server_error"}}, None, ""),
        ({"verdict": "unknown"}, None, ""),
        ({"verdict": "none"}, "result_missing", "maybe"),
        ({"verdict": "none", "used": True}, "result_missing", "yes"),
        ({"verdict": "none", "image": False}, None, ""),
        ({"verdict": "none", "finish": ["stop"]}, "result_missing", "maybe"),
        ({"verdict": "none", "finish": ["content_filter"]}, "safety", "maybe"),
        ({"verdict": "none", "refusal": True}, "safety", "maybe"),
        ({"verdict": "unknown", "finish": ["length"]}, None, ""),
        ({"verdict": "error", "error": {}}, "result_missing", "maybe"),
        ({"verdict": "error", "error": None}, "result_missing", "maybe"),
        ({"verdict": "error", "error": "it broke"}, "result_missing", "maybe"),
        ({"verdict": "error", "error": {"code": 503, "message": "x"}}, "failure", "maybe"),
        ({"verdict": "error", "error": {"code": 504, "message": "x"}}, "ambiguous", "maybe"),
        ({"verdict": "error", "error": {"code": "moderation_blocked"}, "used": True}, "safety", "yes"),
        ({"verdict": "error", "error": {"code": "rate_limit_exceeded"}}, "rate_limit", "no"),
        ({"verdict": "error", "error": {"code": "insufficient_quota"}}, "balance", "no"),
        ({"verdict": "error", "error": {"code": "invalid_api_key"}}, "auth", "no"),
        ({"verdict": "error", "error": {"type": "image_generation_user_error"}}, "invalid", "no"),
    ],
)
def test_what_a_reader_saw_is_judged(seen: dict[str, Any], kind: str | None, billed: str) -> None:
    found = of_reading(NONE, paid=True, **{"image": True, **seen})
    assert (found and found.kind) == kind
    assert found is None or found.billed == billed


# --- Whatever comes

MEMBERS = [
    *("error", "code", "type", "status", "message", "msg", "detail", "details", "errors", "response", "data", "state"),
    *("retry_after", "retryDelay", "innererror", "name", "title", "violations", "quotaId", "choices", "candidates"),
    *("finish_reason", "finishReason", "promptFeedback", "blockReason", "incomplete_details", "reason", "output"),
    *("content", "refusal", "has_nsfw_concepts", "is_image_safe", "failCode", "metadata"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=5),
    max_leaves=25,
)
STATUS = st.integers(-1, 1000)
NAMES = st.sampled_from([b"retry-after", b"Retry-After-MS", b"x-should-retry", b"content-encoding", b"date", b"x"])
HEADERS = st.lists(
    st.tuples(NAMES, st.binary(max_size=40) | st.sampled_from([b"gzip", b"false", b"1" * 30])), max_size=4
)


@settings(deadline=None, max_examples=150)
@given(status=STATUS, headers=HEADERS, body=st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_and_headers_are_of_some_class(status: int, headers: Any, body: bytes) -> None:
    found = classify(status, Headers(headers), body, sent=True, paid=True, look=True, now=NOW)
    assert found is not None or status < 400
    assert found is None or (found.kind in TABLE and (found.retry_after is None or 0 <= found.retry_after <= 600))


@settings(deadline=None, max_examples=150)
@given(status=STATUS, document=st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=6), image=st.booleans())
def test_any_document_is_of_some_class(status: int, document: dict[str, Any], image: bool) -> None:
    found = classify(status, NONE, document, sent=True, paid=False)
    assert found is not None or status < 400
    error = document.get("error")
    seen = of_reading(NONE, paid=True, image=image, verdict="error", error=error)
    assert seen is not None and seen.kind in TABLE


@pytest.mark.parametrize("case", [case for case in CASES if case["status"] >= 500], ids=lambda case: case["where"])
def test_an_error_cut_anywhere_is_never_taken_for_harmless(case: dict[str, Any]) -> None:
    body = body_of(case)
    for end in range(len(body)):
        found = classify(case["status"], NONE, body[:end], sent=True, paid=True)
        assert found is not None and found.kind in (case["class"], "failure", "ambiguous")


SECRETS = [
    "sk-proj-4f9aK2mZ8qLw7Tn3",
    "org-8sdf7sd9f8sd7f98",
    "a cat on a mat, oil on canvas",
    "https://acme.openai.azure.com",
    "10.1.2.3:8443",
    "jane.doe@example.com",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    "x" * 500,
    "schöne Grüße",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
def test_no_prompt_key_account_or_address_is_told(secret: str, status: int) -> None:
    for error in (
        {"message": secret, "code": "x"},
        {"message": secret, "code": secret, "type": secret, "status": secret, "innererror": {"code": secret}},
        secret,
    ):
        found = failed(status, {"error": error, "detail": secret, "code": secret, "name": secret, "message": secret})
        assert secret not in repr(found)


def test_an_ordinary_429_is_told_apart_in_no_time() -> None:
    body = body_of(CASES[0])
    raw = headers_of({f"x-header-{i}": "value" for i in range(12)} | {"retry-after": "12"}).raw
    best = 1.0
    for _ in range(20):
        begun = time.process_time()
        for _ in range(100):
            classify(429, Headers(raw), body, sent=True, paid=True)
        best = min(best, (time.process_time() - begun) / 100)
    assert best < 200e-6  # 20 us where nothing else runs; a slip costs milliseconds


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10**6,
        b'{"error":' * 10**5,
        orjson.dumps({"error": {"message": "try again in " * 10**5}}),
        orjson.dumps({"detail": [{"msg": "x" * 100}] * 10**4}),
        orjson.dumps({"error": {"message": "1" * 60_000}}),
    ],
)
def test_hostile_bodies_cost_little(body: bytes) -> None:
    begun = time.process_time()
    assert failed(429, body).kind == "rate_limit"
    assert time.process_time() - begun < 0.5
