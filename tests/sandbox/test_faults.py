"""Each fault, as a client with a plain socket sees it."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.__main__ import main
from proxy.sandbox import Sandbox, faults

from .plain import CHAT, GENERATION, LAST, Heard, ask, dechunked, field, post

STREAM = {**CHAT, "stream": True}
PICTURE = post("/v1/images/generations", GENERATION)
WORDS = post("/v1/chat/completions", STREAM)
PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()
TABLE = {fault.name: fault for fault in faults.TABLE}


def told(name: str, question: bytes) -> bytes:
    return question.replace(b"\r\n", f"\r\nX-Sandbox-Fault: {name}\r\n".encode(), 1)


def parts(heard: Heard) -> tuple[bytes, bytes, bool]:
    """The content, what came behind it, and whether it was whole, by the framing that the head tells."""
    if field(heard.head, "transfer-encoding") == "chunked":
        return dechunked(heard.body)
    length = int(field(heard.head, "content-length") or 0)
    return heard.body[:length], heard.body[length:], len(heard.body) >= length


def is_last(raw: bytes) -> bool:
    """The answer to the question asked last, and nothing else."""
    return (
        raw.startswith(b"HTTP/1.1 200 OK\r\n") and raw.endswith(b'"owned_by":"system"}') and raw.count(b"HTTP/1.1") == 1
    )


def frames(content: bytes) -> list[Any]:
    """The events' values; what isn't JSON stays bytes."""
    assert content.endswith(b"\n\n")
    found = [line.removeprefix(b"data: ") for line in content.split(b"\n") if line.startswith(b"data: ")]
    return [orjson.loads(one) if one.startswith(b"{") else one for one in found]


def said(content: bytes) -> str:
    """The words of a chat stream."""
    chunks = [one for one in frames(content) if isinstance(one, dict) and one.get("choices")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


REPLY = "This is the sandbox. You said: the tide is high"


def genuine(content: bytes) -> None:
    """The endpoint's own answer, to either question."""
    if content.startswith(b"data: "):
        assert said(content) == REPLY
        assert content.endswith(b"data: [DONE]\n\n")
    else:
        assert base64.b64decode(orjson.loads(content)["data"][0]["b64_json"]).startswith(b"\x89PNG")


def error(content: bytes) -> tuple[str, str | None]:
    found = orjson.loads(content)["error"]
    assert set(found) >= {"message", "type", "param", "code"}
    return found["type"], found["code"]


@dataclass(frozen=True)
class Row:
    fault: str
    check: Callable[[Heard], object]
    end: str = "open"  # "open", "closed" or "reset"
    only: bytes | None = None  # the one question where it makes sense


def refusal(status: int, type: str, code: str | None, **headers: str) -> Callable[[Heard], None]:
    def check(heard: Heard) -> None:
        assert heard.status == status
        assert error(parts(heard)[0]) == (type, code)
        assert {name: field(heard.head, name.replace("_", "-")) for name in headers} == headers
        assert (field(heard.head, "x-request-id") or "").startswith("req_")

    return check


def page(status: int) -> Callable[[Heard], None]:
    def check(heard: Heard) -> None:
        assert heard.status == status
        assert field(heard.head, "content-type") == "text/html"
        assert parts(heard)[0].startswith(b"<html>\r\n<head><title>%d " % status)
        assert b"nginx" in heard.body and field(heard.head, "x-request-id") is None

    return check


def json200(*keys: str) -> Callable[[Heard], None]:
    def check(heard: Heard) -> None:
        assert (heard.status, field(heard.head, "content-type")) == (200, "application/json")
        assert list(orjson.loads(parts(heard)[0])) == list(keys)

    return check


def whole(heard: Heard) -> None:
    assert heard.status == 200
    content, _, complete = parts(heard)
    assert complete
    genuine(content)


def cut_headers(heard: Heard) -> None:
    assert heard.raw.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\n\r\n" not in heard.raw


def cut_body(heard: Heard) -> None:
    content, behind, complete = parts(heard)
    assert heard.status == 200 and not complete
    if content.startswith(b"data: "):
        assert behind == b"" and frames(content) and b"[DONE]" not in content
        assert said(content) != REPLY and REPLY.startswith(said(content))
    else:
        length = int(field(heard.head, "content-length") or 0)
        assert len(heard.body) == length // 2
        assert heard.body.startswith(b'{"created":')


