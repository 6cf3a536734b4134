"""What upstreams' URLs lead to, on a stage."""

from __future__ import annotations

import asyncio

import pytest

from proxy.api import Exchange, FetchFailed, FetchRefused, Forward, Plugin, Request, Response
from proxy.testkit import LeftOpen, Stage
from proxy.testkit.remote import Leads

URL = "https://cdn.test/a.png?sig=1"


class Does(Plugin):
    """Does what a test says with what it is lent."""

    layer: object

    def running(self, services):
        self.services = services
        return super().running(services)

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        return await self.layer(self.services, await forward(request))  # type: ignore[operator,no-any-return]


async def fetches(services, response: Response) -> Response:
    await response.aclose()
    async with services.remote.open(URL, upstream="main", limit=9) as fetched:
        told = f"{fetched.media} {fetched.length} ".encode()
        return response.with_body(told + b"".join([piece async for piece in fetched]))


@pytest.mark.parametrize(
    ("leads", "body"),
    [(b"picture", b"None 7 picture"), ([b"pic", b"", b"ture"], b"None None picture")],
)
async def test_a_url_leads_to_what_the_test_says(leads: Leads, body: bytes) -> None:
    async with Stage(Does(fetches), remote={URL: leads}) as stage:
        assert (await stage.play()).body == body
        assert stage.fetched == [URL]


@pytest.mark.parametrize(
    ("remote", "code"),
    [
        ({}, "fetch_failed"),
        ({URL: FetchRefused("no")}, "fetch_refused"),
        ({URL: FetchFailed("no", answered=403)}, "fetch_failed"),
        ({URL: [b"pic", FetchFailed("it broke off")]}, "fetch_failed"),
        ({URL: b"ten bytes!"}, "fetch_failed"),
        ({URL: [b"ten", b" bytes!"]}, "fetch_failed"),
    ],
)
async def test_or_what_goes_wrong_with_it(remote: dict[str, Leads], code: str) -> None:
    async with Stage(Does(fetches), remote=remote) as stage:
        played = await stage.play()
    assert (played.status, played.error["code"]) == (502, code)


async def test_pieces_may_be_waited_for() -> None:
    go = asyncio.Event()
    async with Stage(Does(fetches), remote={URL: [b"pic", go, b"ture"]}) as stage:
        playing = stage.begin()
        await stage.reached()
        go.set()
        assert (await playing).body == b"None None picture"


async def test_what_is_not_left_is_named() -> None:
    held = []

    async def holds(services, response: Response) -> Response:
        held.append(services.remote.open(URL, upstream=None, limit=9))
        await held[0].__aenter__()
        return response

    with pytest.raises(LeftOpen, match=r"what https://cdn\.test/a\.png leads to was opened and not left"):
        async with Stage(Does(holds), remote={URL: b"picture"}) as stage:
            await stage.play()
    await held[0].__aexit__(None, None, None)
