"""The onion: who runs inside whom, who is blamed, how long each took."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from proxy.core.chain import Crashed, build, own_times
from proxy.model.errors import ProxyError, Rejected
from proxy.model.exchange import Client, Exchange, Span
from proxy.model.message import Headers, Request, Response

OnCrash = Literal["refuse", "skip"]
ASKED = Request("GET", "/v1/x", Headers())


class Lines:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def error(self, event: str, **details: Any) -> None:
        self.lines.append((event, details))

    info = warning = error


def exchange() -> Exchange:
    return Exchange("id", ASKED, Client("test"))


async def door(exchange: Exchange, request: Request) -> Response:
    return Response(200)


def layers(*calls: Any, on_crash: OnCrash = "refuse") -> list[tuple[str, Any, OnCrash]]:
    return [(call.__name__, call, on_crash) for call in calls]


async def passes(exchange: Exchange, request: Request, forward: Any) -> Response:
    return await forward(request)


async def test_layers_run_from_the_outside_in_and_back() -> None:
    order: list[str] = []

    async def outer(exchange: Exchange, request: Request, forward: Any) -> Response:
        order.append("outer in")
        response = await forward(request)
        order.append("outer out")
        return response

    async def inner(exchange: Exchange, request: Request, forward: Any) -> Response:
        order.append("inner in")
        response = await forward(request)
        order.append("inner out")
        return response

    asked = exchange()
    response = await build(layers(outer, inner), door, Lines())(asked, ASKED)
    assert response.status == 200
    assert order == ["outer in", "inner in", "inner out", "outer out"]
    assert [(span.layer, span.depth, span.verdict) for span in asked.spans] == [
        ("inner", 1, "answered"),  # the door here writes no span of its own
        ("outer", 2, "passed"),
    ]


async def test_without_layers_the_door_itself_is_the_chain() -> None:
    assert build([], door, Lines()) is door


async def test_a_layer_may_forward_again_and_side_by_side() -> None:
    asked_of: list[str | None] = []

    async def records(exchange: Exchange, request: Request) -> Response:
        asked_of.append(request.upstream)
        return Response(500 if request.upstream == "a" else 200)

    async def twice(exchange: Exchange, request: Request, forward: Any) -> Response:
        first, second = await asyncio.gather(forward(request.to("a")), forward(request.to("b")))
        return first if first.status == 200 else second

    assert (await build(layers(twice), records, Lines())(exchange(), ASKED)).status == 200
    assert asked_of == ["a", "b"]


async def test_who_refuses_is_blamed_and_who_only_passes_it_on_is_not() -> None:
    async def refuses(exchange: Exchange, request: Request, forward: Any) -> Response:
        raise Rejected("No.")

    asked = exchange()
    with pytest.raises(Rejected) as caught:
        await build(layers(passes, refuses), door, Lines())(asked, ASKED)
    assert caught.value.layer == "refuses"
    assert [(span.layer, span.verdict) for span in asked.spans] == [("refuses", "refused"), ("passes", "passed")]


async def test_a_crash_names_its_layer_and_tells_the_log_why() -> None:
    async def crashes(exchange: Exchange, request: Request, forward: Any) -> Response:
        raise ZeroDivisionError("a secret")

    log, asked = Lines(), exchange()
    with pytest.raises(Crashed) as caught:
        await build(layers(passes, crashes, passes), door, log)(asked, ASKED)
    assert caught.value.layer == "crashes" and "'crashes' failed" in caught.value.message
    assert "secret" not in caught.value.message
    assert [event for event, _ in log.lines] == ["layer_crashed"]
    assert log.lines[0][1]["layer"] == "crashes"
    assert [(span.layer, span.verdict) for span in asked.spans] == [("crashes", "crashed"), ("passes", "passed")]


async def test_a_crash_is_skipped_where_the_config_says_so() -> None:
    async def crashes(exchange: Exchange, request: Request, forward: Any) -> Response:
        raise ZeroDivisionError

    log, asked = Lines(), exchange()
    assert (await build(layers(crashes, on_crash="skip"), door, log)(asked, ASKED)).status == 200
    assert [event for event, _ in log.lines] == ["layer_crashed"]
    assert asked.spans[-1].verdict == "skipped"


async def test_what_was_forwarded_once_is_not_asked_again_by_skipping() -> None:
    asked_times = 0

    async def counts(exchange: Exchange, request: Request) -> Response:
        nonlocal asked_times
        asked_times += 1
        return Response(200)

    async def crashes_late(exchange: Exchange, request: Request, forward: Any) -> Response:
        await forward(request)
        raise ZeroDivisionError

    chain = build([("crashes_late", crashes_late, "skip"), ("passes", passes, "refuse")], counts, Lines())
    with pytest.raises(Crashed):
        await chain(exchange(), ASKED)
    assert asked_times == 1


async def test_cancellation_passes_through_every_layer_as_itself() -> None:
    reached = asyncio.Event()
    given_back: list[str] = []

    async def waits(exchange: Exchange, request: Request) -> Response:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def takes(exchange: Exchange, request: Request, forward: Any) -> Response:
        try:
            return await forward(request)
        finally:
            given_back.append("it")

    asked = exchange()
    task = asyncio.create_task(build(layers(takes, passes), waits, Lines())(asked, ASKED))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert given_back == ["it"]
    assert [span.verdict for span in asked.spans] == ["cancelled", "cancelled"]


def test_own_time_is_what_is_left_when_the_inside_is_taken_off() -> None:
    spans = [
        Span("wire", 0, 0.0, 5.0, "answered"),
        Span("wire", 0, 5.0, 2.0, "answered"),  # a second attempt
        Span("failover", 1, 0.0, 8.0, "passed"),
        Span("quota", 2, 0.0, 8.5, "passed"),
    ]
    assert [(span.layer, own) for span, own in own_times(spans)] == [
        ("wire", 5.0),
        ("wire", 2.0),
        ("failover", 1.0),
        ("quota", 0.5),
    ]


def test_own_time_is_never_negative_for_attempts_side_by_side() -> None:
    spans = [
        Span("a", 0, 0.0, 5.0, "answered"),
        Span("b", 0, 0.0, 5.0, "answered"),
        Span("both", 1, 0.0, 6.0, "passed"),
    ]
    assert own_times(spans)[-1][1] == 0.0


async def test_an_error_keeps_the_layer_that_it_names() -> None:
    async def raises(exchange: Exchange, request: Request) -> Response:
        error = ProxyError("broken")
        error.layer = "upstream"
        raise error

    asked = exchange()
    with pytest.raises(ProxyError) as caught:
        await build(layers(passes), raises, Lines())(asked, ASKED)
    assert caught.value.layer == "upstream" and asked.spans[0].verdict == "passed"
