from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest
from aiohttp import web

from plugins.moderation import hook
from plugins.moderation.hook import Hook, verdict
from plugins.moderation.verdict import About, Matter, Scores, Unavailable, Unreadable
from proxy.api import Text, UpstreamError
from proxy.testkit import ScriptedUpstream, Stage, TurnedClock, answer
from proxy.testkit.upstream import Call

from .judging import ABOUT, KEY, Seen, lent, matter, paused

PAGE = (Path(__file__).parents[3] / "docs" / "moderation-hook.md").read_text()
QUESTION, ANSWER = (orjson.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ALLOW = answer(json={"decision": "allow"})


def judge(stage: Stage) -> Hook:
    return Hook("main", stage.services, timeout=5.0)


# --- the question


async def test_asks_what_the_page_says() -> None:
    said = Matter("input", (Text("prompt", "Put the bottle on a beach", "user"),), (Seen("image[0]", [PNG]),))
    about = About(QUESTION["id"], caller="marketing-web", group="marketing", kind="edit", model="gpt-image-2")
    async with Stage(upstream=answer(json=ANSWER)) as stage:
        found = await judge(stage).judge(said, about)
    assert [(one.method, one.target) for one in stage.asked] == [("POST", "/v1/moderate")]
    assert stage.asked[0].json() == QUESTION
    assert found == Scores({"confidential": 0.98, "violence": 0.02}, frozenset({"confidential"}))


PNG = b"\x89PNG\r\n\x1a\n"


async def test_nothing_of_nobody_is_a_question_too() -> None:
    async with Stage(upstream=ALLOW) as stage:
        assert await judge(stage).judge(Matter("output"), About("ex-2")) == Scores()
    assert stage.asked[0].json() == {
        "version": 1,
        "id": "ex-2",
        "stage": "output",
        "caller": None,
        "group": None,
        "kind": "",
        "model": None,
        "texts": [],
        "images": [],
    }


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100_000, 196_607, 196_608, 196_609, 700_001])
async def test_pictures_of_any_size_arrive_as_they_are(size: int) -> None:
    data = os.urandom(size)
    seen = [Seen('ima"ge[0]', [data, b"second view"]), Seen("image[1]", [data])]
    async with ScriptedUpstream(script=allowing) as upstream, lent(upstream.url) as services:
        await Hook("openai", services, timeout=30).judge(matter("a", pictures=seen), ABOUT)
    (received,) = upstream.requests
    assert received.get(b"content-length") == b"%d" % len(received.body or b"")
    assert [
        (one["path"], one["type"], base64.b64decode(one["data"], validate=True))
        for one in orjson.loads(received.body or b"")["images"]
    ] == [('ima"ge[0]', "png", data), ('ima"ge[0]', "png", b"second view"), ("image[1]", "png", data)]


async def allowing(call: Call) -> None:
    await call.body()
    await call.send(b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"decision":"allow"}')


async def test_sends_the_upstreams_key_and_no_header_of_a_clients() -> None:
    async with ScriptedUpstream(script=allowing) as upstream, lent(upstream.url.removesuffix("/v1")) as services:
        await Hook("openai", services, timeout=30).judge(matter("a"), ABOUT)
    (received,) = upstream.requests
    assert received.line == b"POST /moderate HTTP/1.1"
    assert received.get(b"authorization") == f"Bearer {KEY}".encode()
    assert sorted(name.lower() for name, _ in received.headers) == [
        b"accept",
        b"accept-encoding",
        b"authorization",
        b"cdn-loop",
        b"content-length",
        b"content-type",
        b"host",
    ]


async def test_half_a_surrogate_pair_is_no_way_past() -> None:
    async with Stage(upstream=ALLOW) as stage:
        await judge(stage).judge(matter("a\ud800b"), ABOUT)
    assert stage.asked[0].json()["texts"][0]["text"] == "a?b"


async def test_more_pictures_than_may_be_sent_are_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "MOST", 100)
    async with Stage(upstream=ALLOW) as stage:
        await judge(stage).judge(matter(pictures=[Seen("a", [bytes(50)]), Seen("b", [bytes(50)])]), ABOUT)
        with pytest.raises(Unreadable, match="over"):
            await judge(stage).judge(matter(pictures=[Seen("a", [bytes(50)]), Seen("b", [bytes(51)])]), ABOUT)
    assert len(stage.asked) == 1