def cut_chunk(heard: Heard) -> None:
    assert field(heard.head, "transfer-encoding") == "chunked"
    content, begun, complete = parts(heard)
    assert heard.status == 200 and not complete
    size, _, data = begun.partition(b"\r\n")
    assert 0 < len(data) < int(size, 16)
    assert b"[DONE]" not in content


def too_long(heard: Heard) -> None:
    length = int(field(heard.head, "content-length") or 0)
    assert (heard.status, len(heard.body)) == (200, length - 100)
    genuine(heard.body)


def too_short(heard: Heard) -> None:
    length = int(field(heard.head, "content-length") or 0)
    body, _, behind = heard.body.partition(b"HTTP/1.1 ")
    assert len(body) // 2 == length
    genuine(body)
    assert is_last(b"HTTP/1.1 " + behind)


def two_answers(heard: Heard) -> None:
    content, behind, _ = parts(heard)
    genuine(content)
    second, _, third = behind.partition(b'{"sandbox":"nobody asked for this"}')
    assert second == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n"
    assert is_last(third)


def blanks(heard: Heard) -> None:
    assert field(heard.head, "transfer-encoding") == "chunked"
    content, _, complete = parts(heard)
    assert complete
    blank = b": keepalive\n\n" if b"event-stream" in heard.head else b" \n"
    assert heard.body.startswith((b"%x\r\n%b\r\n" % (len(blank), blank)) * 5)
    assert content.startswith(blank * 5)
    genuine(content[len(blank) * 5 :])


def empty(heard: Heard) -> None:
    content, _, complete = parts(heard)
    assert (heard.status, complete) == (200, True)
    if content.startswith(b"data: "):
        assert content.endswith(b"data: [DONE]\n\n")
        assert all(one["choices"] == [] for one in frames(content)[:-1])
    else:
        assert orjson.loads(content)["data"] == []


def bad_base64(heard: Heard) -> None:
    text = orjson.loads(parts(heard)[0])["data"][0]["b64_json"]
    with pytest.raises(ValueError, match="Only base64 data"):
        base64.b64decode(text, validate=True)


def not_an_image(heard: Heard) -> None:
    text = orjson.loads(parts(heard)[0])["data"][0]["b64_json"]
    assert base64.b64decode(text, validate=True) == b"This is not an image, whatever its name says."


def huge(heard: Heard) -> None:
    content, _, complete = parts(heard)
    assert complete and 2**20 <= len(content) < 1.1 * 2**20
    if content.startswith(b"data: "):
        assert said(content).rstrip(".") and frames(content)[-1] == b"[DONE]"
    else:
        genuine(content)


def plain_text(heard: Heard) -> None:
    assert field(heard.head, "content-type") == "text/plain; charset=utf-8"
    whole(heard)


def gzipped(heard: Heard) -> None:
    assert field(heard.head, "content-encoding") == "gzip"
    content, _, complete = parts(heard)
    assert complete
    genuine(gzip.decompress(content))


def cookie(heard: Heard) -> None:
    assert (field(heard.head, "set-cookie") or "").startswith("__cf_bm=")
    whole(heard)


def error_in_stream(heard: Heard) -> None:
    content, _, complete = parts(heard)
    assert complete and heard.status == 200
    *before, last = frames(content)
    assert last["error"]["code"] == "server_error"
    assert before and b"[DONE]" not in content and REPLY.startswith(said(content)) and said(content) != REPLY


def redirect(heard: Heard) -> None:
    assert heard.status == 307
    at = "https://elsewhere.invalid/v1/"
    assert field(heard.head, "location") in (f"{at}chat/completions", f"{at}images/generations")


def assert_location(heard: Heard, location: str) -> None:
    assert (heard.status, field(heard.head, "location")) == (307, location)


def retry_date(heard: Heard) -> None:
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d gmt", field(heard.head, "retry-after") or "")


def early(heard: Heard) -> None:
    assert (heard.status, field(heard.head, "connection")) == (429, "close")
    assert error(parts(heard)[0]) == ("requests", "rate_limit_exceeded")


