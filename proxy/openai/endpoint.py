"""Which sort of endpoint a request is for, by method and path: what callers of one account share, and what not."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Endpoint = Literal["inference", "stored", "batches", "fine-tuning", "client-secrets", "organization"]

# What answers from the request alone. Whatever is not listed here or below touches objects that are stored under the
# upstream's account, which all callers share: an unknown path is taken for such a one, never for harmless.
INFERENCE = (
    ("POST", r"images/(generations|edits|variations)"),
    ("POST", r"(chat/)?completions|responses|responses/(input_tokens|compact)|embeddings|moderations|videos"),
    ("POST", r"audio/(speech|transcriptions|translations)"),
    ("POST", r"realtime/calls"),
    ("GET|HEAD", r"models(/[^/]+)?"),
    ("GET|HEAD|POST|PUT|PATCH|DELETE", r"framegate/limits"),  # answered here: it is the caller's own
)
REMEMBERED = 256  # decisions; a path is 8 KB at the most
SOCKETS = re.compile(r"realtime|responses")
CLIENT_SECRETS = re.compile(r"realtime/(client_secrets|sessions|transcription_sessions)(/.*)?")
NAMED = (
    ("batches", re.compile(r"batches(/.*)?")),
    ("fine-tuning", re.compile(r"fine_tuning(/.*)?|fine-tunes(/.*)?|models/.+")),  # models: DELETE of a tuned one
    ("organization", re.compile(r"(organization|organizations|projects|usage|dashboard)(/.*)?")),
)
_INFERENCE = tuple((frozenset(methods.split("|")), re.compile(path)) for methods, path in INFERENCE)


@lru_cache(REMEMBERED)
def endpoint(method: str, rest: str, *, socket: bool = False) -> Endpoint:
    """The sort of endpoint behind the prefix: `endpoint("POST", "/images/generations") == "inference"`."""
    path = rest.partition("?")[0].strip("/")
    if socket and method == "GET" and SOCKETS.fullmatch(path):
        return "inference"
    for methods, pattern in _INFERENCE:
        if method in methods and pattern.fullmatch(path):
            return "inference"
    if CLIENT_SECRETS.fullmatch(path):
        return "client-secrets"
    for name, pattern in NAMED:
        if pattern.fullmatch(path):
            return name  # type: ignore[return-value]
    return "stored"
