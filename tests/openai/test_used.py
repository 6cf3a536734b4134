"""What an answer says that it took, in every form that services have."""

from __future__ import annotations

import base64
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from proxy.api import Bytes, Demand, Headers, Means, Reading, Response, Share, Used, demand, operation, used
from proxy.core.reading import read
from proxy.sandbox import Sandbox

from ..sandbox.asking import data_url
from .asking import ask

B64 = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(60)).decode()
DRAWN = Share("gpt-image-2", 10, 0, 0, 4 * 1756, 4, True, "auto", "auto")
IMAGES = Demand(1, 4, 10 + 4 * 1756, (DRAWN,))
SPOKEN = Share("gpt-5", 10, text_out=1000)
CHAT = Demand(1, 0, 1010, (SPOKEN,), guessed=True)
TOOL = Share("gpt-image-2", 10, 0, 0, 7024, 1, True)
TOOLED = Demand(1, 1, 1010 + 7034, (SPOKEN, TOOL))
IMAGE_USAGE = {
    "input_tokens": 30,
    "output_tokens": 500,
    "total_tokens": 530,
    "input_tokens_details": {"image_tokens": 20, "text_tokens": 10},
    "output_tokens_details": {"image_tokens": 490, "text_tokens": 10},
}


def heard(document: Any, *, sse: bool = False, cut: bool = False) -> Reading:
    """The reading of an answer that has come."""
    if sse:
        body = b"".join(b"data: %b\n\n" % (one if one == b"[DONE]" else orjson.dumps(one)) for one in document)
    else:
        body = orjson.dumps(document)
    headers = Headers.of(content_type="text/event-stream" if sse else "application/json")
    reading = read(Response(200, headers, Bytes(body[:-1] if cut else body))).reading
    assert reading is not None and reading.ended
    return reading


def pictures(count: int, **more: Any) -> dict[str, Any]:
    return {"created": 1, "data": [{"b64_json": B64}] * count, **more}


def test_images_by_their_usage_and_the_pictures_that_came() -> None:
    found = used(heard(pictures(3, usage=IMAGE_USAGE, size="1024x1024", quality="low")), 200, IMAGES)
    own = Share("gpt-image-2", 10, 20, 10, 490, 3, True, "1024x1024", "low", True)
    assert found == Used(1, 3, 530, (own,), True)


def test_images_without_usage_by_the_estimate_for_as_many_as_came() -> None:
    found = used(heard(pictures(1)), 200, IMAGES)
    assert (found.images, found.tokens, found.told) == (1, 10 + 1756, False)
    none = used(heard({"created": 1, "data": []}), 200, IMAGES)
    assert (none.requests, none.images, none.tokens) == (1, 0, 10)


def test_a_picture_given_twice_is_one() -> None:
    both = {"data": [{"b64_json": B64, "url": "https://example.com/a.png"}, {"url": None, "b64_json": B64}]}
    assert used(heard(both), 200, IMAGES).images == 2


def test_the_last_event_of_a_stream_says_what_it_took() -> None:
    said = {key: IMAGE_USAGE[key] for key in ("input_tokens", "output_tokens", "total_tokens")}
    events = [
        {"type": "image_generation.partial_image", "b64_json": B64, "partial_image_index": 0},
        {"type": "image_generation.completed", "b64_json": B64, "usage": said},
    ]
    found = used(heard(events, sse=True), 200, IMAGES)
    (own,) = found.shares
    assert (found.images, found.tokens, own.image_out, own.text_out) == (1, 530, 500, 0)


@pytest.mark.parametrize(
    ("usage", "come", "gone"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}, 7, 5),
        ({"prompt_tokens": 7, "completion_tokens": 5}, 7, 5),
        ({"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}, 7, 5),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 20}, 7, 13),  # thoughts in the total alone
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 1}, 7, 5),
        ({"total_tokens": 12}, 0, 12),
        ({"completion_tokens": 5}, 0, 5),
        ({"prompt_tokens": 7, "completion_tokens": "5"}, 7, 0),
        ({"prompt_tokens": -7, "completion_tokens": 5}, 0, 5),
        ({"prompt_tokens": True, "completion_tokens": 5, "total_tokens": 2**60}, 0, 5),
    ],
)
def test_words_in_every_form_of_usage(usage: dict[str, Any], come: int, gone: int) -> None:
    whole = used(heard({"id": "c", "choices": [], "usage": usage}), 200, CHAT)
    chunks = [{"id": "c", "choices": [], "usage": None}, {"id": "c", "choices": [], "usage": usage}, b"[DONE]"]
    assert whole == used(heard(chunks, sse=True), 200, CHAT)
    assert whole == Used(1, 0, come + gone, (Share("gpt-5", come, text_out=gone, told=True),), True)


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": 1.5}, {"prompt_tokens": -1}, {"seconds": 3}])
def test_without_a_word_of_usage_what_was_held_is_taken(usage: Any) -> None:
    assert used(heard({"id": "c", "choices": [], "usage": usage}), 200, CHAT) == Used(1, 0, 1010, (SPOKEN,))


