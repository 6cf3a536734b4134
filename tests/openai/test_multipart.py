"""Multipart, cut anywhere: what stands in it, where, and what is refused."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import MultipartReader, StreamReader
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api import Body, BodyConsumed, BodyTooLarge, Bytes, Part, Rejected, parts
from proxy.openai.multipart import HEADERS, PARTS, Splitter, boundary

from .asking import Pieces

KIND = "multipart/form-data; boundary=B"
BINARY = b"\0\xff\r\n\r\n--\r\n-B\r\n--A\n\r--b x--B"
FORM = (
    b"not read\r\n--B\r\n"
    b'Content-Disposition: form-data; name="prompt"\r\n\r\na fox\r\n--B\r\n'
    b'content-disposition:form-data;name="image[]" ; filename="a \\"b\\".png"\r\nContent-Type:\timage/png \r\n'
    b"X-More: \xff\r\n\r\n" + BINARY + b"\r\n--B\r\n"
    b"Content-Disposition: form-data; filename*=UTF-8''%e2%82%ac.png; filename=e.png; name=svg[model]\r\n\r\n"
    b"\r\n--B\r\n"
    b'Content-Disposition: form-data; name="\xc3\xbc \\\\ "; filename="C:\\dir\\f"\r\n\r\n\r\n\r\n--B--\r\nnot read'
)
Found = list[tuple[str, str | None, str | None, bytes]]


async def every(body: Body, kind: str = KIND) -> Found:
    return [
        (part.name, part.filename, part.content_type, await part.body.read(10**6)) async for part in parts(body, kind)
    ]


@pytest.mark.parametrize("size", range(1, 40))
async def test_reads_the_same_at_every_cut(size: int) -> None:
    assert await every(Pieces(FORM, size)) == [
        ("prompt", None, None, b"a fox"),
        ("image[]", 'a "b".png', "image/png", BINARY),
        ("svg[model]", "€.png", None, b""),
        ("ü \\ ", "C:\\dir\\f", None, b"\r\n"),
    ]


async def test_reads_the_same_when_cut_in_two_anywhere() -> None:
    expected = await every(Bytes(FORM))
    for at in range(len(FORM)):

        class Two(Pieces):
            async def __aiter__(self):  # type: ignore[no-untyped-def]
                yield FORM[:at]  # noqa: B023 - used before it moves on
                yield FORM[at:]  # noqa: B023

        assert await every(Two(FORM)) == expected


@pytest.mark.parametrize("size", [1, 5, 10**6])
async def test_says_where_everything_stands(size: int) -> None:
    found: list[Part] = []
    async for part in parts(Pieces(FORM, size), KIND):
        found.append(part)
    for part, after in zip(found, [*found[1:], None], strict=True):
        assert FORM[part.start : part.data] == b"--B\r\n" + part.raw + b"\r\n\r\n"
        assert FORM[part.end :].startswith(b"\r\n--B") and part.after == part.end + 2
        assert after is None or after.start == part.after
    assert FORM[found[1].data : found[1].end] == BINARY
    assert found[1].headers == (
        (b"content-disposition", b'form-data;name="image[]" ; filename="a \\"b\\".png"'),
        (b"Content-Type", b"image/png"),
        (b"X-More", b"\xff"),
    )
    assert "fox" not in repr(found)


async def test_a_part_is_pulled_as_it_comes() -> None:
    body = Pieces(FORM[:-20].replace(b"a fox", b"f" * 1000), 100)
    async for part in parts(body, KIND):
        sizes = [len(piece) async for piece in part.body]
        assert len(sizes) >= 10 and sum(sizes) == 1000
        break


async def test_a_part_is_read_within_a_limit_and_may_be_kept() -> None:
    async for part in parts(Pieces(FORM, 3), KIND):
        if part.name == "prompt":
            with pytest.raises(BodyTooLarge):
                await part.body.read(3)
        if part.name == "image[]":
            kept = part.body.keep(memory=4, limit=1000)
            assert await kept.read(1000) == await kept.read(1000) == BINARY
            await kept.aclose()


async def test_a_part_is_read_once_and_before_the_next() -> None:
    before: Part | None = None
    async for part in parts(Pieces(FORM, 3), KIND):
        if before is not None:
            with pytest.raises(BodyConsumed):
                await before.body.read(1000)
        await part.body.read(1000)
        with pytest.raises(BodyConsumed):
            await part.body.read(1000)
        before = part


async def test_a_reader_of_one_part_gets_nothing_of_the_next() -> None:
    found = parts(Pieces(FORM, 3), KIND)
    await anext(found)
    reader = aiter((await anext(found)).body)
    await anext(reader)
    assert (await anext(found)).name == "svg[model]"
    with pytest.raises(BodyConsumed, match="next part"):
        await anext(reader)
    await found.aclose()


def test_a_form_without_parts_is_a_form() -> None:
    splitter = Splitter(b"B")
    assert list(splitter.feed(b"--B--")) == []
    splitter.finish()


HEAD = b'--B\r\nContent-Disposition: form-data; name="a"\r\n'
WRONG = {
    "empty": b"",
    "no boundary": b"a=b",
    "another boundary": HEAD.replace(b"--B", b"--C") + b"\r\nx\r\n--C--\r\n",
    "no last boundary": HEAD + b"\r\nx",
    "a boundary that is not the last": HEAD + b"\r\nx\r\n--B\r\n",
    "half of the last boundary": HEAD + b"\r\nx\r\n--B-",
    "no headers": b"--B\r\n\r\nx\r\n--B--",
    "no end of headers": HEAD + b"x\r\n--B--",
    "line feeds alone": (HEAD + b"\r\nx\r\n--B--").replace(b"\r\n", b"\n"),
    "a line feed alone in the headers": HEAD[:-2] + b"\n\r\n\r\nx\r\n--B--",
    "a carriage return alone in the headers": HEAD[:-2] + b"\rX: y\r\n\r\nx\r\n--B--",
    "NUL in the headers": HEAD + b"X: \0\r\n\r\nx\r\n--B--",
    "a space before the colon": HEAD + b"X : y\r\n\r\nx\r\n--B--",
    "a folded header": HEAD + b" x\r\n\r\nx\r\n--B--",
    "a boundary in the headers": HEAD + b"--B\r\n\r\nx\r\n--B--",
    "a boundary instead of data": HEAD + b"\r\n--B--",
    "a boundary after a line feed": HEAD + b"\r\nx\n--B\r\n\r\nx\r\n--B--",
    "a boundary after a carriage return": HEAD + b"\r\nx\r--B\r\n\r\nx\r\n--B--",
    "a boundary with more on its line": HEAD + b"\r\nx\r\n--BB\r\n\r\nx\r\n--B--",
    "a boundary with a blank behind it": HEAD + b"\r\nx\r\n--B \r\n\r\nx\r\n--B--",
    "a preamble with a line feed": b"\n" + HEAD + b"\r\nx\r\n--B--",
    "words on the last line": HEAD + b"\r\nx\r\n--B--x",
    "one byte on the last line": HEAD + b"\r\nx\r\n--B--\n",
    "a boundary in the epilogue": HEAD + b"\r\nx\r\n--B--\r\n" + HEAD + b"\r\ny\r\n--B--",
    "long headers": HEAD + b"X: " + b"y" * HEADERS + b"\r\n\r\nx\r\n--B--",
    "headers without end": HEAD + b"X: " + b"y" * (2 * HEADERS),
    "too many parts": (HEAD + b"\r\nx\r\n") * (PARTS + 1) + b"--B--",
}


@pytest.mark.parametrize("size", [1, 4, 1000, 10**6])
@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
async def test_refuses_what_is_malformed(body: bytes, size: int) -> None:
    if size == 1 and len(body) > 10_000:
        size = 100
    with pytest.raises(Rejected, match="multipart") as caught:
        await every(Pieces(body, size))
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")


async def test_many_blanks_in_a_header_take_no_longer_than_others() -> None:
    raw = HEAD + b"X:" + b" " * (HEADERS - 100) + b"\x01\r\n\r\nx\r\n--B--"
    with pytest.raises(Rejected):  # at once: it took seconds where blanks were tried at every length
        await every(Bytes(raw))


@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data;charset=utf-8;Boundary="a b:c"', b"a b:c"),
        ("multipart/form-data; boundary=" + "x" * 70, b"x" * 70),
    ],
)
def test_finds_the_boundary(kind: str, mark: bytes) -> None:
    assert boundary(kind) == mark


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (None, 415),
        ("multipart/mixed; boundary=B", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ('multipart/form-data; boundary=""', 400),
        ('multipart/form-data; boundary="a "', 400),
        ('multipart/form-data; boundary="a', 400),
        ("multipart/form-data; boundary=" + "x" * 71, 400),
        ("multipart/form-data; boundary=a; boundary=b", 400),
        ("multipart/form-data; boundary=a; BOUNDARY=a", 400),
        ("multipart/form-data; boundary*=utf-8''a", 400),
        ("multipart/form-data; boundary=a\u00e9", 400),
        ("multipart/form-data, boundary=a", 415),
    ],
)
def test_refuses_a_content_type_without_one_boundary(kind: str | None, status: int) -> None:
    with pytest.raises(Rejected) as caught:
        boundary(kind)
    assert caught.value.status == status


PIECE = st.sampled_from([b"\r\n", b"--B", b"--", b"-", b"B", b"\n", b"\r", b"x", b"\0\xff", b"--B--", b" "])
DATA = st.lists(PIECE, max_size=8).map(b"".join)


async def reference(body: bytes) -> Found:
    """What aiohttp's reader finds, which shares nothing with ours."""
    stream = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16)
    stream.feed_data(body)
    stream.feed_eof()
    found: Found = []
    reader = MultipartReader({"Content-Type": KIND}, stream)
    while (part := await reader.next()) is not None:
        assert not isinstance(part, MultipartReader)
        data = bytes(await part.read(decode=False))
        found.append((part.name or "", part.filename, part.headers.get("Content-Type"), data))
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b[]", "c[d]"]), st.sampled_from([None, "f.png"]), DATA), min_size=1, max_size=3
    ),
    st.integers(1, 30),
)
async def test_finds_what_another_reader_finds(made: list[tuple[str, str | None, bytes]], size: int) -> None:
    body = b""
    for name, filename, data in made:
        more = f'; filename="{filename}"\r\nContent-Type: image/png' if filename else ""
        body += f'--B\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"
    body += b"--B--\r\n"
    # A boundary at the beginning of what anybody might take for a line.
    if any((b"\n" + data).replace(b"\r", b"\n").count(b"\n--B") for _, _, data in made):
        with pytest.raises(Rejected):
            await every(Pieces(body, size))
        return
    found = await every(Pieces(body, size))
    assert found == [(name, file, "image/png" if file else None, data) for name, file, data in made]
    assert found == await reference(body)
