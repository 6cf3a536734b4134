"""Ways that once led past moderation, or past what its settings say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugins.moderation.judge import Judge
from plugins.moderation.verdict import About, Matter, Scores
from proxy.api import ProxyError, Text
from proxy.testkit import Call, RawClient, ScriptedUpstream
from tests.wire.sockets import upstream as there

from .house import ANN, CHAT, GENERATE, RESPOND, blocked, moderating
from .test_backend_faults import RESULT, answering
from .test_frames import BAD, Heard, said
from .test_frames import FINE as SETTING
from .test_whole import CHAIN, CLEAN, FINE, MARKED, QUOTA, streamed, told

QUERIES = [
    f"{GENERATE}?prompt=flag:violence.",
    f"{CHAT}?messages=flag%3Aviolence.",
    f"{RESPOND}?a=1&input=flag:violence.&b",
]


@pytest.mark.parametrize("target", QUERIES)
async def test_no_text_comes_in_by_the_query(target: str) -> None:
    async with moderating() as house:
        answer = await house.ask(target, {"model": "m"})
        assert (await house.left(), answer.status) == ([], 400)


async def test_a_partial_picture_is_not_delivered_unseen() -> None:
    async with ScriptedUpstream(told(streamed(MARKED, CLEAN), "text/event-stream")) as upstream:
        async with moderating("outputs = true", chain=CHAIN, more=QUOTA, url=upstream.url) as house:
            answer = await house.ask(GENERATE, {**FINE, "stream": True})
            assert MARKED[-64:].encode() not in answer.body


FLAGGED = {**RESULT, "flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.9}}
ODD = b'{"error":{"message":"Invalid input.","type":"invalid_request_error","param":"input","code":"invalid_value"}}'


async def _picky(call: Call) -> None:
    """A judge that takes no odd texts, and knows a marker."""
    body = await call.body()
    if b"odd" in body:
        head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {len(ODD)}\r\n\r\n"
        await call.send(head.encode() + ODD)
    else:
        result = FLAGGED if b"flag:" in body else RESULT
        await call.send(answering({"results": [result] * len(json.loads(body)["input"])}))


@pytest.mark.parametrize("on_error", ["refuse", "allow"])
async def test_who_asks_what_the_judge_wont_take_switches_it_off_for_nobody(on_error: str) -> None:
    async with ScriptedUpstream(script=_picky) as judge:
        upstreams = f'[upstreams.judge]\nbase_url = "{judge.url}"\n'
        async with moderating(f'on_error = "{on_error}"', upstreams=upstreams) as house:
            for number in range(6):
                await house.ask(GENERATE, {"prompt": f"odd {number}"})
            assert blocked(await house.ask(GENERATE, {"prompt": "a fox, flag:violence."}))
            assert (await house.ask(GENERATE, FINE)).status == 200


class Stumbling:
    """A backend for which a picture can't be fetched from its place."""

    sees = True
    personal = False

    def __init__(self, name: str) -> None:
        self.name = name

    async def judge(self, matter: Matter, about: About) -> Scores:
        raise ProxyError("Too many pictures are being looked at.", status=503, code="service_unavailable")


@pytest.mark.parametrize("count", [1, 2])
async def test_an_error_of_ours_is_a_verdict_that_failed_however_many_judge(count: int) -> None:
    judge = Judge([Stumbling(f"judge-{n}") for n in range(count)], timeout=5, digest=lambda data: data[:16])
    matter = Matter("input", (Text("prompt", "a fox", "user"),))
    verdict = await judge.judge(await judge.key(matter), matter, About("x"))
    assert verdict.failed == tuple(f"judge-{n}: service_unavailable" for n in range(count))


SHAKE = (
    "GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
)


def masked(event: dict[str, Any]) -> bytes:
    """A short text frame as clients send it."""
    data, mask = json.dumps(event).encode(), b"\1\2\3\4"
    length = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


async def test_a_socket_that_is_opened_again_with_the_same_body_is_judged_too() -> None:
    # Seen: the second time the very same handshake was known, and its socket was handed on without a judge.
    heard = Heard()
    body = '{"instructions":"be kind"}'
    async with there(heard.answer) as url, moderating(url=url) as house:
        for _ in range(2):
            async with RawClient(house.served.port) as client:
                await client.send(SHAKE.format(key=ANN, length=len(body), body=body).encode())
                assert (await client.head())[0].startswith(b"HTTP/1.1 101")
                await client.send(masked(said({"type": "input_text", "text": BAD})))
                await client.send(masked(SETTING))
                assert json.loads(await heard.frames.get()) == SETTING
