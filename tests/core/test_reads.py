"""Whose answers are read: those of routes on which a plugin says so, each attempt's."""

from __future__ import annotations

import pytest

from proxy.api import Headers, Request, Response
from proxy.core.reading import Read
from proxy.testkit import answer

from .readings import (
    ASK,
    B64,
    JSON,
    seen,
    stage,
)


async def test_nobody_reads_where_nobody_says_so() -> None:
    async def layer(exchange, request, forward) -> Response:
        response = await forward(request)
        assert response.reading is None and not isinstance(response.body, Read)
        return response

    async with stage(layer, answer(), wanted=()) as played_on:
        await played_on.play(ASK, headers={"Accept-Encoding": "gzip"})
        assert played_on.asked[0].headers.get("Accept-Encoding") == "gzip"


@pytest.mark.parametrize("wanted", ["verdict", "usage", "images"])
async def test_every_attempt_is_read_and_asked_for_plain_bytes(wanted: str) -> None:
    async def layer(exchange, request, forward) -> Response:
        for name in ("first", "second"):
            response = await forward(request.to(name))
            if await seen(response).verdict() == "image":
                return response
            await response.aclose()
        raise AssertionError

    upstreams = {
        "first": answer(body=b'{"data":[]}', headers=JSON, cuts=(4,)),
        "second": answer(json={"data": [{"b64_json": B64}]}),
    }
    async with stage(layer, upstreams, wanted=(wanted,)) as played_on:
        played = await played_on.play(ASK, headers={"Accept-Encoding": "gzip, br", "X-A": "b"})
    assert played.json()["data"][0]["b64_json"] == B64
    assert [asked.headers.getall("Accept-Encoding") for asked in played.asked] == [["identity"], ["identity"]]
    assert [asked.headers.get("X-A") for asked in played.asked] == ["b", "b"]


async def test_a_stage_says_what_the_checker_would() -> None:
    with pytest.raises(ValueError, match="reads 'verdicts', which nobody sees in an answer"):
        async with stage(judged, answer(), wanted=("verdicts",)):
            pass


async def judged(exchange, request, forward) -> Response:
    response = await forward(request)
    assert (response.reading is not None) == (await request.body.read(9) == b'"read"')
    return response


@pytest.mark.parametrize("wanted", [(), ("usage",)])
async def test_a_setting_may_decide_what_is_read(wanted: tuple[str, ...]) -> None:
    async with stage(judged, answer(), wanted=wanted) as played_on:
        assert (await played_on.play(ASK, json="read" if wanted else None)).status == 200


async def test_what_an_upstream_is_asked_beside_the_exchange_is_not_read() -> None:
    async def layer(exchange, request, forward) -> Response:
        beside = await played_on.services.upstreams.call("main", Request("GET", "/v1/models", Headers()))
        assert beside.reading is None
        await beside.aclose()
        return await forward(request)

    async with stage(layer, answer(pieces=[b"{}"])) as played_on:
        await played_on.play(ASK)
