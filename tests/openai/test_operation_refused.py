"""What two readers could read differently is refused, whichever of them would be right."""

from __future__ import annotations

import pytest

from proxy.api import Headers, Rejected, Request, operation

from .asking import Pieces, ask

EDITS = "/v1/images/edits"
FORM = "multipart/form-data; boundary=B"
NO_COUNTS = ("", "-1", "0", "01", "+1", " 1", "1.0", "1e3", "x", "\u0663", "129", "9" * 99)
BIG = '"image":"data:image/png;base64,' + "A" * 70_000 + '"'


def form(*parts: str) -> bytes:
    return "".join(f"--B\r\n{part}\r\n" for part in parts).encode("utf-8", "surrogateescape") + b"--B--\r\n"


def field(name: str, value: str, more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}'


async def refused(request: Request) -> Rejected:
    """How it is refused; the same however it comes."""
    with pytest.raises(Rejected) as caught:
        await operation(request)
    data = request.body.now()
    assert data is not None
    pieces = Pieces(data, 100 + len(data) // 100)
    with pytest.raises(Rejected) as again:
        await operation(request.with_body(pieces))
    await pieces.aclose()
    assert (caught.value.status, caught.value.param) == (again.value.status, again.value.param)
    assert len(str(caught.value)) < 250
    return caught.value


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model":"a","model":"b"}', "model"),
        (b'{"model":"a","mod\\u0065l":"b"}', "model"),
        (b'{"mod\\u0065l":"a","model" :"b"}', "model"),
        (b'{"model"\n:"a","model"\t: "a"}', "model"),
        (b'{"prompt":"\\u0022:","n":1,"n":2}', "n"),
        (b'{"prompt":"\\":","n":1,"n":2}', "n"),
        (b'{"n":":","n":":::"}', "n"),
        (b'{"a":{"b":[{"c":1,"c":1}]}}', "c"),
        (b'{"messages":[{"role":"user","content":"x","content":"y"}]}', "content"),
        (b'{"":1,"":2}', ""),
        (f'{{{BIG},"prompt":"a","prompt":"b"}}'.encode(), "prompt"),
        (f"{{{BIG},{BIG.replace('A', 'B')}}}".encode(), "image"),
        (f'{{"{"A" * 70_000}":1,"{"A" * 70_000}":2}}'.encode(), None),
        (b'{"Model":"a"}', "Model"),
        (b'{"model":"a","MODEL":"b"}', "MODEL"),
        (b'{"N":5}', "N"),
        (b'\xef\xbb\xbf{"model":"a"}', None),
        ('{"model":"a"}'.encode("utf-16"), None),
        (b'{"prompt":"\xff"}', None),
        (b'{"prompt":"\xed\xa0\x80"}', None),
        (b'{"prompt":"\xc0\xaf"}', None),
        (b'{"prompt":"\\ud800"}', None),
        (b'{"prompt":"\\udc00\\ud800"}', None),
        (b'{"prompt":"a\nb"}', None),
        (b'{"prompt":"a\x00b"}', None),
        (b'{"prompt":"\\x41"}', None),
        (b'{"n":NaN}', None),
        (b'{"a":Infinity}', None),
        (b'{"a":-Infinity}', None),
        (b'{"n":01}', None),
        (b'{"n":+1}', None),
        (b'{"n":.5}', None),
        (b'{"n":' + b"1" * 5000 + b"}", None),
        (b'{"n":1e400}', None),
        (b'{"a":1,}', None),
        (b"{'a':1}", None),
        (b'{"a":1} {"a":2}', None),
        (b'{"a":1}//x', None),
        (b"{", None),
        (b" ", None),
        (b"null", None),
        (b'"model"', None),
        (b'[{"model":"a"}]', None),
        (b'{"a":' + b"[" * 128 + b"]" * 128 + b"}", None),
        (b'{"a":' * 900 + b"1" + b"}" * 900, None),
        (b"[" * 100_000, None),
        (b'{"a":[' + b"[]," * 2**19 + b"[]]}", None),
        (b"[" + b"{},1," * 2**18, None),
        (f'{{{BIG[:-1]}"'.encode(), None),
        (f'{{{BIG[:-1]}\\"'.encode(), None),
    ],
)
async def test_refuses_json_that_two_readers_could_read_differently(body: bytes, param: str | None) -> None:
    error = await refused(ask(body))
    assert (error.status, error.code, error.param) == (400, "invalid_request", param)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("n", value) for value in ("-1", "0", "1e0", "1.0", "2.5", '"2"', "true", "1" * 10, "129", "[1]", "2e2")),
        *((name, "1") for name in ("model", "size", "quality", "background", "output_format", "user", "prompt")),
        *((name, '["a"]') for name in ("model", "prompt", "response_format", "safety_identifier")),
        ("stream", '"true"'),
        ("stream", "1"),
    ],
)
async def test_refuses_a_value_that_decides_and_cant_be_read(name: str, value: str) -> None:
    error = await refused(ask(f'{{"{name}":{value}}}'.encode()))
    assert (error.status, error.param) == (400, name)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/v1/chat/completions", "max_tokens"),
        ("/v1/chat/completions", "max_completion_tokens"),
        ("/v1/completions", "max_tokens"),
        ("/v1/completions", "best_of"),
        ("/v1/responses", "max_output_tokens"),
        ("/v1/images/generations", "partial_images"),
    ],
)
@pytest.mark.parametrize("value", ["-1", "1e3", "1.0", "1000000000", '"5"', "true", "[1]", "{}"])
async def test_refuses_an_amount_that_is_none(target: str, name: str, value: str) -> None:
    error = await refused(ask(f'{{"model":"m","{name}":{value}}}'.encode(), target))
    assert (error.status, error.code, error.param) == (400, "invalid_request", name)