ROWS = (
    Row("429", refusal(429, "requests", "rate_limit_exceeded", retry_after="1", x_ratelimit_remaining_requests="0")),
    Row("429=20", refusal(429, "requests", "rate_limit_exceeded", retry_after="20", x_ratelimit_reset_requests="20s")),
    Row("429=ms:1500", refusal(429, "requests", "rate_limit_exceeded", retry_after_ms="1500")),
    Row("429=date:20", retry_date),
    Row("429=junk", refusal(429, "requests", "rate_limit_exceeded", retry_after="soon")),
    Row("429-quota", refusal(429, "insufficient_quota", "insufficient_quota")),
    Row("400-billing", refusal(400, "image_generation_user_error", "billing_hard_limit_reached")),
    Row("500", refusal(500, "server_error", None)),
    Row("503-overloaded", refusal(503, "service_unavailable_error", "server_is_overloaded")),
    Row("502-html", page(502)),
    Row("504-html", page(504)),
    Row("task-200", json200("code", "data")),
    Row("task-200=openoctopus", json200("id", "status", "model")),
    Row("task-200=kie", json200("code", "msg", "data")),
    Row("error-200", json200("error")),
    Row("code-429-in-200", json200("code", "msg", "data")),
    Row("moderation-blocked", refusal(400, "image_generation_user_error", "moderation_blocked")),
    Row("redirect", redirect),
    Row("redirect=http://127.0.0.1:9/x", lambda heard: assert_location(heard, "http://127.0.0.1:9/x")),
    Row("empty-200", empty),
    Row("bad-base64", bad_base64, only=PICTURE),
    Row("not-an-image", not_an_image, only=PICTURE),
    Row("huge=1", huge),
    Row("text-plain-json", plain_text),
    Row("gzip-anyway", gzipped),
    Row("set-cookie", cookie),
    Row("sse-error-midstream", error_in_stream, only=WORDS),
    Row("slow-first-byte=0", whole),
    Row("drip=0", whole),
    Row("keepalive-blanks=0", blanks),
    Row("stall-midstream=0", cut_body, "reset"),
    Row("cut-headers", cut_headers, "closed"),
    Row("cut-body", cut_body, "closed"),
    Row("cut-chunk", cut_chunk, "closed"),
    Row("wrong-length", too_long, "closed"),
    Row("wrong-length=short", too_short),
    Row("extra-bytes", two_answers),
    Row("reset", lambda heard: heard.raw == b"" or pytest.fail("something came"), "reset"),
    Row("early-refusal", early, "closed"),
    Row("early-refusal=413,rst", refusal(413, "invalid_request_error", None, connection="close"), "reset"),
)


@pytest.mark.parametrize("question", [PICTURE, WORDS], ids=["picture", "words"])
@pytest.mark.parametrize("row", ROWS, ids=[row.fault for row in ROWS])
async def test_a_plain_socket_sees_what_the_table_says(row: Row, question: bytes) -> None:
    name = row.fault.partition("=")[0]
    fits = row.only in (None, question)
    async with Sandbox() as sandbox:
        stays = row.end == "open" or not fits
        heard = await ask(sandbox.url, told(row.fault, question) + (LAST if stays else b""))
        await sandbox.idle()
        record, *others = sandbox.records
        assert record.fault == row.fault
        if fits:
            row.check(heard)
            assert heard.end == ("closed" if stays else row.end)
            assert record.billed is TABLE[name].billed
        else:
            assert heard.status == 400
            assert error(parts(heard)[0]) == ("invalid_request_error", "sandbox_fault")
            assert not record.billed
        if stays and row.fault not in ("wrong-length=short", "extra-bytes"):
            assert is_last(parts(heard)[1])
        if stays:
            assert len(others) == 1
        else:
            assert record.sent == len(heard.raw)
        assert record.status == (heard.status if heard.raw else None)
        after = await ask(sandbox.url, question + LAST)
        assert after.status == 200
        whole(after)


def test_every_fault_has_its_row() -> None:
    assert {row.fault.partition("=")[0] for row in ROWS} == set(TABLE)


def test_the_docs_hold_the_same_table() -> None:
    rows = [
        f"| `{fault.name}` | {fault.sentence} | {'yes' if fault.billed else 'no'} | "
        f"{'' if fault.argument is None else fault.argument.words} |".replace("|  |", "| |")
        for fault in faults.TABLE
    ]
    assert [line for line in PAGE.splitlines() if re.match(r"\| `[a-z0-9-]+` \| .* \| (yes|no) \|", line)] == rows


async def test_the_code_of_the_docs_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/sandbox.md", "exec"), names)
    await names["test_waits_as_long_as_it_is_told"]()


def test_the_docs_tell_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sandbox", "--help"])
    options = set(re.findall(r"--[a-z]+", capsys.readouterr().out)) - {"--help"}
    assert options == set(re.findall(r"--[a-z]+", PAGE))
