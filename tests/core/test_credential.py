"""The layer by itself: what is taken off, what is put on, and that nothing of it is shared between requests."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.core.credential import Auth, Credential
from proxy.model.body import Bytes
from proxy.model.exchange import Client, Exchange
from proxy.model.message import Headers, Request, Response
from proxy.model.values import Secret

Pairs = tuple[tuple[bytes, bytes], ...]


class Asked:
    """A forward that remembers its request and answers what it was given."""

    def __init__(self, *headers: tuple[bytes, bytes], body: Bytes | None = None) -> None:
        self.response = Response(200, Headers(headers), body or Bytes(b"{}"), reason=b"Fine")
        self.requests: list[Request] = []

    async def __call__(self, request: Request, /) -> Response:
        self.requests.append(request)
        return self.response

    @property
    def raw(self) -> Pairs:
        return self.requests[-1].headers.raw


def credential(
    *keys: str, auth: Auth = "bearer", headers: Mapping[str, str] | None = None, swaps: bool = True
) -> Credential:
    more = {name: Secret(value) for name, value in (headers or {}).items()}
    return Credential([Secret(key) for key in keys], auth=auth, headers=more, swaps=swaps)


def request(*headers: tuple[bytes, bytes]) -> Request:
    return Request("POST", "/x?a=%2F", Headers(headers), Bytes(b"body"), "openai")


async def ask(layer: Credential, asked: Asked, *headers: tuple[bytes, bytes]) -> Response:
    question = request(*headers)
    return layer.detach(await asked(layer.attach(Exchange("id", question, Client("me")), question)))


async def test_the_key_takes_the_callers_place() -> None:
    asked = Asked()
    await ask(credential("ours"), asked, (b"X-A", b"1"), (b"authorization", b"Bearer theirs"), (b"x-a", b"2"))
    assert asked.raw == ((b"X-A", b"1"), (b"x-a", b"2"), (b"Authorization", b"Bearer ours"))


async def test_api_key_is_a_header_of_its_own_without_a_scheme() -> None:
    asked = Asked()
    await ask(credential("ours", auth="api-key"), asked, (b"Authorization", b"Bearer theirs"), (b"API-KEY", b"theirs"))
    assert asked.raw == ((b"api-key", b"ours"),)


async def test_auth_none_sends_no_key() -> None:
    asked = Asked()
    await ask(credential("ours", auth="none"), asked, (b"Authorization", b"Bearer theirs"))
    assert asked.raw == ()


async def test_keys_are_used_in_turn() -> None:
    asked, layer = Asked(), credential("a", "b", "c")
    for _ in range(4):
        await ask(layer, asked)
    assert [one.headers.get("authorization") for one in asked.requests] == [f"Bearer {key}" for key in "abca"]


async def test_headers_of_the_config_replace_the_callers() -> None:
    asked = Asked()
    layer = credential(headers={"X-Region": "eu", "OpenAI-Organization": "org-ours"})
    await ask(layer, asked, (b"x-region", b"us"), (b"X-REGION", b"us"), (b"openai-organization", b"org-theirs"))
    assert asked.raw == ((b"X-Region", b"eu"), (b"OpenAI-Organization", b"org-ours"))


async def test_plain_headers_alone_leave_the_caller_what_is_theirs() -> None:
    theirs = ((b"Authorization", b"Bearer theirs"), (b"Cookie", b"c"), (b"Via", b"v"), (b"OpenAI-Project", b"p"))
    asked = Asked((b"Set-Cookie", b"s"), (b"x-ratelimit-limit-requests", b"1"))
    response = await ask(credential(headers={"X-Region": "eu"}, swaps=False), asked, *theirs)
    assert asked.raw == (*theirs, (b"X-Region", b"eu"))
    assert response is asked.response


async def test_the_rest_of_the_request_is_the_same() -> None:
    question = request((b"Content-Length", b"4"))
    got = credential("ours").attach(Exchange("id", question, Client("me")), question)
    assert (got.method, got.target, got.upstream) == ("POST", "/x?a=%2F", "openai") and got.body is question.body
    assert question.headers.raw == ((b"Content-Length", b"4"),)


@pytest.mark.parametrize(
    "name", ["set-cookie", "Set-Cookie2", "ALT-SVC", "openai-organization", "OpenAI-Project", "x-ratelimit-new-thing"]
)
async def test_the_account_is_not_told(name: str) -> None:
    asked = Asked((b"X-A", b"1"), (name.encode(), b"account"), (b"X-B", b"2"), (name.swapcase().encode(), b"account"))
    response = await ask(credential("ours"), asked)
    assert response.headers.raw == ((b"X-A", b"1"), (b"X-B", b"2"))
    assert response.body is asked.response.body and response.facts is asked.response.facts
    assert (response.status, response.reason) == (200, b"Fine")


@pytest.mark.parametrize("name", ["x-request-id", "openai-processing-ms", "retry-after", "x-rate-limit", "cookies"])
async def test_the_rest_of_the_answer_is_the_same(name: str) -> None:
    asked = Asked((name.encode(), b"1"))
    assert await ask(credential("ours"), asked) is asked.response


@pytest.mark.parametrize("name", ["x-forwarded", "cfx", "proxied", "viaduct", "x-originally", "openai-beta", "x-key"])
async def test_a_name_that_only_begins_like_one_passes(name: str) -> None:
    asked = Asked()
    await ask(credential("ours"), asked, (name.encode(), b"1"))
    assert asked.raw[0] == (name.encode(), b"1")


SOCKET = b"Sec-WebSocket-Protocol"


@pytest.mark.parametrize(
    ("offered", "left"),
    [
        ([b"realtime, openai-insecure-api-key.sk-theirs"], [b"realtime"]),
        ([b"openai-insecure-api-key.sk-theirs, realtime"], [b"realtime"]),
        ([b"realtime", b"openai-insecure-api-key.sk-theirs"], [b"realtime"]),
        ([b"openai-insecure-api-key.sk-theirs"], []),
        (
            [b"realtime,openai-insecure-api-key.sk-theirs,openai-beta.realtime-v1"],
            [b"realtime, openai-beta.realtime-v1"],
        ),
        ([b"realtime, openai-beta.realtime-v1"], [b"realtime, openai-beta.realtime-v1"]),
        ([b"realtime, OpenAI-Insecure-API-Key.sk-theirs"], [b"realtime"]),
        ([b"realtime, openai-organization.org-theirs, openai-project.proj-theirs"], [b"realtime"]),
    ],
    ids=["behind", "in front", "in a second header", "alone", "between", "none", "in capitals", "the account"],
)
async def test_the_callers_things_among_a_sockets_protocols_stay_here(offered: list[bytes], left: list[bytes]) -> None:
    asked = Asked()
    await ask(credential("ours"), asked, *[(SOCKET, value) for value in offered])
    assert [value for name, value in asked.raw if name.lower() == SOCKET.lower()] == left
    assert b"theirs" not in b"".join(value for _, value in asked.raw)


async def test_without_a_swap_a_sockets_protocols_are_left_alone() -> None:
    asked = Asked()
    pair = (SOCKET, b"realtime, openai-insecure-api-key.sk-theirs")
    await ask(credential(headers={"X-A": "1"}, swaps=False), asked, pair)
    assert asked.raw[0] == pair


def test_neither_key_nor_header_shows_in_its_text() -> None:
    layer = credential("sk-ours", headers={"X-Token": "token-ours"})
    assert "ours" not in repr(layer) + str(vars(layer).keys())
