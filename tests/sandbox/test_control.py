"""The control port."""

from __future__ import annotations

import hashlib
from typing import Any

import aiohttp
import orjson
import pytest

from proxy.sandbox import Sandbox, faults

from .plain import CHAT, LAST, ask, field, post

CHATS = "/v1/chat/completions"


async def order(sandbox: Sandbox, method: str, path: str, body: object = None) -> tuple[int, Any]:
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    async with aiohttp.ClientSession() as session:
        async with session.request(method, sandbox.control_url + path, data=None if body is None else sent) as answer:
            found = await answer.read()
            return answer.status, orjson.loads(found) if found else None


async def chat(sandbox: Sandbox, **headers: str) -> int:
    return (await ask(sandbox.url, post(CHATS, CHAT, Connection="close", **headers))).status


async def test_lists_all_faults_with_their_sentences() -> None:
    async with Sandbox() as sandbox:
        status, told = await order(sandbox, "GET", "/")
    assert status == 200
    assert told["faults"] == [
        {
            "name": fault.name,
            "sentence": fault.sentence,
            "billed": fault.billed,
            "argument": fault.argument.words if fault.argument else None,
        }
        for fault in faults.TABLE
    ]


async def test_takes_faults_and_forgets_them() -> None:
    async with Sandbox() as sandbox:
        assert await order(sandbox, "POST", "/faults", {"fault": "429=20"}) == (201, {"told": ["429=20"]})
        heard = await ask(sandbox.url, post(CHATS, CHAT, Connection="close"))
        assert (heard.status, field(heard.head, "retry-after"), await chat(sandbox)) == (429, "20", 200)

        row = {"sequence": ["500", "ok", "503-overloaded"], "match": "POST /v1/chat/*", "model": "gpt-5-mini"}
        assert (await order(sandbox, "POST", "/faults", row))[0] == 201
        assert [await chat(sandbox) for _ in range(4)] == [500, 200, 503, 200]

        assert (await order(sandbox, "POST", "/faults", {"fault": "500", "times": None}))[0] == 201
        assert [await chat(sandbox) for _ in range(3)] == [500, 500, 500]
        assert await order(sandbox, "DELETE", "/faults") == (204, None)
        assert await chat(sandbox) == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "unexpected"),
        ([], "a JSON object is expected"),
        ({}, 'either "fault" (a name) or "sequence"'),
        ({"fault": "500", "sequence": ["500"]}, 'either "fault" (a name) or "sequence"'),
        ({"fault": 500}, 'either "fault" (a name) or "sequence"'),
        ({"sequence": []}, 'either "fault" (a name) or "sequence"'),
        ({"fault": "50"}, "there is no fault '50'; did you mean '500'?"),
        ({"fault": "500", "time": 2}, "no such field: 'time'; there are fault, match, model, sequence, times"),
        ({"fault": "500", "times": 0}, "times is a whole number from 1, or null for ever, not 0"),
        ({"fault": "500", "times": True}, "times is a whole number from 1, or null for ever, not True"),
        ({"fault": "500", "match": 1}, "match is a text or null"),
        ({"fault": "500", "match": "/v1/*"}, 'match is a method and a path, as in "POST /v1/images/*"'),
        ({"fault": "500", "model": []}, "model is a text or null"),
    ],
)
async def test_says_what_is_wrong_with_an_order(body: object, words: str) -> None:
    async with Sandbox() as sandbox:
        status, told = await order(sandbox, "POST", "/faults", body)
        assert status == 400 and words in told["error"]
        assert await chat(sandbox) == 200


async def test_shows_what_was_asked_without_secrets() -> None:
    async with Sandbox() as sandbox:
        await chat(sandbox, Authorization="Bearer sk-hush", X_Other="plain")
        await ask(sandbox.url, post(CHATS, CHAT, X_Sandbox_Fault="reset"))
        await sandbox.idle()
        _, told = await order(sandbox, "GET", "/requests")
        _, sums = await order(sandbox, "GET", "/counters")
        assert await order(sandbox, "DELETE", "/requests") == (204, None)
        _, after = await order(sandbox, "GET", "/requests")
    first, second = told["requests"]
    assert b"hush" not in orjson.dumps(told)
    assert (first["method"], first["target"], first["kind"], first["status"]) == ("POST", CHATS, "chat", 200)
    assert first["sha256"] == hashlib.sha256(orjson.dumps(CHAT)).hexdigest()
    assert ["X-Other", "plain"] in first["headers"]
    assert first["billed"] and first["whole"] and not first["left"] and first["sent"] > 100
    assert first["received"] <= first["first_byte"] <= first["done"]
    assert (second["fault"], second["status"], second["first_byte"]) == ("reset", None, None)
    assert (sums["requests"], sums["billed"], sums["faults"]) == (2, 2, {"reset": 1})
    assert after == {"requests": []}


async def test_is_not_where_the_answers_are() -> None:
    async with Sandbox() as sandbox:
        assert sandbox.control_url not in sandbox.url
        assert (await ask(sandbox.url, b"GET /requests HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).status == 404
        assert (await ask(sandbox.control_url, LAST)).status == 404
    assert len(sandbox.records) == 1, "orders are no requests"
