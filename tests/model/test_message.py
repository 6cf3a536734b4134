"""Headers, requests and responses: values that keep what they do not change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model.body import Body, Bytes
from proxy.model.message import Headers, Request, Response
from proxy.model.slots import Slot

RAW = ((b"X-b", b"1"), (b"x-A", b"caf\xc3\xa9 \xff"), (b"X-B", b"3"))
NAMES = st.text("abcXYZ-", min_size=1, max_size=6).filter(lambda name: not name.startswith("-"))
VALUES = st.binary(max_size=12).map(lambda raw: raw.translate(None, b"\r\n\0").strip(b" \t"))


class Unknown(Body):
    """A body of unknown length."""

    length = None

    def now(self) -> None:
        return None


def test_headers_are_found_in_any_case_and_kept_in_their_own() -> None:
    headers = Headers(RAW)
    assert headers.get("x-B") == "1" and headers.getall("X-b") == ["1", "3"]
    assert "x-a" in headers and "y" not in headers and headers.get("y") is None
    assert headers.raw == RAW


def test_any_bytes_survive_the_way_through_text() -> None:
    headers = Headers(RAW)
    assert headers.replaced(x_a=headers.get("x-a")).raw == RAW


def test_a_replaced_header_stands_where_the_first_of_its_name_stood() -> None:
    assert Headers(RAW).replaced(x_b="new", y="added").raw == (
        (b"X-b", b"new"),
        (b"x-A", b"caf\xc3\xa9 \xff"),
        (b"y", b"added"),
    )


def test_a_header_set_to_none_is_gone_with_all_its_repeats() -> None:
    assert Headers(RAW).replaced(x_b=None, never=None).raw == (RAW[1],)


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b", "a\r\nSet-Cookie: x"])
def test_a_value_can_not_break_out_of_its_line(value: str) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Headers().replaced(x=value)
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Response(200).with_headers(x=value)


@given(raw=st.lists(st.tuples(NAMES.map(str.encode), VALUES), max_size=8), name=NAMES, value=VALUES)
def test_replacing_one_header_leaves_every_other_as_it_was(
    raw: list[tuple[bytes, bytes]], name: str, value: bytes
) -> None:
    headers = Headers(raw).replaced(**{name: value.decode("utf-8", "surrogateescape")})
    key = name.lower().encode()
    assert [pair for pair in headers.raw if pair[0].lower() != key] == [pair for pair in raw if pair[0].lower() != key]
    assert [pair[1] for pair in headers.raw if pair[0].lower() == key] == [value]


def test_headers_show_their_names_and_never_their_values() -> None:
    assert repr(Headers(((b"Authorization", b"Bearer sk-secret"),))) == "Headers(Authorization)"


def test_a_request_is_changed_by_making_another() -> None:
    request = Request("POST", "/v1/x?a=%2F", Headers(RAW), Bytes(b"hi"))
    assert request.path == "/v1/x"
    assert request.to("a").upstream == "a" and request.upstream is None
    assert request.with_target("/y").target == "/y" and request.with_target("/y").body is request.body
    assert request.with_headers(x_b=None).headers.raw == (RAW[1],) and request.headers.raw == RAW
    with pytest.raises(AttributeError):
        request.method = "GET"  # type: ignore[misc]


def test_another_body_brings_its_own_length() -> None:
    request = Request("POST", "/", Headers(((b"Content-LENGTH", b"2"), (b"X", b"1"))), Bytes(b"hi"))
    assert request.with_body(b"hello").headers.raw == ((b"Content-LENGTH", b"5"), (b"X", b"1"))
    assert request.with_body(Unknown()).headers.raw == ((b"X", b"1"),)
    assert request.with_body(b"ho").headers is request.headers


def test_a_body_of_known_length_ends_the_chunks() -> None:
    request = Request("POST", "/", Headers(((b"Transfer-Encoding", b"chunked"),)), Unknown())
    assert request.with_body(b"hi").headers.raw == ((b"content-length", b"2"),)


def test_a_rewritten_answer_says_nothing_of_the_old_bytes() -> None:
    names = (b"Content-Length", b"content-encoding", b"ETag", b"Digest", b"Content-Digest", b"Repr-Digest", b"X")
    response = Response(200, Headers(tuple((name, b"1") for name in names)), Bytes(b"x"))

    async def same(pieces):
        async for piece in pieces:
            yield piece

    assert response.through(same).headers.raw == ((b"X", b"1"),)
    assert response.with_body(b"abc").headers.raw == ((b"X", b"1"), (b"content-length", b"3"))
    assert response.with_headers(x="2").body is response.body
    assert response.through() is response


def test_facts_go_with_every_answer_derived_from_one() -> None:
    seen: Slot[int] = Slot("seen")
    response = Response(200)
    response.with_headers(x="1").with_body(b"y").facts[seen] = 1
    assert response.facts[seen] == 1 and seen not in Response(200).facts


def test_messages_show_no_content() -> None:
    request = Request("POST", "/v1/x?key=secret", Headers(((b"A", b"secret"),)), Bytes(b"secret"))
    assert "secret" not in repr(request) + repr(Response(200, request.headers, request.body))
