"""The scanner of answers: the same as a plain reading, however the answer is cut, and whatever is broken in it."""

from __future__ import annotations

import base64
import tracemalloc
from random import Random

import pytest

from proxy.openai.scan import Scanner

from .agreement import try_one

CASES = 1_000_000  # in all, for `make test-long`


def tried(seeds: range) -> None:
    for seed in seeds:
        try:
            try_one(Random(seed), cuts=2)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_reads_what_a_plain_parser_reads_at_every_cut() -> None:
    tried(range(1500))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_reads_what_a_plain_parser_reads_a_million_times(capsys: pytest.CaptureFixture[str]) -> None:
    tried(range(10_000, 10_000 + CASES))
    with capsys.disabled():
        print(f"\n{CASES} answers, each whole and cut twice: the same images, usage and verdict")


def test_a_key_in_a_prompt_is_no_picture() -> None:
    data = rb'{"data":[{"revised_prompt":"\"b64_json\":\"AAAA\""}],"metadata":{"b64_json":"AAAA"}}'
    for size in (1, 7, len(data)):
        scanner = Scanner("json")
        for at in range(0, len(data), size):
            scanner.feed(data[at : at + size])
        scanner.close()
        assert scanner.verdict == "none"


def test_the_verdict_is_known_early_and_memory_stays_flat() -> None:
    picture = base64.b64encode(bytes(range(256)) * 32_768)
    data = b'  \n{"created":1,"data":[{"b64_json":"' + picture + b'"}],"usage":{"total_tokens":7}}'
    scanner = Scanner("json", lambda image: True)
    assert list(scanner.feed(data[:4096])) and scanner.verdict == "image"
    pieces = [data[at : at + 2**16] for at in range(4096, len(data), 2**16)]
    size = 0
    tracemalloc.start()
    for piece in pieces:
        for event in scanner.feed(piece):
            if event.what == "piece":
                size += len(event.data)
                del event
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    scanner.close()
    assert scanner.facts.usage == {"total_tokens": 7}
    assert size > 8_000_000 and peak < 512 * 1024