def test_embeddings_have_input_alone() -> None:
    asked = Demand(1, 0, 99, (Share("e", 99),))
    for usage in ({"prompt_tokens": 8, "total_tokens": 8}, {"total_tokens": 8}):
        assert used(heard({"data": [], "usage": usage}), 200, asked).shares == (Share("e", 8, told=True),)


def item(name: str | None = "ig_1") -> dict[str, Any]:
    return {"type": "image_generation_call", "id": name, "status": "completed", "result": B64}


SPEAKING = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}


def test_a_response_tells_apart_what_its_tool_took() -> None:
    answer = {"id": "r", "output": [item(), item("ig_2")], "usage": SPEAKING, "tool_usage": {"image_gen": IMAGE_USAGE}}
    found = used(heard(answer), 200, TOOLED)
    assert (found.images, found.tokens) == (2, 12 + 530)
    assert [(one.model, one.images, one.tokens, one.told) for one in found.shares] == [
        ("gpt-5", 0, 12, True),
        ("gpt-image-2", 2, 530, True),
    ]


def test_a_picture_that_comes_again_in_a_stream_is_one() -> None:
    done = {"id": "r", "output": [item()], "usage": SPEAKING}
    events = [{"type": "response.output_item.done", "item": item()}, {"type": "response.completed", "response": done}]
    found = used(heard(events, sse=True), 200, TOOLED)
    assert (found.images, found.tokens) == (1, 12 + 7034)  # it may not be told what the tool took


def test_a_tool_that_was_not_called_took_nothing() -> None:
    found = used(heard({"id": "r", "output": [], "usage": SPEAKING}), 200, TOOLED)
    assert (found.images, found.tokens, found.shares[1]) == (0, 12, Share("gpt-image-2", draws=True))


def test_a_tool_that_nobody_saw_is_paid_too() -> None:
    answer = {"id": "r", "output": [item()], "usage": SPEAKING, "tool_usage": {"image_gen": IMAGE_USAGE}}
    found = used(heard(answer), 200, Demand(1, 0, 1010, (SPOKEN,)))
    assert (found.images, found.tokens, found.shares[1].model) == (1, 542, None)


def test_a_tool_that_nobody_saw_is_guessed_where_it_tells_nothing() -> None:
    found = used(heard({"id": "r", "status": "completed", "output": [item()], "usage": SPEAKING}), 200, CHAT)
    assert (found.images, found.tokens, found.shares[1].model) == (1, 12 + 7024, None)


def test_of_two_tools_the_first_is_paid() -> None:
    other = TOOL._replace(model="gpt-image-1.5")
    answer = {"id": "r", "output": [item()], "usage": SPEAKING, "tool_usage": {"image_gen": IMAGE_USAGE}}
    found = used(heard(answer), 200, TOOLED._replace(shares=(SPOKEN, TOOL, other)))
    assert (found.images, found.tokens, found.shares[2]) == (1, 542, Share("gpt-image-1.5", draws=True))


def test_a_chat_whose_model_draws_unasked_is_one_model() -> None:
    message = {"content": None, "images": [{"image_url": {"url": "data:image/png;base64," + B64}}]}
    answer = {"id": "c", "choices": [{"message": message}], "usage": {"prompt_tokens": 7, "completion_tokens": 1300}}
    found = used(heard(answer), 200, CHAT)
    assert found == Used(1, 1, 1307, (Share("gpt-5", 7, text_out=1300, images=1, draws=True, told=True),), True)


def test_who_wrote_an_svg_is_added() -> None:
    svg = {"input_tokens": 3, "output_tokens": 4, "reasoning_tokens": 0, "total_tokens": 7, "model": "gpt-5.5"}
    asked = IMAGES._replace(shares=(DRAWN, Share(None, 10, text_out=1000)))
    for demanded in (asked, IMAGES):
        found = used(heard(pictures(1, usage=IMAGE_USAGE, svg_usage=svg)), 200, demanded)
        assert (found.tokens, found.shares[1]) == (537, Share("gpt-5.5", 3, text_out=4, told=True, image_in=0))
    assert len(used(heard(pictures(1, usage=IMAGE_USAGE)), 200, asked).shares) == 1


@pytest.mark.parametrize("status", [302, 400, 429, 500, 504])
def test_a_failed_call_takes_nothing(status: int) -> None:
    assert used(heard(pictures(1, usage=IMAGE_USAGE)), status, IMAGES) == Used(0, 0, 0)


