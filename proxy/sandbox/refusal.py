"""What the sandbox says when it refuses, in OpenAI's envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .answer import Answer, told

_ACCOUNT = "https://platform.openai.com/account"


class Refusal(Exception):
    """A request that is answered with an error; the message is meant for the caller."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        type: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.error = {"message": message, "type": type, "param": param, "code": code, **(more or {})}


def answer(refusal: Refusal) -> Answer:
    """The answer that carries a refusal."""
    plain = told({"error": refusal.error}, status=refusal.status)
    return Answer(plain.body, plain.status, headers=refusal.headers) if refusal.headers else plain


def unknown_url(method: str, path: str) -> Refusal:
    """No such path."""
    return Refusal(
        f"Unknown request URL: {method} {path}. Please check the URL for typos.", code="unknown_url", status=404
    )


def wrong_method(method: str, path: str) -> Refusal:
    """The path is known, the method isn't allowed on it."""
    message = f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)"
    return Refusal(message, code="method_not_supported", status=405)


def unknown_model(name: str) -> Refusal:
    """A model that isn't in the catalogue, or doesn't do what is asked."""
    message = f"The model '{name}' does not exist or you do not have access to it."
    return Refusal(message, param="model", code="model_not_found", status=404)


def no_key() -> Refusal:
    """A request without a key, where one is needed."""
    message = (
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        f"(i.e. Authorization: Bearer YOUR_KEY). You can obtain an API key from {_ACCOUNT}/api-keys."
    )
    return Refusal(message, status=401)


def wrong_key(key: str) -> Refusal:
    """A key that isn't one of those known; like OpenAI, the answer shows the ends of a long one."""
    shown = f"{key[:3]}{'*' * (len(key) - 7)}{key[-4:]}" if len(key) >= 20 and key.isprintable() else "*" * len(key)
    message = f"Incorrect API key provided: {shown}. You can find your API key at {_ACCOUNT}/api-keys."
    return Refusal(message, code="invalid_api_key", status=401)


def too_many(
    meter: str, unit: str, model: str, figures: tuple[int, int, int], again: str, headers: Mapping[str, str]
) -> Refusal:
    """A limit is reached; `meter` and `unit` as OpenAI names them, `again` the wait in its notation."""
    limit, used, asked = figures
    message = (
        f"Rate limit reached for {model} in organization org-sandbox on {unit}: Limit {limit}, Used {used}, "
        f"Requested {asked}. Please try again in {again}. Visit {_ACCOUNT}/rate-limits to learn more."
    )
    return Refusal(message, status=429, type=meter, code="rate_limit_exceeded", headers=headers)


def no_money() -> Refusal:
    """429, but no waiting helps."""
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
    )
    return Refusal(message, status=429, type="insufficient_quota", code="insufficient_quota")


def billing_limit() -> Refusal:
    """The account's hard limit, which comes as a 400."""
    message = "Billing hard limit has been reached"
    return Refusal(message, type="image_generation_user_error", code="billing_hard_limit_reached")


def server_error() -> Refusal:
    """Something broke in there."""
    message = "The server had an error while processing your request. Sorry about that!"
    return Refusal(message, type="server_error", status=500)


def overloaded() -> Refusal:
    """Too much to do."""
    message = "The server is currently overloaded with other requests. Sorry about that! Please retry later."
    return Refusal(message, type="service_unavailable_error", code="server_is_overloaded", status=503)


def unreadable() -> Refusal:
    """A body whose framing is broken."""
    return Refusal("We could not read the body of your request.")


def too_large() -> Refusal:
    """More than the sandbox takes."""
    return Refusal("The request body is too large for the sandbox.", status=413)


def moderated(stage: str) -> Refusal:
    """The safety system said no, to what was asked (input) or to what was drawn (output)."""
    message = (
        "Your request was rejected by the safety system. If you believe this is an error, contact us at "
        "help.openai.com and include the request ID req_sandbox. safety_violations=[violence]."
    )
    details = {"moderation_stage": stage, "categories": ["violence"]}
    return Refusal(
        message, type="image_generation_user_error", code="moderation_blocked", more={"moderation_details": details}
    )
