"""The scanner alone, over an answer of 8 MB as it comes: how fast, and how much it holds."""

from __future__ import annotations

import base64
import random
import time
import tracemalloc

import pytest

from proxy.openai.scan import Scanner

PICTURE = b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(6_000_000)
ANSWER = b'{"created":1,"data":[{"b64_json":"' + base64.b64encode(PICTURE) + b'"}],"usage":{"total_tokens":7}}'
EVENT = b'event: image_generation.completed\ndata: {"type":"image_generation.completed",' + ANSWER[1:] + b"\n\n"
PIECE = 2**16
MEMORY = 512 * 1024
# What was asked for; on the machine that wrote this it is 9 and 3. Each is the best of several rounds: others work too.
UNTAKEN, DECODED = 1.5e9, 1.2e9
ROUNDS = 9


def scanned(data: bytes, take: bool) -> int:
    """How many bytes of pictures came of it."""
    scanner = Scanner("sse" if data.startswith(b"event") else "json", (lambda image: True) if take else None)
    size = 0
    for at in range(0, len(data), PIECE):
        for event in scanner.feed(data[at : at + PIECE]):
            size += len(event.data)
            del event
    scanner.close()
    assert scanner.verdict == "image" and scanner.complete
    return size


def speed(data: bytes, take: bool) -> float:
    """Bytes of answer in a second of the processor's, at best."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        scanned(data, take)
        best = min(best, time.process_time() - began)
    return len(data) / best


@pytest.mark.parametrize("take", [False, True])
@pytest.mark.parametrize("data", [ANSWER, EVENT], ids=["json", "sse"])
def test_holds_little_of_a_large_answer(data: bytes, take: bool) -> None:
    tracemalloc.start()
    try:
        size = scanned(data, take)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == (len(PICTURE) if take else 0)
    assert peak < MEMORY


@pytest.mark.long
def test_keeps_up_with_any_network(capsys: pytest.CaptureFixture[str]) -> None:
    cases = [(name, data, take) for name, data in (("JSON", ANSWER), ("SSE", EVENT)) for take in (False, True)]
    found = {(name, take): speed(data, take) for name, data, take in cases}
    tracemalloc.start()
    scanned(ANSWER, True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with capsys.disabled():
        words = [f"{name} {('untaken', 'decoded')[take]} {rate / 1e9:.1f} GB/s" for (name, take), rate in found.items()]
        said = ", ".join(words)
        print(f"\nthe scanner over 8 MB in pieces of 64 KiB: {said}; {peak / 1024:.0f} KiB at most")
    for (_, take), rate in found.items():
        assert rate > (DECODED if take else UNTAKEN)
