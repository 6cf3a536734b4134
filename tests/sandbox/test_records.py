"""What the sandbox remembers of what it was asked."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging

import aiohttp
import orjson
import pytest

from proxy.sandbox import Sandbox, server
from proxy.sandbox.house import House
from proxy.sandbox.record import masked
from proxy.testkit import TurnedClock

from .plain import CHAT, GENERATION, LAST, Plain, ask, post, until
from .spoken import form, multipart

pytestmark = pytest.mark.usefixtures("spoken")

SECRET = "sk-hush-0123456789"
CHATS = "/v1/chat/completions"


def chunked(path: str, pieces: list[bytes]) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


BODY = orjson.dumps(CHAT)
FORM = form("gpt-image-2", bytes(range(256)) * 12_000)
ZIPPED = gzip.compress(BODY)
SPOILT_FORM = form("fault-set-cookie", bytes(1000))
ASKED = (
    ("read as JSON", post(CHATS, BODY), BODY, 200),
    ("in chunks", chunked(CHATS, [BODY[:1], BODY[1:40], BODY[40:]]), BODY, 200),
    ("a form, read as it comes", multipart(FORM), FORM, 200),
    ("a form that names a fault", multipart(SPOILT_FORM), SPOILT_FORM, 200),
    ("a form at a path that doesn't exist", multipart(FORM).replace(b"/spoken", b"/no-such"), FORM, 404),
    ("compressed", post(CHATS, ZIPPED, Content_Encoding="gzip"), ZIPPED, 200),
    ("not what its encoding says", post(CHATS, BODY, Content_Encoding="gzip"), BODY, 400),
    ("of a type that nobody reads", post(CHATS, BODY, Content_Type="text/plain"), BODY, 400),
    ("without JSON", post(CHATS, b"{" * 100_000), b"{" * 100_000, 400),
    ("not there", b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", b"", 400),
    ("of a fault that asks nobody", post(CHATS, BODY, X_Sandbox_Fault="500"), BODY, 500),
    ("of a GET", LAST, b"", 200),
)


@pytest.mark.parametrize(("sent", "body", "status"), [row[1:] for row in ASKED], ids=[row[0] for row in ASKED])
async def test_knows_every_body_as_it_was_sent(sent: bytes, body: bytes, status: int) -> None:
    async with Sandbox() as sandbox:
        heard = await ask(sandbox.url, sent if b"Connection: close" in sent else sent + LAST)
        await sandbox.idle()
    record = sandbox.records[0]
    assert heard.status == record.status == status
    assert (record.length, record.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert record.whole


async def test_knows_how_much_of_a_body_came_before_the_client_left() -> None:
    sent = post(CHATS, BODY)
    async with Sandbox() as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(sent[:-10])
        await until(lambda: bool(sandbox.records))
        await plain.leave()
        await sandbox.idle()
    (record,) = sandbox.records
    assert (record.length, record.whole, record.left, record.billed) == (len(BODY) - 10, False, True, False)
    assert record.status is None


async def test_keeps_method_target_and_headers_as_they_were_sent() -> None:
    target = "/v1/models/ft%3Agpt-5%2fx?include%5B%5D=a&b=c+d"
    head = f"GET {target} HTTP/1.1\r\nHOST: a\r\nX-Twice: 1\r\nx-tWICE: 2\r\nauthorization: Bearer {SECRET}\r\n"
    async with Sandbox() as sandbox:
        await ask(sandbox.url, f"{head}Connection: close\r\n\r\n".encode())
        (record,) = sandbox.records
    assert (record.method, record.target, record.kind) == ("GET", target, "models")
    assert record.headers == (
        (b"HOST", b"a"),
        (b"X-Twice", b"1"),
        (b"x-tWICE", b"2"),
        (b"authorization", f"Bearer {SECRET}".encode()),
        (b"Connection", b"close"),
    )
    assert record.header("Authorization") == f"Bearer {SECRET}" and record.header("x-none") is None


async def test_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {
        name: f"{start}{SECRET}" for name, start in (("Authorization", "Bearer "), ("api_key", ""), ("Cookie", "a="))
    }
    async with Sandbox(keys=["sk-another"]) as sandbox:
        heard = await ask(sandbox.url, post(CHATS, CHAT, Connection="close", **headers))
        (record,) = sandbox.records
        told = orjson.dumps(record.told()).decode()
        shown = [repr(sandbox), repr(record), str(record), told, caplog.text, heard.raw.decode()]
    assert heard.status == 401
    assert not any(SECRET in text for text in shown)
    assert f"Bearer sha256:{hashlib.sha256(SECRET.encode()).hexdigest()[:12]}" in told
    assert masked(b"authorization", b"hush hush") == f"sha256:{hashlib.sha256(b'hush hush').hexdigest()[:12]}"


async def test_tells_when_it_came_and_went() -> None:
    clock = TurnedClock()
    async with Sandbox(clock=clock) as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(post(CHATS, CHAT, X_Sandbox_Fault="slow-first-byte=100", Connection="close"))
        await until(lambda: bool(sandbox.records) and sandbox.records[0].billed)
        clock.turn(101)
        await plain.rest()
        await plain.leave()
        await sandbox.idle()
    (record,) = sandbox.records
    assert record.first_byte is not None and record.done is not None
    assert record.received + 100 < record.first_byte <= record.done < record.received + 200
    assert abs(record.at - clock.wall()) < 200


async def test_counts_the_bytes_that_it_sent() -> None:
    async with Sandbox() as sandbox:
        for body in ({**CHAT, "stream": True}, CHAT):
            heard = await ask(sandbox.url, post(CHATS, body, Connection="close"))
            await sandbox.idle()
            assert sandbox.records[-1].sent == len(heard.raw)
        heard = await ask(sandbox.url, post(CHATS, CHAT, X_Sandbox_Fault="huge=2", Connection="close"))
        await sandbox.idle()
        assert sandbox.records[-1].sent == len(heard.raw) > 2 * 2**20


async def test_adds_up_what_was_billed_and_what_not() -> None:
    async with Sandbox() as sandbox:
        for question in (
            post("/v1/images/generations", GENERATION),
            post("/v1/images/generations", {**GENERATION, "n": 0}),
            post("/v1/images/generations", GENERATION, X_Sandbox_Fault="429=20"),
            post(CHATS, CHAT, X_Sandbox_Fault="empty-200"),
            post("/v1/no-such", {}),
            post("/hush", {}),
        ):
            await ask(sandbox.url, question + LAST)
        await sandbox.idle()
        told = sandbox.counters.told()
        sandbox.clear()
        assert sandbox.records == [] and sandbox.counters.requests == 0
    assert told == {
        "requests": 12,
        "billed": 2,
        "unbilled": 10,
        "left": 0,
        "in_flight": 0,
        "most_in_flight": 1,
        "kinds": {
            "images": {"billed": 1, "unbilled": 2},
            "models": {"billed": 0, "unbilled": 6},
            "chat": {"billed": 1, "unbilled": 0},
            "other": {"billed": 0, "unbilled": 2},
        },
        "faults": {"429": 1, "empty-200": 1},
    }


async def test_knows_how_many_are_in_flight() -> None:
    async with Sandbox() as sandbox:
        stalled = [await Plain.to(sandbox.url) for _ in range(5)]
        for plain in stalled:
            await plain.say(post(CHATS, CHAT, X_Sandbox_Fault="stall-midstream"))
        await until(lambda: sandbox.counters.in_flight == 5)
        assert not any(record.done for record in sandbox.records)
        await asyncio.gather(*(plain.leave() for plain in stalled))
        await sandbox.idle()
        assert (sandbox.counters.in_flight, sandbox.counters.most_in_flight, sandbox.counters.left) == (0, 5, 5)


async def test_keeps_so_many_and_no_more() -> None:
    async with Sandbox(kept=3) as sandbox:
        for _ in range(5):
            await ask(sandbox.url, LAST)
        await sandbox.idle()
        assert [record.number for record in sandbox.records] == [3, 4, 5]
        assert sandbox.counters.requests == 5


async def test_a_socket_is_one_record_from_its_opening_to_its_end() -> None:
    """Endpoints that speak WebSocket answer by themselves."""

    house = House(rpm=10)
    app = server.build(house)
    runner, url = await server.start(app, "127.0.0.1", 0, drain=0.1)
    try:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(url + "/v1/realtime?model=gpt-realtime") as socket:
                assert "session.created" in await socket.receive_str()
                (record,) = house.ledger.records
                assert (record.done, house.ledger.counters.in_flight) == (None, 1)
            refused, spoilt = [
                await session.get(url + "/v1/realtime", headers={**UPGRADE, "x-sandbox-fault": fault})
                for fault in ("503-overloaded", "cut-body")
            ]
        await house.ledger.idle()
    finally:
        await runner.cleanup()
    assert (record.kind, record.status, record.billed) == ("realtime", 101, False)
    assert (refused.status, spoilt.status) == (503, 400)


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize("fault", ["500", "429-quota"])
async def test_a_refusal_that_is_not_early_waits_for_the_whole_body(fault: str) -> None:
    sent = multipart(FORM).replace(b"Host: a", b"Host: a\r\nX-Sandbox-Fault: " + fault.encode())
    async with Sandbox() as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(sent[:-1000])
        await ask(sandbox.url, LAST)  # time enough for an answer that comes too early
        assert (len(sandbox.records), sandbox.records[0].first_byte) == (2, None)
        await plain.say(sent[-1000:])
        heard = await plain.rest()
        await plain.leave()
        await sandbox.idle()
    assert heard.status in (500, 429) and sandbox.records[0].length == len(FORM)


async def test_a_body_with_broken_framing_is_the_callers_fault(caplog: pytest.LogCaptureFixture) -> None:
    sent = chunked(CHATS, [BODY]).replace(b"\r\n0\r\n\r\n", b"\r\nhush\r\n\r\n")
    async with Sandbox() as sandbox:
        heard = await ask(sandbox.url, sent)
    assert heard.status == 400
    assert "hush" not in caplog.text