async def test_refuses_an_amount_in_other_letters_and_in_a_tool() -> None:
    error = await refused(ask(b'{"Max_Tokens":5}', "/v1/chat/completions"))
    assert (error.status, error.param) == (400, "Max_Tokens")
    body = b'{"tools":[{"type":"image_generation","partial_images":-1}]}'
    error = await refused(ask(body, "/v1/responses"))
    assert (error.status, error.param) == (400, "tools[0].partial_images")


async def test_refuses_a_tool_that_draws_with_what_is_no_model() -> None:
    body = b'{"tools":[{"type":"function"},{"type":"image_generation","model":["a"]}]}'
    error = await refused(ask(body, "/v1/responses"))
    assert (error.status, error.param) == (400, "tools[1].model")


@pytest.mark.parametrize(
    ("kind", "headers", "status"),
    [
        (None, {}, 415),
        ("text/plain", {}, 415),
        ("text/json", {}, 415),
        ("application/x-www-form-urlencoded", {}, 415),
        ("application/json; charset=utf-16", {}, 415),
        ("application/json; charset=latin-1", {}, 415),
        ('application/json; charset="utf-7"', {}, 415),
        ("application/json; charset=utf-8; charset=utf-16", {}, 400),
        ("application/json; charset", {}, 400),
        ("multipart/mixed; boundary=B", {}, 415),
        ("multipart/form-data", {}, 400),
        (FORM, {}, 400),
        ("application/json", {"content_encoding": "gzip"}, 415),
        ("application/json", {"content_encoding": "identity, br"}, 415),
    ],
)
async def test_refuses_what_does_not_say_what_it_is(kind: str | None, headers: dict[str, str], status: int) -> None:
    error = await refused(ask(b'{"model":"a"}', EDITS, kind, **headers))
    assert (error.status, error.code) == (status, "unsupported_encoding" if status == 415 else "invalid_request")


async def test_refuses_two_content_types() -> None:
    request = ask(b'{"model":"a"}')
    twice = Headers((*request.headers.raw, (b"CONTENT-TYPE", b"text/plain")))
    error = await refused(Request("POST", request.target, twice, request.body))
    assert error.status == 400


async def test_refuses_a_form_that_says_json_and_a_form_where_there_are_none() -> None:
    assert (await refused(ask(form(field("prompt", "x")), EDITS))).status == 400
    assert (await refused(ask(form(field("messages", "x")), "/v1/chat/completions", FORM))).status == 415


