"""The log: one line tells an exchange's story, and no line tells a secret."""

from __future__ import annotations

import errno
import io
import select
from typing import Any

import orjson
import pytest

from proxy.model.errors import ProxyError
from proxy.model.message import Response
from proxy.telemetry.log import Lines, make
from proxy.telemetry.log import _ms as milliseconds
from proxy.testkit import RawClient, ScriptedUpstream, serve

from ..wire.telling import GET, POST, config

SECRET = "sk-very-secret"


async def test_a_line_tells_the_whole_story() -> None:
    async def layer(exchange, request, forward) -> Response:
        return await forward(request)

    async with ScriptedUpstream() as upstream, serve(config(upstream, layer)) as served:
        async with RawClient(served.port) as client:
            await client.ask(POST.replace(b"/v1/x", b"/v1/x?q=" + SECRET.encode()))
        line = (await served.ended(1))[0]
    assert (line["event"], line["level"], line["method"], line["path"]) == ("exchange", "info", "POST", "/v1/x")
    assert (line["status"], line["bytes_in"], line["bytes_out"], line["client"]) == (200, 2, 2, "127.0.0.1")
    assert line["route"] == "* /v1/*" and line["attempts"] == ["only=200"]
    names = list(line["spans"])
    assert names[0] == "only" and len(names) == 2 and line["spans"]["only"][0] == "answered"
    assert line["ms"] >= sum(own for _, own in line["spans"].values()) * 0.99
    assert not {"left", "complete", "error"} & set(line)


async def test_a_refusal_says_by_whom_and_why() -> None:
    async def layer(exchange, request, forward) -> Response:
        raise ProxyError("Words for the client.", status=429, code="rate_limit_exceeded")

    async with ScriptedUpstream() as upstream, serve(config(upstream, layer)) as served:
        async with RawClient(served.port) as client:
            await client.ask(GET)
        line = (await served.ended(1))[0]
    (name,) = line["spans"]
    assert (line["status"], line["error"], line["by"]) == (429, "rate_limit_exceeded", name)
    assert line["spans"][name][0] == "refused"


async def test_no_line_holds_a_key_a_header_a_query_or_a_body() -> None:
    async def crashes(exchange, request, forward) -> Response:
        raise ZeroDivisionError(f"while reading {SECRET}")

    ask = (
        f"POST /v1/x?key={SECRET} HTTP/1.1\r\nHost: {SECRET}\r\nAuthorization: Bearer {SECRET}\r\n"
        f"X-Other: {SECRET}\r\nCookie: {SECRET}\r\nContent-Length: {len(SECRET)}\r\n\r\n{SECRET}"
    ).encode()
    answer = f"HTTP/1.1 500 {SECRET}\r\nX: {SECRET}\r\nContent-Length: {len(SECRET)}\r\n\r\n{SECRET}".encode()
    broken = f"{SECRET}\r\n\r\n".encode()
    for reply in (answer, broken):
        for layers in ((), (crashes,)):
            async with ScriptedUpstream(reply) as upstream, serve(config(upstream, *layers)) as served:
                async with RawClient(served.port) as client:
                    await client.ask(ask)
                await served.ended(1)
            assert SECRET.encode() not in served.raw_log


async def test_an_upstreams_key_is_in_no_line_and_no_answer() -> None:
    more = 'api_key = "env:UP"'
    async with ScriptedUpstream() as upstream:
        text = config(upstream, upstreams=more, route="unmetered = true")
        async with serve(text, environ={"UP": SECRET}) as served:
            async with RawClient(served.port) as client:
                heard = await client.ask(GET)
            assert upstream.requests[0].get(b"authorization") == f"Bearer {SECRET}".encode()
            await served.ended(1)
        assert SECRET.encode() not in served.raw_log and SECRET not in repr(heard)


