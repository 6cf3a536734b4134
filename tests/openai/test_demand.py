"""The most that a request may take: the dearest that it permits, and never an absurd amount."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.api import Demand, Means, Rejected, Share, Used, demand, operation
from proxy.openai.demand import DRAWN_AFTER, FIRST, LOOKED_AT, UNSEEN
from proxy.openai.image_tokens import image_tokens
from proxy.sandbox import usage

from .asking import LONG, ask
from .test_operation_refused import EDITS, FORM, field, form

IMAGES, CHAT, RESPONSES = "/v1/images/generations", "/v1/chat/completions", "/v1/responses"
TEXT = "twelve bytes"
TOKENS = 4 + 4  # of that text, and its frame
TOOL = {"type": "image_generation", "model": "gpt-image-2", "quality": "low", "size": "1024x1024"}


async def asked(document: dict[str, Any], target: str = IMAGES, means: Means | None = None) -> Demand:
    return demand(await operation(ask(orjson.dumps(document), target)), means or Means())


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-5", "messages": [{"role": "user", "content": TEXT}], **more}


async def test_pictures_by_number_size_and_quality() -> None:
    found = await asked({"model": "gpt-image-2", "prompt": TEXT, "n": 4, "size": "1024x1024", "quality": "medium"})
    own = Share("gpt-image-2", TOKENS, 0, 0, 4 * 1756, 4, True, "1024x1024", "medium")
    assert found == Demand(1, 4, TOKENS + 4 * 1756, (own,))


@pytest.mark.parametrize(
    ("model", "size", "quality", "expected"),
    [
        ("gpt-image-2", "1024x1024", "high", 7024),
        ("gpt-image-2", None, None, 7024),
        ("gpt-image-2", "auto", "auto", 7024),
        ("gpt-image-2", "auto", "xhigh", 7024),  # a word that it does not know
        ("gpt-image-2", "99999x1", "low", 397),  # a size that it does not draw
        ("gpt-image-2", "0x0", "low", 397),
        ("gpt-image-2", "\u0661024x1024", "low", 397),
        ("gpt-image-2", "2880x2880", "high", 23_719),
        ("gpt-image-2-2026-04-21", "1536x1024", "low", 158),
        ("prod-gpt-image-2.5-flare", "1024x1024", "max", 7024),
        ("gpt-image-2.5-flare", "1024x1024", "xhigh", 3122),
        ("gpt-image-1.5", None, "high", 6240),
        ("gpt-image-1.5", "640x480", "low", 408),
        ("chatgpt-image-latest", "1024x1024", "medium", 1056),
        ("gpt-image-2.6-sunburst", "1024x1024", "medium", 1756),  # no table is known: as the dearest family
        ("my-deployment", "1024x1024", "high", 7024),
        (None, None, None, 7024),
        ("m" * 10**6, None, None, 7024),
    ],
)
def test_a_picture_that_is_left_open_or_unknown_is_the_dearest(
    model: str | None, size: str | None, quality: str | None, expected: int
) -> None:
    assert image_tokens(model, size, quality) == expected


@pytest.mark.parametrize("model", ["gpt-image-2", "gpt-image-2.5-sunburst"])
def test_the_sandbox_counts_pictures_alike(model: str) -> None:
    sizes = ((1024, 1024), (1536, 1024), (2048, 2048), (3840, 2160), (1536, 864), (864, 1536), (1008, 1376))
    for (width, height), quality in product(sizes, usage.qualities(model)):
        ours = image_tokens(model, f"{width}x{height}", quality)
        assert ours == usage.image_tokens(model, quality, width, height), (width, height, quality)


async def test_partial_pictures_take_tokens_too() -> None:
    said = {"model": "gpt-image-2", "prompt": TEXT, "quality": "low", "size": "1024x1024", "n": 2}
    assert (await asked({**said, "partial_images": 3, "stream": True})).tokens == TOKENS + 2 * (196 + 300)
    tool = {**TOOL, "partial_images": 2}
    found = await asked({"model": "gpt-5", "input": TEXT, "max_output_tokens": 10, "tools": [tool]}, RESPONSES)
    assert found.shares[1].image_out == 196 + 200


async def test_a_form_asks_like_json() -> None:
    fields = [field("model", "gpt-image-2"), field("prompt", TEXT), field("n", "2"), field("quality", "low")]
    fields += [field("size", "1024x1024"), field("partial_images", "1")]
    body = form(*fields, field("image[]", "x", '; filename="a.png"'))
    found = demand(await operation(ask(body, EDITS, FORM)), Means())
    assert found == Demand(1, 2, TOKENS + DRAWN_AFTER + 2 * 296, found.shares)


@pytest.mark.parametrize(
    ("document", "target", "output"),
    [
        (chat(max_tokens=50), CHAT, 50),
        (chat(max_completion_tokens=50, n=3), CHAT, 150),
        (chat(max_tokens=50, max_completion_tokens=70), CHAT, 70),
        (chat(max_output_tokens=1), CHAT, FIRST),  # which chat does not know
        (chat(), CHAT, FIRST),
        (chat(max_tokens=None), CHAT, FIRST),
        (chat(max_tokens=0), CHAT, FIRST),
        (chat(n=2), CHAT, 2 * FIRST),
        ({"model": "gpt-5", "prompt": TEXT, "max_tokens": 5, "n": 2, "best_of": 8}, "/v1/completions", 40),
        ({"model": "gpt-5", "prompt": [TEXT, ""], "max_tokens": 5, "n": 2}, "/v1/completions", 20),
        ({"model": "gpt-5", "input": TEXT, "max_output_tokens": 50, "n": 9}, RESPONSES, 50),
        ({"model": "gpt-5", "input": TEXT, "max_tokens": 50}, RESPONSES, FIRST),
    ],
)
async def test_words_by_the_maximum_that_was_asked_for(document: dict[str, Any], target: str, output: int) -> None:
    found = await asked(document, target)
    assert (found.requests, found.images) == (1, 0)
    assert found.shares == (Share("gpt-5", TOKENS, text_out=output),)
    assert found.tokens == TOKENS + output and found.guessed == (output % FIRST == 0)


async def test_a_picture_is_held_for_a_tool_that_draws() -> None:
    found = await asked({"model": "gpt-5", "input": TEXT, "max_output_tokens": 10, "tools": [TOOL]}, RESPONSES)
    assert [(one.model, one.images, one.image_out) for one in found.shares] == [
        ("gpt-5", 0, 0),
        ("gpt-image-2", 1, 196),
    ]
    assert (found.images, found.model) == (1, "gpt-5")


async def test_a_model_that_speaks_may_draw_itself() -> None:
    found = await asked(chat(modalities=["text", "image"], n=2, max_tokens=10), CHAT)
    (own,) = found.shares
    assert (found.images, own.images, own.text_out, own.draws) == (2, 2, 20, True)


async def test_who_writes_an_svg_is_paid_apart() -> None:
    said = {"model": "gpt-image-2.5-flare", "prompt": TEXT, "output_format": "svg", "svg": {"model": "gpt-5"}}
    found = await asked(said)
    assert [(one.model, one.draws, one.text_out) for one in found.shares[1:]] == [("gpt-5", False, FIRST)]


async def test_what_goes_in_is_counted_on_the_high_side() -> None:
    greek = "\u03b1\u03b2\u03b3"  # six bytes
    picture = {"type": "image_url", "image_url": {"url": LONG}}
    content = [{"type": "text", "text": greek}, picture, {"type": "file", "file": {"file_id": "f"}}]
    found = await asked({"model": "m", "messages": [{"role": "user", "content": content}], "max_tokens": 1}, CHAT)
    share = found.shares[0]
    # The file is kept elsewhere: it may be a picture, too.
    assert (share.text_in, share.image_in) == (2 + 4, 2 * LOOKED_AT)
    kept = await asked({"model": "m", "previous_response_id": "r", "max_output_tokens": 1}, RESPONSES)
    assert kept.tokens == UNSEEN + 1


async def test_tokens_given_as_numbers_are_counted() -> None:
    found = await asked({"model": "e", "input": [[1, 2, 3], [4, 5]]}, "/v1/embeddings")
    assert found.shares[0].text_in - UNSEEN * 2 == 5 and found.shares[0].text_out == 0
    assert (await asked({"model": "e", "input": list(range(500))}, "/v1/embeddings")).tokens == 500 + UNSEEN


async def test_what_asks_no_model_costs_nothing() -> None:
    moderated = await asked({"input": TEXT, "model": "omni-moderation-latest"}, "/v1/moderations")
    assert moderated == Demand(1, 0, TOKENS)
    listed = demand(await operation(ask(b"", "/v1/models", None, method="GET")), Means())
    assert listed == Demand(1, 0, 0)
    strange = await asked({"model": "m", "thing": TEXT}, "/v1/strange")
    assert strange.shares == (Share("m", TOKENS, text_out=FIRST),)


def learnt(
    model: str, output: int, *, guessed: bool = True, told: bool = True, choices: int = 1
) -> tuple[Demand, Used]:
    own = Share(model, text_out=output, told=told)
    return Demand(1, 0, 0, (Share(model),), choices, guessed), Used(1, 0, 0, (own,), told)


def test_means_run_by_model() -> None:
    means = Means()
    assert means.of("a") == FIRST
    for output in (100, 201):
        means.learn(*learnt("a", output))
    assert (means.of("a"), means.of("b"), means.of(None)) == (151, FIRST, FIRST)
    means.learn(*learnt("b", 90, choices=3))
    assert means.of("b") == 30


def test_means_heed_only_what_was_told_where_no_maximum_was_set() -> None:
    means = Means()
    means.learn(*learnt("a", 1, guessed=False))
    means.learn(*learnt("a", 1, told=False))
    means.learn(Demand(1, 0, 0), Used(1, 0, 0))
    assert means.of("a") == FIRST


def test_means_follow_a_model_that_changes_and_are_bounded() -> None:
    means = Means(most=3)
    for _ in range(100):
        means.learn(*learnt("a", 10))
    for _ in range(400):
        means.learn(*learnt("a", 1000))
    assert means.of("a") > 990
    for name in "bcd":
        means.learn(*learnt(name, 2**53))
    assert [means.of(name) for name in "abcd"] == [FIRST, 10_000_000, 10_000_000, 10_000_000]


NUMBERS = st.one_of(st.none(), st.integers(-1, 10**7 + 1), st.integers(), st.floats(), st.booleans(), st.text())


@given(st.fixed_dictionaries(dict.fromkeys(("n", "max_tokens", "best_of"), NUMBERS)), st.integers(1, 2000))
async def test_no_number_of_a_request_gets_beyond_counting(numbers: dict[str, Any], prompts: int) -> None:
    request = ask(json.dumps({"model": "m", "prompt": ["x"] * prompts, **numbers}).encode(), "/v1/completions")
    bounds = {"n": (1, 128), "best_of": (1, 128), "max_tokens": (0, 10**7)}
    if any(
        value is not None and not (type(value) is int and bounds[name][0] <= value <= bounds[name][1])
        for name, value in numbers.items()
    ):
        with pytest.raises(Rejected):
            await operation(request)
    else:
        found = demand(await operation(request), Means())
        assert 0 < found.tokens <= 2**53 - 1 and all(0 <= count <= 2**53 - 1 for count in found.shares[0][1:6])


async def test_no_sum_of_a_request_gets_beyond_counting() -> None:
    said = {"model": "m", "prompt": TEXT, "max_tokens": 10**7, "best_of": 128}
    found = await operation(ask(orjson.dumps(said), "/v1/completions"))
    (own,) = demand(replace(found, choices=128 * 32_000_000), Means()).shares  # as many prompts as a body may hold
    assert own.text_out == own.tokens == 2**53 - 1