async def test_what_can_not_be_seen_is_not_asked_about() -> None:
    async with Stage(upstream=ALLOW) as stage:
        with pytest.raises(Unreadable, match="it is no picture"):
            await judge(stage).judge(matter("a", pictures=[Seen("a", [b"x"], why="it is no picture")]), ABOUT)
        assert stage.asked == []
        await judge(stage).judge(matter("a", pictures=[Seen("a", []), Seen("b", [b"x"])]), ABOUT)
    assert [one["path"] for one in stage.asked[0].json()["images"]] == ["b"]


# --- the answer

VERDICTS: dict[str, tuple[Any, Scores]] = {
    "allow": ({"decision": "allow"}, Scores()),
    "allow with nothing": ({"decision": "allow", "categories": []}, Scores()),
    "allow with scores": ({"decision": "allow", "categories": {"violence": 0.9}}, Scores({"violence": 0.9})),
    "block": ({"decision": "block"}, Scores({"other": 1.0}, frozenset({"other"}))),
    "block with nothing": ({"decision": "block", "categories": {}}, Scores({"other": 1.0}, frozenset({"other"}))),
    "block with names": (
        {"decision": "block", "categories": ["a", "b/c"]},
        Scores({"a": 1.0, "b/c": 1.0}, frozenset({"a", "b/c"})),
    ),
    "block with scores": (
        {"decision": "block", "categories": {"a": 0.5, "b": 1, "c": 0.49}},
        Scores({"a": 0.5, "b": 1.0, "c": 0.49}, frozenset({"a", "b"})),
    ),
    "block with low scores": (
        {"decision": "block", "categories": {"a": 0.2, "b": 0.3}},
        Scores({"a": 0.2, "b": 0.3}, frozenset({"b"})),
    ),
    "block with no score": ({"decision": "block", "categories": {"a": 0}}, Scores({"a": 0.0}, frozenset({"a"}))),
    "more members": ({"decision": "allow", "reason": "fine", "version": 1}, Scores()),
}


@pytest.mark.parametrize(("told", "found"), VERDICTS.values(), ids=VERDICTS.keys())
def test_reads_a_decision(told: Any, found: Scores) -> None:
    assert verdict(told) == found


NO_VERDICTS: dict[str, Any] = {
    "null": None,
    "a list": ["allow"],
    "a word": "allow",
    "nothing": {},
    "no decision": {"categories": ["a"]},
    "another decision": {"decision": "Allow"},
    "a truth": {"decision": True},
    "a list of decisions": {"decision": ["allow"]},
    "allowed and named": {"decision": "allow", "categories": ["violence"]},
    "categories null": {"decision": "allow", "categories": None},
    "categories a word": {"decision": "block", "categories": "violence"},
    "a score over one": {"decision": "block", "categories": {"a": 1.2}},
    "a score below nothing": {"decision": "allow", "categories": {"a": -1}},
    "a score that is a truth": {"decision": "allow", "categories": {"a": False}},
    "a score that is nothing": {"decision": "allow", "categories": {"a": None}},
    "a name that is a number": {"decision": "block", "categories": [1]},
    "a name with a line": {"decision": "block", "categories": ["a\nb"]},
    "a name of nothing": {"decision": "block", "categories": [""]},
    "names without end": {"decision": "block", "categories": {str(at): 0.1 for at in range(101)}},
    "a list without end": {"decision": "block", "categories": ["a"] * 101},
}


@pytest.mark.parametrize("told", NO_VERDICTS.values(), ids=NO_VERDICTS.keys())
def test_what_is_not_in_the_contract_is_no_verdict(told: Any) -> None:
    with pytest.raises(Unavailable, match=r"^its answer "):
        verdict(told)


