from __future__ import annotations

import pytest

from proxy.openai.endpoint import endpoint


@pytest.mark.parametrize(
    ("request_line", "sort"),
    [
        ("POST /images/generations", "inference"),
        ("POST /images/edits?x=1", "inference"),
        ("POST /chat/completions", "inference"),
        ("GET /chat/completions", "stored"),
        ("GET /chat/completions/id", "stored"),
        ("POST /responses", "inference"),
        ("GET /responses/resp_a%2Fb", "stored"),
        ("DELETE /responses/resp_1", "stored"),
        ("POST /responses/resp_1/cancel", "stored"),
        ("POST /embeddings", "inference"),
        ("POST /audio/transcriptions", "inference"),
        ("POST /audio/voices", "stored"),
        ("GET /models", "inference"),
        ("GET /models/gpt-image-2", "inference"),
        ("DELETE /models/ft:x:y", "fine-tuning"),
        ("POST /fine_tuning/jobs", "fine-tuning"),
        ("POST /batches", "batches"),
        ("GET /batches/b/cancel", "batches"),
        ("POST /realtime/client_secrets", "client-secrets"),
        ("POST /realtime/sessions", "client-secrets"),
        ("POST /realtime/calls", "inference"),
        ("GET /organization/costs", "organization"),
        ("POST /files", "stored"),
        ("GET /files/f/content", "stored"),
        ("POST /videos", "inference"),
        ("GET /videos/v", "stored"),
        ("POST /something/new", "stored"),
        ("POST /images/generations/more", "stored"),
        ("GET /realtime", "stored"),
        ("GET /", "stored"),
    ],
)
def test_tells_the_sort_of_an_endpoint(request_line: str, sort: str) -> None:
    method, rest = request_line.split(" ")
    assert endpoint(method, rest) == sort


def test_a_socket_of_realtime_or_responses_is_inference() -> None:
    assert endpoint("GET", "/realtime?model=x", socket=True) == "inference"
    assert endpoint("GET", "/responses", socket=True) == "inference"
    assert endpoint("GET", "/files", socket=True) == "stored"
