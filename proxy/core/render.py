"""Errors of ours, rendered once, at the edge, in OpenAI's envelope."""

from __future__ import annotations

import math

import orjson

from ..model.body import Bytes
from ..model.errors import ProxyError
from ..model.message import Headers, Response


def render(error: ProxyError, request_id: str) -> Response:
    """The answer a client hears: envelope, `x-request-id`, `x-should-retry` and the error's own headers."""
    body = orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": error.type,
                "param": error.param,
                "code": error.code,
                "retryable": error.retryable,
                **error.more,
            }
        }
    )
    headers = {
        "content_type": "application/json",
        "content_length": str(len(body)),
        "x_request_id": request_id,
        "x_should_retry": "true" if error.should_retry else "false",
    }
    if error.retry_after is not None:
        headers["retry_after"] = str(math.ceil(error.retry_after))
    headers.update({name.replace("-", "_"): value for name, value in error.headers.items()})
    return Response(error.status, Headers.of(**headers), Bytes(body), reason=REASONS.get(error.status, b""))


REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    402: b"Payment Required",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    416: b"Range Not Satisfiable",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    508: b"Loop Detected",
}