async def test_a_crash_is_logged_by_its_kind_and_place() -> None:
    async def crashes(exchange, request, forward) -> Response:
        raise ZeroDivisionError(SECRET)

    async with ScriptedUpstream() as upstream, serve(config(upstream, crashes)) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(GET)
        line = (await served.ended(1))[0]
        crash = next(one for one in served.log if one["event"] == "layer_crashed")
    assert heard.status == 500 and SECRET.encode() not in heard.body
    assert crash["crash"] == "ZeroDivisionError" and crash["id"] == line["id"] and crash["level"] == "error"
    assert any("test_log.py" in frame and frame.endswith("crashes") for frame in crash["where"])


async def test_a_long_or_strange_path_stays_one_short_line() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            await client.ask(b"GET /v1/" + b"x" * 5000 + b" HTTP/1.1\r\nHost: me\r\n\r\n")
            heard = await client.ask("GET /v1/caf\u00e9\u2028 HTTP/1.1\r\nHost: me\r\n\r\n".encode())
            assert heard.status == 400
        long = (await served.ended(1))[0]
    assert len(long["path"]) == 256
    assert served.raw_log.isascii() and len(served.raw_log.splitlines()) == len(served.log) >= 2


async def test_exchanges_are_not_logged_where_the_config_says_so() -> None:
    async with ScriptedUpstream() as upstream:
        async with serve(config(upstream) + "[log]\nexchanges = false\n") as served, RawClient(served.port) as client:
            assert (await client.ask(GET)).status == 200
        assert served.exchanges() == []


def test_json_lines_are_json_and_text_is_for_people() -> None:
    file = io.BytesIO()
    make("json", file).info("key_made", id="k1", odd={1, 2}.__class__)
    line = orjson.loads(file.getvalue())
    assert (line["event"], line["level"], line["id"]) == ("key_made", "info", "k1") and "timestamp" in line
    file = io.BytesIO()
    make("text", file).warning("key_made", id="k1")
    assert b"key_made" in file.getvalue() and b"k1" in file.getvalue() and b"\x1b" not in file.getvalue()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("closed file")])
def test_a_lost_line_costs_no_request(error: Exception) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise error

    make("json", Full()).info("anything")
    Lines(Full()).msg("anything")


def test_lines_written_together_stay_whole_in_a_pipe_that_others_write_to() -> None:
    class Pipe(io.BytesIO):
        def write(self, data: Any) -> int:
            writes.append(bytes(data))
            return len(data)

    writes: list[bytes] = []
    details = [{"number": number, "text": "x" * size} for number, size in enumerate((10, 2000, 1800, 3000, 9000, 10))]
    make("json", Pipe()).infos("exchange", details)
    lines = [orjson.loads(line) for write in writes for line in write.splitlines()]
    assert [line["number"] for line in lines] == [0, 1, 2, 3, 4, 5] and {line["event"] for line in lines} == {
        "exchange"
    }
    assert all(write.endswith(b"\n") for write in writes)
    assert [write.count(b"\n") for write in writes] == [2, 1, 1, 1, 1]
    assert all(len(write) <= select.PIPE_BUF for write in writes if write.count(b"\n") > 1)


@pytest.mark.parametrize("seconds", [0.0, 0.0000004, 0.0000006, 0.00123456, 1.005, 2.675, 599.9999999])
def test_milliseconds_are_rounded_to_the_nearest(seconds: float) -> None:
    for parts, digits in ((1000, 3), (100, 2)):
        shown = milliseconds(seconds, parts)
        assert abs(shown - seconds * 1000) <= 0.5 / parts + 1e-9
        assert len(repr(shown).partition(".")[2]) <= digits


def test_a_line_of_broken_text_is_written_all_the_same() -> None:
    file = io.BytesIO()
    make("text", file).info("read", path="caf\udce9")
    assert b"caf" in file.getvalue()
    file = io.BytesIO()
    make("json", file).info("read", path="caf\udce9")
    assert b"caf" in file.getvalue()
