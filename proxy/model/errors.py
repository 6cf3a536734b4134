"""What can go wrong, separated by fault: the caller's, ours, the upstream's. Rendered once, at the edge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .exchange import Attempt


class ProxyError(Exception):
    """An error of Framegate's own that a client may hear. The message is meant for a person and holds no secret.

    `status`, `type` and `code` follow the catalogue in docs/errors.md; `retryable` is advice to a person,
    `should_retry` an order to the official SDKs (header `x-should-retry`).
    """

    status: int = 500
    type: str = "server_error"
    code: str = "internal_error"
    retryable: bool = True
    should_retry: bool = False
    retry_after: ClassVar[float | None] = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retryable: bool | None = None,
        should_retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers: dict[str, str] = dict(headers or {})
        self.more: dict[str, object] = dict(more or {})  # further members of the envelope
        self.layer: str | None = None  # which layer raised it; the engine says so
        self.attempt: Attempt | None = None  # the call of an upstream that it ended
        if status is not None:
            self.status = status
        if type is not None:
            self.type = type
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable
        if should_retry is not None:
            self.should_retry = should_retry


class Rejected(ProxyError):
    """Our refusal: the request is wrong, too large, too slow or not allowed."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    retryable = False


class BodyTooLarge(Rejected):
    """A body is over the limit that holds for it, in bytes."""

    status = 413
    code = "request_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than the {limit} bytes allowed here.")
        self.limit = limit


class RequestTimeout(Rejected):
    """The client sent its headers or its body too slowly."""

    status = 408
    code = "request_timeout"
    retryable = True


class BodyConsumed(ProxyError):
    """A second pass over a body that nobody kept: a fault of the plugin that asked for it."""

    def __init__(self, why: str = "it was read once already; keep() it before the first pass") -> None:
        super().__init__(f"This body can't be read again: {why}.")


class ClientLeft(ProxyError):
    """The client hung up before its request was complete. Nobody hears this; it ends the work."""

    status = 499
    code = "client_left"


class UpstreamError(ProxyError):
    """No usable answer came from the upstream; `why` in a few words. `sent`: may it have acted on the request?"""

    status = 502
    type = "upstream_error"
    code = "upstream_failed"

    def __init__(self, why: str, *, sent: bool, timeout: bool = False) -> None:
        end = "It may have been billed." if sent else "Nothing was sent."
        super().__init__(f"No usable answer came from the upstream: {why}. {end}")
        self.sent = sent
        self.timeout = timeout
        if not sent:
            self.code = "provider_submit_failed"
            self.should_retry = True
        elif timeout:
            self.status = 504
            self.code = "upstream_timeout"


class QueueFull(UpstreamError):
    """No place before an upstream for one more who waits, or none in time. Nothing is wrong with the upstream.

    `wait`: seconds until it would have been this one's turn; None when that will never be.
    """

    status = 503
    type = "service_unavailable_error"

    def __init__(self, why: str, *, wait: float | None) -> None:
        super().__init__(why, sent=False)
        self.code = "queue_unavailable"
        self.wait = wait
        self.should_retry = self.retryable = wait is not None
        if wait is not None:
            self.headers["retry-after"] = str(max(1, math.ceil(wait)))