@pytest.mark.parametrize(
    ("parts", "status", "param"),
    [
        ([field("prompt", "a"), field("prompt", "b")], 400, "prompt"),
        ([field("image", "a", '; filename="a"'), field("image", "b", '; filename="b"')], 400, "image"),
        ([field("model", "a"), 'Content-Disposition: form-data; name="model"; filename="x"\r\n\r\nb'], 400, "model"),
        ([field("prompt", "a", '; filename="a.txt"')], 400, "prompt"),
        ([field("Model", "a")], 400, "Model"),
        ([field("model[]", "a")], 400, "model"),
        ([field("n[x]", "1")], 400, "n"),
        *(
            [[field("n", value)], 400, "n"]
            for value in ("", "-1", "0", "01", "+1", " 1", "1.0", "1e3", "x", "٣", "129", "9" * 99)
        ),
        *(([field("partial_images", value)], 400, "partial_images") for value in ("-1", "x", "1.0", "129", "9" * 99)),
        ([field("stream", "yes")], 400, "stream"),
        ([field("prompt", "\udcff")], 400, "prompt"),
        ([field("_charset_", "utf-16")], 415, None),
        ([field("prompt", "x", "\r\nContent-Type: text/plain; charset=utf-7")], 415, None),
        ([field("prompt", "eA==", "\r\nContent-Transfer-Encoding: base64")], 415, None),
        ([field("a", "x", "; name=model")], 400, None),
        ([field("a", "x", "; name*=utf-8''model")], 400, None),
        ([field("mod\\el", "x")], 400, None),
        ([field("a", "x", '\r\nContent-Disposition: form-data; name="model"')], 400, None),
        ([field("a", "x", "\r\nContent-Type: text/plain\r\nContent-Type: text/html")], 400, None),
        ([field("a", "x", ";\r\n name=model")], 400, None),
        (["Content-Type: text/plain\r\n\r\nx"], 400, None),
        (["Content-Disposition: attachment; name=a\r\n\r\nx"], 400, None),
        (["\r\n\r\nx"], 400, None),
        ([field("a", 'x\n--B\nContent-Disposition: form-data; name="model"\n\nb')], 400, None),
        ([field("a", "x\r\n--Bx\r\ny")], 400, None),
        ([field("a", "x\r\n--B \r\ny")], 400, None),
        ([field("a", "x\r\n--B--x\r\ny")], 400, None),
    ],
)
async def test_refuses_a_form_that_two_readers_could_read_differently(
    parts: list[str], status: int, param: str | None
) -> None:
    error = await refused(ask(form(*parts), EDITS, FORM))
    assert (error.status, error.param) == (status, param)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/images/Generations",
        "/v1/images/generations/",
        "/v1//images/generations",
        "/v1/images/gener%61tions",
        "/v1/images%2Fgenerations",
        "/openai/deployments/d/images/generations/",
        "/v1/images/generations?model=a&model=a",
        "/v1/images/generations?model=a&mod%65l=b",
        "/v1/images/generations?Model=a",
        "/v1/images/generations?model=b",
        "/v1/images/generations?deployment=b&model=a",
    ],
)
async def test_refuses_a_target_that_can_be_read_in_two_ways(target: str) -> None:
    error = await refused(ask(b'{"model":"a"}', target))
    assert (error.status, error.code) == (400, "invalid_request")


async def test_the_deployment_of_the_path_decides_over_the_model_of_the_body() -> None:
    found = await operation(ask(b'{"model":"a"}', "/openai/deployments/d/images/generations?api-version=1"))
    assert (found.kind, found.model) == ("generate", "d")


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b"[" * 127 + b"]" * 127 + b"}",
        b'{"a":' * 128 + b"1" + b"}" * 128,
        b'{"prompt":"' + b"[{" * 5000 + b'"}',
        b'{"prompt":"' + b"a,[" * 2**18 + b'"}',
        b'{"prompt":"\\u0022:\\u0022: \\":"}',
        b'{"prompt":"\\ud83e\\udd8a \\\\ud800"}',
        b'\r\n\t {"n" : 1 , "prompt" : null}\n',
        b'{"metadata":{"model":"x"},"new_thing":{"n":-1}}',
        b'{"modality":"x","ns":1,"streams":1}',
        b'{"n":128}',
    ],
)
async def test_does_not_refuse_what_is_read_alike_by_all(body: bytes) -> None:
    assert (await operation(ask(body))).kind == "generate"


async def test_a_request_is_not_printed_with_what_it_asks_for() -> None:
    found = await operation(ask(b'{"prompt":"a private matter","model":"m"}'))
    assert repr(found) == "Operation(generate, model='m', n=1, 1 texts, 0 images, 0 unseen)"


async def test_what_is_uploaded_under_another_name_is_no_picture() -> None:
    found = await operation(ask(form(field("notes", "draw a gun", '; filename="a.txt"')), EDITS, FORM))
    assert found.images == () and [str(one) for one in found.unseen] == ["notes: an uploaded file"]


async def test_words_of_the_client_are_not_repeated_at_length() -> None:
    key = "k " * 2500
    error = await refused(ask(f'{{"{key}":1,"{key}":2}}'.encode()))
    assert error.param == "k " * 32
