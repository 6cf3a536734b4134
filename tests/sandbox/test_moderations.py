"""The sandbox's verdicts on texts and pictures."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types import ModerationCreateResponse
from PIL import Image

from proxy.sandbox import markers

from .asking import ask, data_url, post_all, refusals

PATH = "/moderations"
PLAIN = Image.new("RGB", (96, 64), "teal")


def judged(wanted: Any, **more: Any) -> ModerationCreateResponse:
    return ask(lambda client: client.moderations.create(input=wanted, **more))


def image(picture: Image.Image, output_format: str = "PNG") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(picture, output_format)}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_a_string_has_one_result_and_a_list_one_for_each() -> None:
    one = judged("flag:violence")
    several = judged(["a fox", "flag:hate/threatening", ""])
    assert [result.flagged for result in one.results] == [True]
    assert [result.flagged for result in several.results] == [False, True, False]
    assert several.results[1].categories.hate_threatening and not several.results[1].categories.hate
    assert one.model == "omni-moderation-latest" and one.id.startswith("modr-")


def test_parts_have_one_result_together() -> None:
    marked = markers.mark(PLAIN, "self-harm", "violence/graphic")
    (result,) = judged([text("flag:sexual/minors"), text("a fox"), image(marked, "JPEG")]).results
    named = {name for name, flagged in result.categories.model_dump(by_alias=True).items() if flagged}
    assert named == {"sexual/minors", "self-harm", "violence/graphic"}


@pytest.mark.parametrize(
    ("parts", "types", "text_only"),
    [
        ([text("a fox")], ["text"], ["text"]),
        ([image(PLAIN)], ["image"], []),
        ([text("a fox"), image(PLAIN, "WEBP")], ["text", "image"], ["text"]),
    ],
)
def test_says_what_each_category_was_scored_on(parts: list[Any], types: list[str], text_only: list[str]) -> None:
    (result,) = judged(parts).results
    applied = result.category_applied_input_types.model_dump(by_alias=True)
    assert set(applied) == set(markers.CATEGORIES)
    for name, said in applied.items():
        assert said == (types if name in markers.IN_IMAGES else text_only), name


def test_scores_tell_flagged_from_not_and_stay_the_same() -> None:
    one, two = (judged("a fox flag:illicit").results[0].category_scores.model_dump(by_alias=True) for _ in range(2))
    assert one == two
    assert one["illicit"] > 0.9
    assert all(0 < score < 0.1 for name, score in one.items() if name != "illicit")


@pytest.mark.parametrize("model", ["text-moderation-latest", "text-moderation-stable"])
def test_the_old_models_know_nothing_of_illicit(model: str) -> None:
    answer = judged("flag:illicit flag:hate", model=model)
    categories = answer.results[0].categories
    assert (categories.illicit, categories.illicit_violent, categories.hate) == (None, None, True)
    assert answer.model == "text-moderation-007"
    assert not judged("flag:illicit", model=model).results[0].flagged


def test_takes_a_picture_of_twenty_megabytes_and_no_larger() -> None:
    # Bytes after the end of a picture are no part of it; what counts is how many came.
    data = base64.b64decode(data_url(PLAIN).partition(",")[2])
    urls = ["data:image/png;base64," + base64.b64encode(data.ljust(size)).decode() for size in (20 << 20, 21 << 20)]
    bodies = [{"input": [{"type": "image_url", "image_url": {"url": url}}]} for url in urls]
    (fine, _), (status, refused) = post_all(PATH, bodies)
    assert (fine, status, refused["error"]["code"]) == (200, 400, "image_too_large")


REFUSED: list[tuple[Any, int, str | None, str | None]] = [
    ({}, 400, "input", "missing_required_parameter"),
    ({"input": 7}, 400, "input", "invalid_type"),
    ({"input": []}, 400, "input", "empty_array"),
    ({"input": ["a", 7]}, 400, "input[1]", "invalid_type"),
    ({"input": ["a", text("b")]}, 400, "input[1]", "invalid_type"),
    ({"input": [text("a"), "b"]}, 400, "input[1]", "invalid_type"),
    ({"input": [{"text": "a"}]}, 400, "input[0].type", "missing_required_parameter"),
    ({"input": [{"type": "audio"}]}, 400, "input[0].type", "invalid_value"),
    ({"input": [{"type": "text"}]}, 400, "input[0].text", "missing_required_parameter"),
    ({"input": [{"type": "text", "text": "a", "more": 1}]}, 400, "input[0].more", "unknown_parameter"),
    ({"input": [{"type": "image_url", "image_url": "x"}]}, 400, "input[0].image_url", "invalid_type"),
    ({"input": [{"type": "image_url", "image_url": {}}]}, 400, "input[0].image_url.url", "missing_required_parameter"),
    (
        {"input": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
        400,
        "url",
        "invalid_image_url",
    ),
    ({"input": [{"type": "image_url", "image_url": {"url": "a.png"}}]}, 400, "input[0].image_url.url", "invalid_value"),
    (
        {"input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}]},
        400,
        "input[0].image_url.url",
        "invalid_base64",
    ),
    (
        {"input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        400,
        "input[0].image_url.url",
        "invalid_value",
    ),
    ({"input": [image(PLAIN), image(PLAIN)]}, 400, "input", "too_many_images"),
    ({"input": [image(PLAIN)], "model": "text-moderation-latest"}, 400, "input", "invalid_type"),
    ({"input": "a", "model": "gpt-5"}, 404, "model", "model_not_found"),
    ({"input": "a", "user": "me"}, 400, "user", "unknown_parameter"),
]


def test_refuses_what_openai_refuses() -> None:
    assert refusals(PATH, [body for body, *_ in REFUSED]) == [tuple(rest) for _, *rest in REFUSED]


def test_a_picture_that_is_cut_off_is_refused() -> None:
    head, _, data = data_url(Image.effect_noise((96, 96), 90)).partition(",")
    url = f"{head},{data[: len(data) // 2 // 4 * 4]}"
    ((status, _, code),) = refusals(PATH, [{"input": [{"type": "image_url", "image_url": {"url": url}}]}])
    assert (status, code) == (400, "invalid_value")


def test_the_catalogue_holds_the_models() -> None:
    async def names(client: AsyncOpenAI) -> set[str]:
        return {model.id async for model in client.models.list()}

    assert {"omni-moderation-latest", "text-moderation-stable", "text-embedding-3-small", "gpt-realtime"} <= ask(names)
