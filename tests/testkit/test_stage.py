"""The stage: what a plugin's author sees of client, upstreams and endings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.api import (
    CALLER,
    Bytes,
    Caller,
    Exchange,
    Forward,
    Headers,
    Plugin,
    Rejected,
    Request,
    Response,
    Services,
    Slot,
    UpstreamError,
)
from proxy.testkit import Asked, Reply, Stage, answer, broken, play

WORD: Slot[str] = Slot("word")


class Gate(Plugin):
    """Refuses requests for paths that hold a word."""

    word: str

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        if self.word in request.path:
            raise Rejected("This path is closed.", status=403, code="permission_denied", type="permission_error")
        return (await forward(request)).with_headers(x_gate="open")


class Does(Plugin):
    """Does what a test says."""

    layer: object
    skippable = True

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        return await self.layer(exchange, request, forward)  # type: ignore[operator,no-any-return]


async def passes(exchange, request, forward) -> Response:
    return await forward(request)


# --- What is seen


async def test_shows_what_the_client_heard_and_what_the_upstream_was_asked() -> None:
    async with Stage(Gate("fine"), upstream=answer(json={"created": 1}, headers={"x-request-id": "req_1"})) as stage:
        played = await stage.play("POST /v1/images/generations?a=1", json={"prompt": "a cat"}, headers={"X-A": "b"})
    assert (played.status, played.json(), played.whole) == (200, {"created": 1}, True)
    assert played.headers.get("x-gate") == "open" and played.headers.get("x-request-id") == "req_1"
    (asked,) = played.asked
    assert (asked.upstream, asked.method, asked.target) == ("main", "POST", "/v1/images/generations?a=1")
    assert asked.json() == {"prompt": "a cat"} and asked.headers.get("X-A") == "b" and "Host" not in asked.headers
    assert [(span.layer, span.verdict) for span in played.exchange.spans] == [("main", "answered"), ("gate", "passed")]


async def test_renders_a_refusal_as_the_client_would_hear_it() -> None:
    async with Stage(Gate("fine")) as stage:
        played = await stage.play("GET /v1/fine_tuning/jobs")
        with pytest.raises(AssertionError, match="the client heard no error"):
            _ = (await stage.play()).error
    assert played.status == 403 and played.asked == () and played.outcome.error is not None
    assert played.error == {
        "message": "This path is closed.",
        "type": "permission_error",
        "param": None,
        "code": "permission_denied",
        "retryable": False,
    }
    assert played.headers.get("x-should-retry") == "false"


async def test_names_a_layer_that_crashes_and_keeps_the_reason() -> None:
    async def crashes(exchange, request, forward) -> Response:
        raise ZeroDivisionError("of mine")

    async with Stage(Does(crashes)) as stage:
        played = await stage.play()
    assert (played.status, played.error["code"]) == (500, "internal_error") and "'does'" in played.error["message"]
    assert isinstance(played.crash, ZeroDivisionError) and "of mine" in repr(played)
    assert [line["crash"] for line in stage.log] == ["ZeroDivisionError"]


async def test_skips_a_layer_that_crashes_where_it_may() -> None:
    async def crashes(exchange, request, forward) -> Response:
        raise ZeroDivisionError

    async with Stage(Does(crashes), on_crash="skip") as stage:
        assert (await stage.play()).status == 200
    with pytest.raises(ValueError, match="'gate' must not be skipped"):
        await Stage(Gate("x"), on_crash="skip").__aenter__()


async def test_the_short_form_plays_one_request() -> None:
    played = await play(Gate("x"), request="POST /v1/a", body=b"abc", upstream=UpstreamError("no route", sent=False))
    assert (played.status, played.error["code"], played.asked[0].body) == (502, "provider_submit_failed", b"abc")


async def test_a_whole_request_can_be_played() -> None:
    request = Request("PUT", "/v1/a%2Fb", Headers(((b"X-Case", b"1"), (b"x-case", b"2"))), Bytes(b"hi"))
    (asked,) = (await play(Gate("x"), request=request)).asked
    assert (asked.method, asked.target, asked.body) == ("PUT", "/v1/a%2Fb", b"hi")
    assert asked.headers.raw == ((b"X-Case", b"1"), (b"x-case", b"2"), (b"Content-Length", b"2"))


async def test_several_plugins_stand_in_order() -> None:
    async def inner(exchange, request, forward) -> Response:
        return await forward(request.with_headers(x_word=exchange[WORD]))

    class Outer(Plugin):
        fills = (WORD,)

        async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
            exchange[WORD] = "told"
            return await forward(request)

    class Needs(Does):
        needs = (WORD,)

    played = await play(Outer(), Needs(inner))
    assert played.asked[0].headers.get("x-word") == "told"
    with pytest.raises(ValueError, match="Needs needs the fact 'word', and nobody fills it"):
        await play(Needs(inner))


async def test_facts_stand_on_the_exchange_before_the_plugin_sees_it() -> None:
    seen = []

    async def looks(exchange, request, forward) -> Response:
        seen.append((exchange[CALLER].id, exchange.get(WORD)))
        return await forward(request)

    async with Stage(Does(looks), facts={CALLER: Caller("ann")}) as stage:
        await stage.play()
        await stage.play(facts={WORD: "x", CALLER: Caller("bob")})
    assert seen == [("ann", None), ("bob", "x")]


# --- Upstreams


async def test_answers_come_in_the_order_of_the_script() -> None:
    async def retries(exchange, request, forward) -> Response:
        for _ in range(2):
            try:
                response = await forward(request)
            except UpstreamError as error:
                if error.sent:
                    raise
                continue
            if response.status < 500:
                return response
            await response.aclose()
        return await forward(request)

    script = [UpstreamError("refused", sent=False), answer(503), answer(json=[1])]
    async with Stage(Does(retries), upstream=script) as stage:
        played = await stage.play("POST /v1/x", body=b"once")
    assert played.json() == [1] and [asked.body for asked in played.asked] == [b"once"] * 3
    assert [attempt.outcome for attempt in played.outcome.attempts] == ["unreachable", "503", "200"]


async def test_a_script_may_look_at_what_was_asked() -> None:
    async def script(asked: Asked) -> Reply:
        return answer(json={"you": asked.json()["me"]})

    played = await play(Does(passes), request="POST /v1/x", json={"me": 1}, upstream=script)
    assert played.json() == {"you": 1}


async def test_a_script_that_fails_fails_the_test() -> None:
    def script(asked: Asked) -> Reply:
        assert asked.method == "GET", "a message of the test's own"
        return answer()

    with pytest.raises(AssertionError, match="a message of the test's own"):
        await play(Does(passes), request="POST /v1/x", upstream=script)
    with pytest.raises(TypeError, match="a script gives answer"):
        await play(Does(passes), upstream=lambda asked: 7)  # type: ignore[arg-type, return-value]


async def test_a_script_that_runs_out_fails_the_test_even_when_the_plugin_hides_it() -> None:
    async def hides(exchange, request, forward) -> Response:
        await (await forward(request)).aclose()
        try:
            return await forward(request)
        except AssertionError:
            return Response(200)

    with pytest.raises(AssertionError, match="'main' was asked 2 times and told 1 answers"):
        await play(Does(hides), upstream=[answer()])


async def test_several_upstreams_go_by_name() -> None:
    async def both(exchange, request, forward) -> Response:
        first = await forward(request)
        await first.aclose()
        return await forward(request.to("b"))

    played = await play(Does(both), upstream={"a": answer(429), "b": answer(json="b")})
    assert played.json() == "b" and [asked.upstream for asked in played.asked] == ["a", "b"]


async def test_a_plugin_asks_an_upstream_of_its_own_accord() -> None:
    class Asks(Plugin):
        @asynccontextmanager
        async def running(self, services: Services) -> AsyncIterator[None]:
            self.upstreams = services.upstreams
            yield

        async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
            side = await self.upstreams.call("judge", request.with_target("/v1/moderations"))
            assert await side.body.read(100) == b'{"flagged":false}'
            return await forward(request)

    async with Stage(Asks(), upstream={"main": answer(), "judge": answer(json={"flagged": False})}) as stage:
        played = await stage.play()
    assert [asked.target for asked in played.asked] == ["/v1/moderations", "/v1/models"]
    assert len(played.outcome.attempts) == 1 and stage.asked == list(played.asked)


async def test_events_and_pieces_come_as_they_are_cut() -> None:
    seen: list[bytes] = []

    async def looks(exchange, request, forward) -> Response:
        response = await forward(request)
        assert response.body.now() is None

        async def through(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for piece in pieces:
                seen.append(piece)
                yield piece

        return response.through(through)

    events = [{"type": "image_generation.completed", "n": 1}, {"object": "x"}, "[DONE]"]
    played = await play(Does(looks), upstream=answer(sse=events))
    assert seen[0] == b'event: image_generation.completed\ndata: {"type":"image_generation.completed","n":1}\n\n'
    assert played.events == events and played.headers.get("content-type") == "text/event-stream"
    seen.clear()
    await play(Does(looks), upstream=answer(body=b"abcdef", cuts=(4, 1)))
    await play(Does(looks), upstream=answer(pieces=[b"gh", b"i"]))
    assert seen == [b"a", b"bcd", b"ef", b"gh", b"i"]
    seen.clear()
    await play(Does(looks), upstream=answer(sse=["x", "y"], cuts=(4, 13)))
    assert seen == [b"data", b": x\n\ndata", b": y\n\n"]
    for wrong in ({"sse": ["x", broken()]}, {"pieces": [b"x"]}):
        with pytest.raises(ValueError, match="cuts are for"):
            answer(cuts=(1,), **wrong)


async def test_an_answer_that_breaks_off_is_seen_to_be_cut() -> None:
    played = await play(Does(passes), upstream=answer(pieces=[b"half", broken()]))
    assert (played.status, played.body, played.whole) == (200, b"half", False)
    assert isinstance(played.outcome.error, UpstreamError) and not played.outcome.complete


async def test_what_does_not_cross_the_wire_is_not_shown() -> None:
    async def rewrites(exchange, request, forward) -> Response:
        return await forward(request.with_body(b"longer").with_headers(connection="close"))

    played = await play(
        Does(rewrites), request="POST /v1/x", body=b"a", upstream=answer(headers={"Connection": "x-a", "X-A": "1"})
    )
    assert played.asked[0].headers.raw == ((b"Content-Length", b"6"),) and "x-a" not in played.headers


async def test_an_answer_without_a_body_has_none() -> None:
    played = await play(Does(passes), request="HEAD /v1/x", upstream=answer(json=[1]))
    assert (played.body, played.whole, played.headers.get("content-length")) == (b"", True, "3")
    assert (await play(Does(passes), upstream=answer(204))).body == b""


# --- Requests


async def test_an_upload_streams_and_can_be_held_back() -> None:
    go = asyncio.Event()
    async with Stage(Does(passes)) as stage:
        playing = stage.begin("POST /v1/images/edits", pieces=[b"first", go, b"", b"second"])
        await stage.reached(1)
        assert stage.asked[0].headers.get("transfer-encoding") == "chunked" and stage.asked[0].body in (b"", b"first")
        go.set()
        assert (await playing).asked[0].body == b"firstsecond"
        counted = await stage.play("POST /v1/x", pieces=[b"ab", b"cd"], headers={"Content-Length": "4"})
        assert counted.asked[0].body == b"abcd" and counted.asked[0].headers.get("content-length") == "4"


async def test_a_large_body_goes_both_ways() -> None:
    large = bytes(range(256)) * 8192
    played = await play(Does(passes), request="POST /v1/x", body=large, upstream=lambda asked: answer(body=asked.body))
    assert played.asked[0].body == large and played.body == large


async def test_a_request_that_can_not_be_is_told_in_words() -> None:
    async with Stage(Does(passes)) as stage:
        with pytest.raises(ValueError, match="one body"):
            stage.begin("POST /v1/x", json=1, body=b"")
        with pytest.raises(ValueError, match='"METHOD /path", not "/v1/x"'):
            stage.begin("/v1/x")
        early = stage.begin("GET /v1/x")
        early.leave()
        with pytest.raises(ValueError, match="left before the server had read its request: GET /v1/x"):
            await early
        with pytest.raises(ValueError, match=r"the server could not read .* 400 .*invalid_request"):
            await stage.play("GET /v1/x", headers={"a b": "c"})