FAULTS: dict[str, tuple[Any, str]] = {
    "401": (answer(401), "answered 401"),
    "redirect": (answer(302, headers={"location": "/elsewhere"}), "a redirect"),
    "garbage": (answer(body=b"allow"), "not JSON"),
    "huge": (answer(pieces=[b" " * 2**18] * 5), "over 1 MiB"),
    "gzip": (answer(body=b"\x1f\x8b", headers={"content-encoding": "gzip"}), "compressed"),
    "slow": (UpstreamError("no answer came", sent=True, timeout=True), "timed out"),
}


@pytest.mark.parametrize(("told", "why"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_fault_is_no_verdict(told: Any, why: str) -> None:
    async with Stage(upstream=told) as stage:
        with pytest.raises(Unavailable, match=why):
            await judge(stage).judge(matter("a"), ABOUT)
    assert len(stage.asked) == 1


async def test_a_question_in_pieces_is_asked_again_whole() -> None:
    seen = Seen("image", [bytes(400_000)])
    async with Stage(upstream=[answer(503), ALLOW]) as stage:
        waiting = asyncio.ensure_future(judge(stage).judge(matter("a", pictures=[seen]), ABOUT))
        await paused(stage)
        await waiting
    first, second = stage.asked
    assert first.body == second.body and len(first.body) > 533_000


async def test_a_hook_that_fails_is_left_alone_and_comes_back() -> None:
    async with Stage(upstream=[*[answer(401)] * 5, ALLOW]) as stage:
        asked = judge(stage)
        for _ in range(5):
            with pytest.raises(Unavailable, match="answered 401"):
                await asked.judge(matter("a"), ABOUT)
        with pytest.raises(Unavailable, match="left alone after 5"):
            await asked.judge(matter("a"), ABOUT)
        stage.clock.turn(12.5)
        await asked.judge(matter("a"), ABOUT)
    assert len(stage.asked) == 6


async def test_cut_off_while_it_writes_it_hangs_up() -> None:
    gone = asyncio.Event()

    async def stuck(call: Call) -> None:
        reading.set()
        await call.gone()
        gone.set()
        call.cut()

    reading = asyncio.Event()
    async with ScriptedUpstream(script=stuck) as upstream, lent(upstream.url, clock=TurnedClock()) as services:
        seen = Seen("image", [bytes(20_000_000)])
        judging = asyncio.ensure_future(Hook("openai", services, timeout=5).judge(matter(pictures=[seen]), ABOUT))
        await reading.wait()
        judging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await judging
        await gone.wait()
        assert upstream.requests[0].body is None


# --- the page


def module(code: str) -> ModuleType:
    made = ModuleType("judge")
    exec(compile(code, "docs/moderation-hook.md", "exec"), made.__dict__)
    return made


async def test_the_judge_with_aiohttp_works_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    runner = web.AppRunner(module(CODE[0]).app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with lent(f"http://127.0.0.1:{port}") as services:
            asked = Hook("openai", services, timeout=30)
            assert await asked.judge(matter("a bottle", "on a beach"), ABOUT) == Scores()
            found = await asked.judge(matter("a bottle", "Falcon on a beach"), ABOUT)
            await asked.judge(matter(pictures=[Seen("image", [bytes(3_000_000)])]), ABOUT)
        async with lent(f"http://127.0.0.1:{port}", key="sk-another-0123456789abcdef") as services:
            with pytest.raises(Unavailable, match="answered 401"):
                await Hook("openai", services, timeout=30).judge(matter("a"), ABOUT)
    finally:
        await runner.cleanup()
    assert found == Scores({"confidential": 1.0}, frozenset({"confidential"}))


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[int]:
    """Serve it from a thread."""
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_the_plain_judge_works_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = module(CODE[1]).Judge
    monkeypatch.setattr(handler, "log_message", lambda *_: logging.getLogger(__name__).debug("asked"))
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as port:
        async with lent(f"http://127.0.0.1:{port}") as services:
            asked = Hook("openai", services, timeout=30)
            calm = await asked.judge(matter("a bottle"), ABOUT)
            loud = await asked.judge(matter("A BOTTLE"), ABOUT)
            many = await asked.judge(matter(pictures=[Seen("image", [b"png"])] * 5), ABOUT)
    assert calm == Scores({"manners": 0.1})
    assert loud == many == Scores({"manners": 0.9}, frozenset({"manners"}))