def test_an_error_in_the_place_of_an_answer_takes_nothing() -> None:
    error = {"error": {"message": "no", "code": "server_error"}}
    assert used(heard(error), 200, IMAGES) == Used(0, 0, 0)
    assert used(heard([error], sse=True), 200, CHAT) == Used(0, 0, 0)
    failed = {"type": "response.failed", "response": {"id": "r", "status": "failed", **error}}
    assert used(heard([failed], sse=True), 200, TOOLED) == Used(0, 0, 0)
    assert used(heard([{"id": "c", "choices": []}, error], sse=True), 200, CHAT).tokens == 1010  # some had come


def test_what_broke_off_is_charged_as_held() -> None:
    found = used(heard(pictures(2), cut=True), 200, IMAGES)
    assert (found.images, found.tokens) == (4, IMAGES.tokens)
    assert used(heard([{"id": "c", "choices": []}], sse=True), 200, TOOLED).images == 0
    assert used(None, 200, TOOLED) == Used(1, 1, TOOLED.tokens, TOOLED.shares)
    assert used(None, 101, CHAT).tokens == 1010


def test_what_no_one_knows_and_tells_of_tokens_has_them_counted() -> None:
    found = used(heard({"model": "m", "usage": SPEAKING}), 200, Demand(1, 0, 0))
    assert found == Used(1, 0, 12, (Share("m", 7, text_out=5, told=True),), True)
    assert used(heard({"data": []}), 200, Demand(1, 0, 0)) == Used(1, 0, 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.dictionaries(st.sampled_from([*IMAGE_USAGE, "image_tokens", "image_gen", "prompt_tokens"]), inner),
    max_leaves=8,
)


@given(JSON, JSON, JSON, st.integers(0, 3), st.sampled_from((IMAGES, CHAT, TOOLED, Demand(1, 0, 0))))
def test_nothing_that_an_upstream_says_gets_beyond_counting(a: Any, b: Any, c: Any, count: int, asked: Demand) -> None:
    found = used(heard(pictures(count, usage=a, tool_usage=b, svg_usage=c)), 200, asked)
    amounts = [found.requests, found.images, found.tokens, *(one for share in found.shares for one in share[1:6])]
    assert all(type(one) is int and 0 <= one <= 2**53 - 1 for one in amounts)


# --- Before and after, with an upstream that counts for itself

DRAW = {"model": "gpt-image-2", "prompt": "A red fox, \u8d64\u3044\u72d0", "size": "1024x1024", "quality": "low"}
SAY = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "Say something of foxes."}]}
TOOLED_BY = [{"type": "image_generation", "model": "gpt-image-2", "quality": "low", "size": "1024x1024"}]
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("images/generations", DRAW),
    ("images/generations", {**DRAW, "n": 2, "quality": "medium"}),
    ("images/generations", {**DRAW, "stream": True, "partial_images": 2}),
    ("images/generations", {"model": "gpt-image-2.5-flare", "prompt": "x", "quality": "low"}),
    ("images/edits", {**DRAW, "images": [{"image_url": data_url(Image.new("RGB", (640, 360)))}]}),
    ("chat/completions", SAY),
    ("chat/completions", {**SAY, "max_tokens": 40, "n": 2}),
    ("chat/completions", {**SAY, "stream": True, "stream_options": {"include_usage": True}}),
    ("responses", {"model": "gpt-5.5", "input": "Draw a red fox.", "tools": TOOLED_BY}),
    ("responses", {"model": "gpt-5.5", "input": "Draw a red fox.", "tools": TOOLED_BY, "stream": True}),
    ("embeddings", {"model": "text-embedding-3-small", "input": ["a fox", "another"]}),
]


@pytest.mark.parametrize("path", ["images", "chat", "responses", "embeddings"])
async def test_what_was_held_covers_what_the_sandbox_says_it_took(path: str) -> None:
    means = Means()
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        for target, document in ASKED:
            if not target.startswith(path):
                continue
            held = demand(await operation(ask(orjson.dumps(document), f"/v1/{target}")), means)
            async with session.post(f"{sandbox.url}/{target}", json=document) as answer:
                body, kind = await answer.read(), answer.content_type
            assert answer.status == 200, body
            reading = read(Response(200, Headers.of(content_type=kind), Bytes(body))).reading
            found = used(reading, 200, held)
            assert found.told and found.requests == held.requests == 1
            assert 0 < found.tokens <= held.tokens, (document, found, held)
            assert (
                found.images == held.images == document.get("n", 1) * (target not in ("chat/completions", "embeddings"))
            )
            assert [one.model for one in found.shares] == [one.model for one in held.shares]
