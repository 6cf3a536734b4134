"""One field is changed, and nothing else: in JSON, in forms, in the query, whole, in pieces, and again."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.api import BodyTooLarge, Bytes, Headers, Rejected, Request, operation, parts, with_field, without_field
from proxy.openai.fields import steps

from .asking import LONG, Pieces, ask, whole
from .stretches import holder, one_stretch, paths

FORM = "multipart/form-data; boundary=B"
EDITS = "/v1/images/edits"


async def bytes_of(request: Request) -> bytes:
    """The body of a request, whose length must be as declared."""
    data = await whole(request.body)
    if request.body.length is not None:
        assert request.headers.get("content-length") == str(request.body.length) == str(len(data))
    else:
        assert "content-length" not in request.headers
    return data


@pytest.mark.parametrize(
    ("before", "field", "value", "after"),
    [
        ('{"model":"a","n":1}', "model", "b", '{"model":"b","n":1}'),
        (' { "n" : 1 , "model" : "a" } \n', "model", "ü🦊", ' { "n" : 1 , "model" : "ü🦊" } \n'),
        ('{"mod\\u0065l":"\\u0061"}', "model", None, '{"mod\\u0065l":null}'),
        ('{"a":{"model":"x"},"model":{"a":[1,"}"]}}', "model", 1, '{"a":{"model":"x"},"model":1}'),
        ('{"tools":[{"a":1},{"model":"a"}]}', "tools[1].model", "b", '{"tools":[{"a":1},{"model":"b"}]}'),
        ('{"tools":[{"type":"x"}]}', "tools[0].model", "b", '{"tools":[{"model":"b","type":"x"}]}'),
        ('{"input":["a", "b"]}', "input[1]", ["c"], '{"input":["a", ["c"]]}'),
        ("{}", "model", "b", '{"model":"b"}'),
        ("{ }", "model", "b", '{"model":"b" }'),
        ('{ "n":1}', "model", "b", '{"model":"b", "n":1}'),
        ('{"s":"\\"model\\":1,","model":2}', "model", 3, '{"s":"\\"model\\":1,","model":3}'),
    ],
)
async def test_sets_a_field_where_it_stands(before: str, field: str, value: Any, after: str) -> None:
    assert await bytes_of(await with_field(ask(before.encode()), field, value)) == after.encode()
    assert await bytes_of(await with_field(ask(Pieces(before.encode(), 3)), field, value)) == after.encode()


@pytest.mark.parametrize(
    ("before", "field", "after"),
    [
        ('{"a":1,"b":2,"c":3}', "a", '{"b":2,"c":3}'),
        ('{"a":1,"b":2,"c":3}', "b", '{"a":1,"c":3}'),
        ('{"a":1,"b":2,"c":3}', "c", '{"a":1,"b":2}'),
        ('{ "a" : 1 , "b" : 2 }', "a", '{ "b" : 2 }'),
        ('{ "a" : 1 , "b" : 2 }', "b", '{ "a" : 1 }'),
        ('{ "a" : 1 }', "a", "{  }"),
        ('{"a":[1,2,3]}', "a[1]", '{"a":[1,3]}'),
        ('{"a":{"b":1}}', "a.b", '{"a":{}}'),
        ('{"a":1}', "b", '{"a":1}'),
        ('{"a":1}', "a.b", '{"a":1}'),
        ('{"a":[1]}', "a[1]", '{"a":[1]}'),
    ],
)
async def test_takes_a_field_away_with_its_comma(before: str, field: str, after: str) -> None:
    assert await bytes_of(await without_field(ask(before.encode()), field)) == after.encode()
    assert await bytes_of(await without_field(ask(Pieces(before.encode(), 3)), field)) == after.encode()


async def test_what_is_not_there_leaves_the_request_as_it_is() -> None:
    request = ask(b'{"a":1}')
    assert await without_field(request, "response_format") is request


@pytest.mark.parametrize("path", ["", ".a", "a.", "a..b", "[0]", "a[", "a[x]", "a[01]", "a]b", "a[0]b."])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        steps(path)


async def test_nothing_can_be_put_where_nothing_holds_it() -> None:
    for field in ("a.b", "b[0]", "a[3]", "c.d"):
        with pytest.raises(ValueError, match="no object"):
            await with_field(ask(b'{"a":[1],"b":2}'), field, 1)


async def test_a_body_that_cant_be_read_is_refused_not_mended() -> None:
    for body in (b'{"a":1,"a":2}', b'{"a":', b'{"a":NaN}'):
        with pytest.raises(Rejected):
            await with_field(ask(body), "b", 1)
    with pytest.raises(BodyTooLarge):
        await with_field(ask(b'{"a":1}'), "a", 2, limit=6)
    with pytest.raises(Rejected) as caught:
        await with_field(ask(b"a=1", kind="application/x-www-form-urlencoded"), "a", 2)
    assert caught.value.status == 415


KEYS = st.sampled_from(["a", "model", "é", 'q"', "", "a.b", "[0]", "\\"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.sampled_from('a"\\/:,{}[]é🦊\n'), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
LAYOUTS: list[dict[str, Any]] = [
    {"separators": (",", ":"), "ensure_ascii": False},
    {"indent": 3},
    {"separators": (" ,\t", "\n: "), "ensure_ascii": True},
]


@settings(max_examples=120, deadline=None)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), st.sampled_from(LAYOUTS), VALUES, st.data())
async def test_any_field_of_any_document_can_be_changed_alone(
    document: dict[str, Any], layout: dict[str, Any], value: Any, data: st.DataObject
) -> None:
    body = json.dumps(document, **layout).encode()
    path = data.draw(st.sampled_from(paths(document)))
    size = data.draw(st.sampled_from([0, 1, 3, 50]))
    request = ask(Pieces(body, size) if size else body)
    changed = copy.deepcopy(document)
    old = holder(document, path)[path[-1]]
    holder(changed, path)[path[-1]] = value
    after = await bytes_of(await with_field(request, path, value))
    assert json.loads(after) == changed
    stretches = one_stretch(body, after, orjson.dumps(value))
    assert any(_is(stretch, old) for stretch in stretches)
    removed = copy.deepcopy(document)
    del holder(removed, path)[path[-1]]
    after = await bytes_of(await without_field(request, path))
    assert json.loads(after) == removed
    assert one_stretch(body, after, b"")
    await request.body.aclose()


def _is(stretch: bytes, value: Any) -> bool:
    try:
        return json.loads(stretch) == value  # type: ignore[no-any-return]
    except ValueError:
        return False


NAMES = ["model", "prompt", "image[]", "svg[model]", 'q"', "ü", "back\\slash"]
DATA = st.lists(st.sampled_from([b"a", b"\r\n", b"\0\xff", b"--", b"\r", b"\xc3\xbc"]), max_size=6).map(b"".join)


def form(fields: list[tuple[str, bytes]]) -> bytes:
    made = b"preamble\r\n"
    for name, value in fields:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        made += (
            f'--B\r\nX-Odd:  kept \r\ncontent-disposition: form-data; name="{quoted}"\r\n\r\n'.encode()
            + value
            + b"\r\n"
        )
    return made + b"--B--\r\nepilogue"


async def fields(request: Request) -> list[tuple[str, bytes]]:
    found = parts(request.body, request.headers.get("content-type"))
    return [(part.name, await part.body.read(10**6)) async for part in found]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), DATA, min_size=1), DATA, st.sampled_from([0, 1, 5, 64]), st.data())
async def test_any_field_of_any_form_can_be_changed_alone(
    held: dict[str, bytes], value: bytes, size: int, data: st.DataObject
) -> None:
    body = form(list(held.items()))
    name = data.draw(st.sampled_from(NAMES))
    request = ask(Pieces(body, size) if size else body, EDITS, FORM)
    changed = await with_field(request, name, value)
    after = await bytes_of(changed)
    if name in held:
        assert after == form([(one, value if one == name else old) for one, old in held.items()])
    else:
        assert await fields(changed) == [(name, value), *held.items()]
        assert any(stretch == b"" for stretch in one_stretch(body, after, after[10 : 10 + len(after) - len(body)]))
    without = await without_field(request, name)
    assert await bytes_of(without) == form([(one, old) for one, old in held.items() if one != name])
    await request.body.aclose()


async def test_a_form_field_is_written_as_forms_write_it() -> None:
    request = ask(form([("n", b"1"), ("stream", b"false")]), EDITS, FORM)
    request = await with_field(await with_field(request, "n", 2), "stream", True)
    found = await operation(await with_field(request, "model", "ü"))
    assert (found.n, found.stream, found.model) == (2, True, "ü")


async def test_a_form_is_not_broken_by_a_value() -> None:
    request = ask(form([("a", b"1")]), EDITS, FORM)
    for value in (b"--B", b"x\r\n--B--", b"--Bx"):
        with pytest.raises(ValueError, match="boundary"):
            await with_field(request, "a", value)
    for name in ("a\r\nb", "a\0"):
        with pytest.raises(ValueError, match="name"):
            await with_field(request, name, "x")


async def test_several_parts_of_a_name_are_no_field() -> None:
    request = ask(form([("image[]", b"1"), ("image[]", b"2")]), EDITS, FORM)
    with pytest.raises(ValueError, match="several"):
        await without_field(request, "image[]")


async def test_a_form_that_is_cut_off_is_refused_not_mended() -> None:
    request = ask(form([("model", b"a"), ("b", b"2")])[:-20], EDITS, FORM)
    with pytest.raises(Rejected):
        await with_field(request, "model", "b")


@pytest.mark.parametrize(
    ("target", "field", "value", "after"),
    [
        ("/v1/realtime?model=a&x=%20+", "model", "b c&d", "/v1/realtime?model=b%20c%26d&x=%20+"),
        ("/v1/realtime?x&mod%65l=a", "model", "b", "/v1/realtime?x&mod%65l=b"),
        ("/v1/realtime", "model", "ü", "/v1/realtime?model=%C3%BC"),
        ("/v1/realtime?x=1", "model", "b", "/v1/realtime?x=1&model=b"),
        ("/v1/realtime?a=1&model=b&c", "model", None, "/v1/realtime?a=1&c"),
        ("/v1/realtime?model=b", "model", None, "/v1/realtime"),
        ("/v1/realtime?a=1", "model", None, "/v1/realtime?a=1"),
    ],
)
async def test_a_parameter_of_the_query_is_changed_where_there_is_no_body(
    target: str, field: str, value: str | None, after: str
) -> None:
    request = ask(b"", target, None, method="GET")
    changed = await (without_field(request, field) if value is None else with_field(request, field, value))
    assert (changed.target, changed.body.length) == (after, 0)


async def test_a_parameter_given_twice_is_no_field() -> None:
    with pytest.raises(ValueError, match="several"):
        await with_field(ask(b"", "/v1/realtime?a=1&a=2", None, method="GET"), "a", "3")


BIG = orjson.dumps({"image": LONG, "model": "a", "images": [{"image_url": LONG}], "n": 1, "tools": [{"model": "t"}]})


@pytest.mark.parametrize("size", [1000, 65_536, 0])
async def test_a_long_body_is_rewritten_as_it_flows_as_often_as_it_is_sent(size: int) -> None:
    request = ask(Pieces(BIG, size) if size else Bytes(BIG), EDITS)
    changed = await with_field(
        await without_field(await with_field(request, "model", "bc"), "n"), "tools[0].model", "u"
    )
    expected = BIG.replace(b'"a"', b'"bc"').replace(b',"n":1', b"").replace(b'"t"', b'"u"')
    assert changed.body.now() is None
    for _ in range(3):
        assert await bytes_of(changed) == expected
    for one, two in itertools.zip_longest([p async for p in changed.body], [p async for p in changed.body]):
        assert one == two
    assert changed.body.keep(memory=1, limit=1) is changed.body
    assert (await operation(changed)).model == "bc" and (await operation(request)).model == "a"
    assert await whole(request.body.kept or request.body) == BIG
    await changed.body.aclose()


async def test_a_body_of_unknown_length_stays_so() -> None:
    request = ask(Pieces(BIG, 5000, length=False), EDITS, transfer_encoding="chunked")
    changed = await with_field(request, "model", "b")
    assert changed.body.length is None and await bytes_of(changed) == BIG.replace(b'"a"', b'"b"')


async def test_what_described_the_old_bytes_goes() -> None:
    request = ask(b'{"a":1}', content_digest="sha-256=:x:", x_other="kept")
    changed = await with_field(request, "a", 22)
    assert isinstance(changed.headers, Headers)
    assert "content-digest" not in changed.headers and changed.headers.get("x-other") == "kept"
    assert changed.headers.get("content-length") == "8"
    assert (await with_field(request, "a", 2)).headers.get("content-digest") is None
