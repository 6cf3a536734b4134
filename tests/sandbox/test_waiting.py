"""Faults that take time, with a clock that is turned; and clients that leave."""

from __future__ import annotations

import asyncio

import pytest

from proxy.sandbox import Sandbox
from proxy.testkit import TurnedClock

from .plain import CHAT, GENERATION, LAST, Plain, dechunked, post, until

WORDS = post("/v1/chat/completions", {**CHAT, "stream": True}, X_Sandbox_Fault="FAULT")
PICTURE = post("/v1/images/generations", GENERATION, X_Sandbox_Fault="FAULT")
BOTH = pytest.mark.parametrize("question", [PICTURE, WORDS], ids=["picture", "words"])


def fault(name: str, question: bytes) -> bytes:
    return question.replace(b"FAULT", name.encode())


@BOTH
async def test_slow_first_byte_sends_nothing_before_its_time(question: bytes) -> None:
    clock = TurnedClock()
    async with Sandbox(clock=clock) as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(fault("slow-first-byte=3600", question) + LAST)
        await until(lambda: bool(sandbox.records) and sandbox.records[0].fault is not None)
        assert sandbox.records[0].first_byte is None and sandbox.records[0].billed
        clock.turn(3601)
        heard = await plain.rest()
        await plain.leave()
    record = sandbox.records[0]
    assert heard.status == 200 and record.first_byte is not None
    assert record.first_byte - record.received > 3600


@pytest.mark.parametrize("stream", [True, False])
async def test_drips_seven_bytes_at_a_time(stream: bool) -> None:
    question = post("/v1/chat/completions", {**CHAT, "stream": stream}, X_Sandbox_Fault="FAULT")
    clock = TurnedClock()
    async with Sandbox(clock=clock) as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(fault("drip=3600", question))
        seven = await plain.reader.readexactly(7)
        (record,) = sandbox.records
        first = record.sent
        clock.turn(3601)
        await until(lambda: record.sent > first)
        again = await plain.reader.readexactly(record.sent - first)
        await plain.leave()
        await sandbox.idle()
    assert (first, seven) == (7, b"HTTP/1.")
    assert again.startswith(b"1 200 O"[: len(again)])
    assert record.left


@BOTH
async def test_blanks_come_while_the_answer_waits(question: bytes) -> None:
    clock = TurnedClock()
    async with Sandbox(clock=clock) as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(fault("keepalive-blanks=3600", question) + LAST)
        head = await plain.reader.readuntil(b"\r\n\r\n")
        blank = await plain.reader.readuntil(b"\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n") and blank in (b"2\r\n \n\r\n", b"d\r\n: keepalive\n\n\r\n")
        (record,) = sandbox.records
        assert record.sent == len(head) + len(blank)
        for turn in range(1, 6):
            clock.turn(3601)
            await until(lambda turn=turn: record.sent >= len(head) + min(turn + 1, 5) * len(blank))  # type: ignore[misc]
        _, behind, whole = dechunked((await plain.rest()).raw)
        await plain.leave()
    assert whole and behind.startswith(b"HTTP/1.1 200 OK")


@BOTH
async def test_stalls_until_the_client_leaves(question: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with Sandbox() as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(fault("stall-midstream", question))
        await plain.reader.readuntil(b"\r\n\r\n")
        (record,) = sandbox.records
        assert record.done is None and sandbox.counters.in_flight == 1
        await plain.leave()
        await sandbox.idle()
    assert record.left and record.billed and record.done is not None
    assert sandbox.counters.left == 1
    assert caplog.records == [], "a client that leaves is nobody's fault"


@BOTH
async def test_a_stall_ends_with_a_reset_when_the_client_stays(question: bytes) -> None:
    clock = TurnedClock()
    async with Sandbox(clock=clock) as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(fault("stall-midstream=3600", question))
        await plain.reader.readuntil(b"\r\n\r\n")
        assert sandbox.records[0].done is None
        clock.turn(3601)
        heard = await plain.rest()
        await plain.leave()
        await sandbox.idle()
    assert heard.end == "reset" and heard.raw
    assert not sandbox.records[0].left


@pytest.mark.parametrize(("name", "end"), [("early-refusal=401", "closed"), ("early-refusal=429,rst", "reset")])
async def test_refuses_before_the_body_is_there(name: str, end: str) -> None:
    question = post("/v1/images/generations", GENERATION)
    head = question.partition(b"\r\n\r\n")[0].replace(b"Host: a", b"Host: a\r\nX-Sandbox-Fault: " + name.encode())
    async with Sandbox() as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(head + b"\r\n\r\n" + b"{")
        async with asyncio.timeout(8):  # it closes at once, not after the ten seconds for which it reads on
            heard = await plain.rest()
        await plain.leave()
        await sandbox.idle()
    (record,) = sandbox.records
    assert heard.status == record.status == int(name[14:17])
    assert heard.end == end
    assert b"connection: close" in heard.head
    assert (record.length, record.whole, record.billed, record.left) == (0, False, False, False)


async def test_who_leaves_while_the_work_is_done_is_charged_all_the_same() -> None:
    async with Sandbox() as sandbox:
        plain = await Plain.to(sandbox.url)
        await plain.say(fault("slow-first-byte=3600", PICTURE))
        await until(lambda: bool(sandbox.records) and sandbox.records[0].billed)
        await plain.leave()
        await sandbox.idle()
    (record,) = sandbox.records
    assert record.left and record.billed and record.sent == 0


async def test_stopping_does_not_wait_for_what_stalls() -> None:
    async with asyncio.timeout(20):
        async with Sandbox() as sandbox:
            plain = await Plain.to(sandbox.url)
            await plain.say(fault("stall-midstream", WORDS))
            await plain.reader.readuntil(b"\r\n\r\n")
        await plain.rest()
        await plain.leave()
    assert sandbox.records[0].done is not None
