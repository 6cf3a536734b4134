"""What is remembered of headers' names: each spelling once, and nothing without end."""

from __future__ import annotations

from proxy.model.names import LONGEST, LOWER, REMEMBERED, Judged


def test_each_spelling_is_judged_once_in_lower_case() -> None:
    asked: list[bytes] = []
    judged: Judged[int] = Judged(lambda name: asked.append(name) or len(name))
    assert [judged[name] for name in (b"X-A", b"x-a", b"X-A")] == [3, 3, 3] and asked == [b"x-a", b"x-a"]
    assert LOWER[b"Content-TYPE"] == b"content-type"


def test_a_client_that_makes_up_names_grows_nothing() -> None:
    judged: Judged[bytes] = Judged(lambda name: name)
    for number in range(REMEMBERED * 2 + 10):
        assert judged[b"X-%d" % number] == b"x-%d" % number
    assert len(judged) <= REMEMBERED + 1
    long = b"X" * (LONGEST + 1)
    before = len(judged)
    assert judged[long] == long.lower() and len(judged) == before and long not in judged
