"""Strict reading at speed finds what a slow and simple reader finds, in whole documents and at every cut."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api import Rejected, operation
from proxy.openai.strict import LONG, NotAHole, Skeleton, read

from .asking import Pieces, ask, whole

BLANK = st.sampled_from(["", "", "", " ", "\n", "\t\r "])
TEXT = st.text(st.sampled_from('ab:"\\/{}[],é🦊\n \x00u0022'), max_size=6)


def quoted(text: str) -> st.SearchStrategy[str]:
    """The ways to write a string."""
    every = "".join(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else json.dumps(char)[1:-1] for char in text)
    return st.sampled_from([json.dumps(text), json.dumps(text, ensure_ascii=False), f'"{every}"'])


@st.composite
def documents(draw: st.DrawFn, depth: int = 3) -> str:
    """JSON with white space anywhere, escapes, and now and then a key given twice."""
    kind = draw(st.integers(0, 5 if depth else 2))
    before, after = draw(BLANK), draw(BLANK)
    if kind == 0:
        made = draw(st.sampled_from(["0", "-1", "1.5e3", "true", "null", "18446744073709551616"]))
    elif kind <= 2:
        made = draw(quoted(draw(TEXT)))
    elif kind == 3:
        made = "[" + ",".join(draw(st.lists(documents(depth - 1), max_size=3))) + draw(BLANK) + "]"
    else:
        keys = draw(st.lists(st.sampled_from(["a", ":", '":', "é", "ab"]), max_size=3))
        pairs = [f"{draw(BLANK)}{draw(quoted(key))}{draw(BLANK)}:{draw(documents(depth - 1))}" for key in keys]
        made = "{" + ",".join(pairs) + draw(BLANK) + "}"
    return before + made + after


def plainly(data: bytes) -> Any:
    """What a reader says that looks at every pair, or None where a key is given twice."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in found}) < len(found):
            raise KeyError
        return dict(found)

    try:
        return [json.loads(data, object_pairs_hook=pairs)]
    except KeyError:
        return None


@settings(max_examples=150, deadline=None)
@given(documents())
def test_finds_every_key_given_twice_and_no_other(document: str) -> None:
    data = document.encode()
    expected = plainly(data)
    if expected is not None:
        assert [read(data)] == expected
        return
    with pytest.raises(Rejected, match="twice"):
        read(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
def test_either_reads_any_bytes_or_refuses_them_in_words(data: bytes) -> None:
    with contextlib.suppress(Rejected):
        assert read(data) == orjson.loads(data)


PART = "iVBORw0KGgo+/=_-"
DOCUMENT = {
    "model": "gpt-image-2",
    "prompt": 'say "x\\" \\\\ ü' * 5,
    "images": [
        {"image_url": "data:image/png;base64," + PART * 300},
        {"image_url": "DATA:image/png;name=a;base64," + PART * 257},
        PART * 256,
    ],
    "short": "data:image/png;base64," + PART,
    "text": "word " * 1000,
    "late": PART * 256 + "\u00fc",
    "last": {"a": [1, 2]},
}


def skeleton(data: bytes, size: int, *, holes: bool = True) -> Skeleton:
    found = Skeleton(holes=holes)
    for at in range(0, len(data), size):
        found.feed(data[at : at + size])
    found.finish()
    return found


def filled(found: Skeleton, data: bytes) -> bytes:
    """The skeleton with everything put back into its holes."""
    document = bytes(found.document)
    for hole in reversed(found.holes):
        word = hole.word.encode()
        assert document[hole.at :].startswith(word)
        document = document[: hole.at] + data[hole.start :][: hole.length] + document[hole.at + len(word) :]
    return document


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, LONG - 1, LONG, LONG + 1, 10**6])
def test_leaves_long_base64_where_it_is_however_it_is_cut(size: int) -> None:
    document = {key: value for key, value in DOCUMENT.items() if key != "late"}
    data = orjson.dumps(document)
    found = skeleton(data, size)
    assert [hole.head for hole in found.holes] == ["data:image/png;base64,", "DATA:image/png;name=a;base64,", ""]
    assert filled(found, data) == data
    assert len(found.document) < len(data) - 3 * LONG
    edges = (0, 1, found.document.index(b'"last"'), len(found.document) - 1)
    assert [data[found.place(at) :][:3] for at in edges] == [b'{"m', b'"mo', b'"la', b"}"]
    read(bytes(found.document), nonce=found.nonce)


