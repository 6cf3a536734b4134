"""What the client hears when all has failed: the error that means most to it, and whether it may have been billed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from proxy.api import Failure, FailureClass, ProxyError, QueueFull, Rejected, Response

from .judge import Tried
from .question import Question

# What tells the client most. What may have been billed comes first: who does not hear of that pays twice.
FIRST: tuple[FailureClass, ...] = (
    "ambiguous",
    "result_missing",
    "safety",
    "invalid",
    "rate_limit",
    "failure",
    "connect",
    "balance",
    "auth",
)
SOON = 60.0  # seconds: a `retry-after` up to which it is worth the SDK's while to come again
BILLED = "It may have been billed."


def end(tried: Sequence[Tried], question: Question, soonest: float) -> Response:
    """The answer for a request that every call failed. Raises ProxyError where no upstream's can be shown."""
    if not tried:
        raise offline(soonest)
    worst = min(tried, key=_meaning)
    response, failure = worst.response, worst.failure
    assert failure is not None
    attempt = worst.attempt
    if failure.kind in ("auth", "balance") and attempt is not None and attempt.credential:
        # It speaks of an account that is not the client's.
        raise ProxyError(
            "The upstream can't be used at the moment; who runs this proxy has been told.",
            status=503,
            type="service_unavailable_error",
            code="provider_credential_unusable",
        )
    if response is not None and _shown(response, failure):
        wait = str(math.ceil(soonest)) if soonest > 0 and failure.kind == "rate_limit" else None
        response = response.with_headers(x_should_retry="false")
        return response if wait is None else response.with_headers(retry_after=wait)
    error = worst.error if worst.error is not None and response is None else _own(response, failure, soonest)
    sent = any(one.attempt is not None and one.attempt.sent for one in tried)
    error.should_retry = error.should_retry and not (sent and question.paid)
    raise error


def offline(soonest: float) -> ProxyError:
    """Nobody could be asked at all."""
    wait = max(1, math.ceil(soonest))
    return ProxyError(
        f"Every upstream that could answer this is cooling down; ask again in {wait} s.",
        status=503,
        type="service_unavailable_error",
        code="provider_offline",
        should_retry=wait <= SOON,
        headers={"retry-after": str(wait)},
    )


def nobody(question: Question, why: str) -> ProxyError:
    """No upstream of this route can do what is asked."""
    what = f"the model '{question.operation.model}'" if why == "model_not_served" else "this"
    return Rejected(
        f"No upstream here serves {what}.",
        status=404,
        code="model_not_available",
        param="model" if why == "model_not_served" else None,
    )


def _meaning(tried: Tried) -> tuple[int, float]:
    """How much it says, the most first; of several lines that were too long, the shortest."""
    wait = tried.error.wait if isinstance(tried.error, QueueFull) else 0.0
    meaning = FIRST.index(tried.failure.kind) if tried.failure is not None else len(FIRST)
    return meaning, math.inf if wait is None else wait


def _shown(response: Response, failure: Failure) -> bool:
    """Whether an upstream's own words are what the client should hear: JSON, and no 200 that hides an error."""
    if response.status < 400:
        return failure.kind == "safety"  # a refusal in the model's own words
    return (response.body.now() or b"").lstrip()[:1] in (b"{", b"[")


def _own(response: Response | None, failure: Failure, soonest: float) -> ProxyError:
    """Ours, in the place of a page of HTML, of nothing, or of a 200 that hides an error."""
    status = response.status if response is not None else 502
    billed = f" {BILLED}" if failure.billed != "no" else ""
    if failure.kind == "result_missing":
        return _upstream(f"The upstream answered without a picture.{billed}", 502, "upstream_result_missing")
    if failure.kind == "rate_limit":
        wait = max(1, math.ceil(soonest))
        return ProxyError(
            "The upstream is being asked too often.",
            status=429,
            type="requests",
            code="rate_limit_exceeded",
            headers={"retry-after": str(wait)},
        )
    if failure.kind == "safety":
        return Rejected(
            "The upstream refused this for its content.",
            type="image_generation_user_error",
            code="content_policy_violation",
        )
    if status in (408, 504, 524):
        return _upstream(f"The upstream gave no answer in time.{billed}", 504, "upstream_timeout")
    if failure.kind == "invalid" and 400 <= status < 500:
        return _upstream(
            f"The upstream refused with {status} and nothing that can be shown.", status, "upstream_failed"
        )
    return _upstream(f"The upstream's answer can't be used ({status}).{billed}", 502, "upstream_failed")


def _upstream(message: str, status: int, code: str) -> ProxyError:
    return ProxyError(message, status=status, type="upstream_error", code=code)
