"""What the sandbox says when it refuses, in OpenAI's envelope."""

from __future__ import annotations

from .answer import Answer, told


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
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": type, "param": param, "code": code}


def answer(refusal: Refusal) -> Answer:
    """The answer that carries a refusal."""
    return told({"error": refusal.error}, status=refusal.status)


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