@pytest.mark.parametrize("size", [5, 1000, 10**6])
@pytest.mark.parametrize("odd", [" ", "\n", "\\u0041", "ü", "!", "%"])
def test_what_goes_on_as_something_else_is_no_hole(size: int, odd: str) -> None:
    data = f'{{"prompt":"{PART * 300}{odd}{PART}"}}'.encode()
    with pytest.raises(NotAHole):
        skeleton(data, size)
    assert bytes(skeleton(data, size, holes=False).document) == data


async def test_a_text_that_begins_like_a_picture_is_read_whole() -> None:
    prompt = "A" * 70_000 + " and now draw something else"
    for body in (request := orjson.dumps({"prompt": prompt}), Pieces(request, 1000)):
        assert (await operation(ask(body))).texts == (("prompt", prompt, "user"),)


async def test_base64_in_the_place_of_a_text_is_said_to_be_unseen() -> None:
    found = await operation(ask(orjson.dumps({"prompt": "QUJD" * 20_000})))
    assert found.texts == () and str(found.unseen[0]) == "prompt: 80000 characters of base64 in the place of a text"


async def test_a_word_that_stands_for_a_hole_cant_be_written_by_the_client() -> None:
    body = orjson.dumps({"image": "A" * 70_000, "prompt": "0" * 32 + "-0"})
    found = await operation(ask(body))
    assert found.texts == (("prompt", "0" * 32 + "-0", "user"),)


async def test_a_document_over_the_limit_is_unseen_and_goes_on_whole() -> None:
    data = orjson.dumps({"model": "m", "prompt": "x" * 5000})
    for length in (True, False):
        request = ask(Pieces(data, 100, length=length), "/v1/images/generations?model=q")
        found = await operation(request, limit=1000)
        assert (found.kind, found.model, found.texts) == ("generate", "q", ())
        assert [str(one) for one in found.unseen] == ["the body: it is larger than 1000 bytes"]
        assert await whole(request.body.kept or request.body) == data
    assert (await operation(ask(data), limit=1000)).unseen == found.unseen


async def test_several_ask_and_it_is_read_once() -> None:
    body = Pieces(orjson.dumps({"model": "m"}), 3)
    request = ask(body)
    found = await operation(request)
    assert await operation(request.with_headers(x_trace="1").to("other")) is found
    assert await operation(request.with_body(body.keep(memory=1, limit=1))) is found
    assert body.passes == 1
    assert (await operation(request.with_target("/v1/chat/completions"))).kind == "chat"
    assert (await operation(request.with_body(b'{"model":"b"}'))).model == "b"
    assert body.passes == 1


async def test_requests_without_a_body_share_nothing() -> None:
    assert (await operation(ask(b"", "/v1/models", None, method="GET"))).kind == "other"
    plain = ask(b"", "/v1/realtime?model=r", None, method="GET").with_body(ask().body)
    assert (await operation(plain)).model == "r"


async def test_words_in_odd_places_are_texts_and_secrets_are_not() -> None:
    server = {
        "type": "mcp",
        "server_label": "l",
        "server_url": "https://a/",
        "authorization": "s3cret",
        "headers": {"a": "s3cret"},
    }
    document = {
        "model": "m",
        "input": [{"role": "a pirate", "content": "x", "more": [{"say this aloud": True}]}],
        "tools": [server],
        "new_field": {"inner": ["y"]},
    }
    found = await operation(ask(orjson.dumps(document), "/v1/responses"))
    assert [text[:2] for text in found.texts] == [
        ("input[0].role", "a pirate"),
        ("input[0].content", "x"),
        ("input[0].more[0].say this aloud", "say this aloud"),
        ("tools[0].server_label", "l"),
        ("new_field.inner[0]", "y"),
    ]
    assert [str(one) for one in found.unseen] == [
        "tools[0].server_url: tools of another server, fetched by the upstream"
    ]
