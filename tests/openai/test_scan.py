"""The scanner of answers: the same as a plain reading, however the answer is cut, and whatever is broken in it."""

from __future__ import annotations

import time

import pytest

from proxy.openai.scan import Scanner

from .agreement import Tally, hear, try_two

CASES = 1_000_000  # in all, for `make test-long`


def tried(seeds: range) -> Tally:
    tally = Tally()
    for seed in seeds:
        try:
            try_two(seed, tally)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    return tally


def test_reads_what_a_plain_parser_reads_at_every_cut() -> None:
    tally = tried(range(1000))
    assert tally.read > tally.cases / 2 and tally.images > tally.cases / 3


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_reads_what_a_plain_parser_reads_a_million_times(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    tally = tried(range(10_000, 10_000 + CASES // 2))
    took = time.monotonic() - began
    with capsys.disabled():
        print(
            f"\n{tally.cases} answers ({tally.read} that a plain parser reads), {tally.images} images,"
            f" {tally.bytes} bytes in {tally.pieces} pieces, {took:.0f} s: the same images, usage and verdict"
        )
    assert tally.cases == CASES


def test_a_key_in_a_prompt_is_no_picture() -> None:
    data = rb'{"data":[{"revised_prompt":"\"b64_json\":\"AAAA\""}],"metadata":{"b64_json":"AAAA"}}'
    for size in (1, 7, len(data)):
        scanner = Scanner("json")
        for at in range(0, len(data), size):
            scanner.feed(data[at : at + size])
        scanner.close()
        assert scanner.verdict == "none"


def test_a_link_that_begins_with_a_zero_byte_is_read() -> None:
    # Seen after 25,000 answers: as bytes, a string of which the first is zero was taken for UTF-16, and refused.
    heard = hear("json", [b'{"data":[{"url":"\0/a"}]}'])
    assert [(image.url, image.bad) for image in heard.images] == [("\0/a", None)]


def test_an_event_of_no_type_is_partial_though_it_says_so_late() -> None:
    # Seen after 15,000 answers: an empty type settled the kind before the rest of the event had come.
    heard = hear("sse", [b'data: {"type":"","b64_json":"iVBORw0KGgoAAAAA","partial_image_index":0}\n\n'])
    assert [image.kind for image in heard.images] == ["partial"] and heard.scanner.verdict == "none"


def test_an_empty_picture_does_not_make_the_next_a_repetition() -> None:
    # Seen after 485,000 answers: an item whose data: URI held nothing was remembered as a picture that had come.
    call = '{"type":"image_generation_call","id":"ig_1","result":"%s"}'
    data = '{"output":[' + call % "data:image/svg+xml," + "," + call % "iVBORw0KGgoAAAAA" + "]}"
    assert [image.kind for image in hear("json", [data.encode()]).images] == ["final", "final"]


def test_a_link_with_half_a_surrogate_pair_is_none() -> None:
    # Seen after 715,000 answers: it was handed out as a text that nobody can send on.
    heard = hear("json", [b'{"data":[{"url":"https://a/\\udc08"}]}'])
    assert [(image.url, image.bad) for image in heard.images] == [(None, "a URL that is not UTF-8")]
    assert heard.scanner.verdict == "none"
