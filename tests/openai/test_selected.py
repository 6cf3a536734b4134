"""Whatever in a request selects a model is found, wherever it stands; what can't be seen is said to be there."""

from __future__ import annotations

import itertools

import orjson
import pytest

from proxy.api import Rejected, operation, spoken
from proxy.openai.quality import FAMILIES, NEAREST, family, mapped
from proxy.openai.selected import selected

from .asking import LONG, Pieces, ask
from .test_operation_refused import EDITS, FORM, field, form

# Output tokens of a picture of 1024x1024, as published for each family.
TOKENS = {
    "1": {"low": 272, "medium": 1056, "high": 4160},
    "2": {"low": 196, "medium": 1756, "high": 7024},
    "2.5": {"low": 196, "medium": 439, "high": 1756, "xhigh": 3122, "max": 7024},
}


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"model": "a"}, {"model": "a"}),
        ({"model": "a", "models": ["b", "c"]}, {"model": "a", "models[0]": "b", "models[1]": "c"}),
        ({"model": None, "fallbacks": None}, {}),
        ({"tools": [{"type": "x"}, {"type": "image_generation", "model": "a"}]}, {"tools[1].model": "a"}),
        ({"tools": [{"type": "image_generation"}]}, {"tools[0].model": None}),
        ({"tools": [{"type": "image_generation_2", "model": None}]}, {"tools[0].model": None}),
        ({"input": [{"type": "y", "tools": [{"type": "image_generation"}]}]}, {"input[0].tools[0].model": None}),
        ({"input": [{"type": "image_generation_call", "output_format": "svg"}]}, {}),
        ({"tool_choice": {"type": "image_generation"}, "metadata": {"model": "a"}}, {}),
        ({"tools": [{"type": "function", "parameters": {"properties": {"model": {"type": "string"}}}}]}, {}),
        ({"tools": [{"parameters": {"examples": [{"model": "Corolla"}]}}]}, {}),
        ({"parameters": {"model": "a"}}, {"parameters.model": "a"}),
        ({"fallbacks": ["a", {"model": "b"}]}, {"fallbacks[0]": "a", "fallbacks[1]": None}),
        ({"context_window_fallbacks": [{"a": ["b"]}]}, {"context_window_fallbacks[0]": None}),
        ({"provider": {"allow_fallbacks": True}, "disable_fallbacks": False}, {}),
        ({"extra_body": {"Model": "a"}, "fallbackModels": ["b"]}, {"extra_body.Model": "a", "fallbackModels[0]": "b"}),
        ({"moderation": {"model": "a"}, "audio": {"transcription": {"model": "b"}}},
         {"moderation.model": "a", "audio.transcription.model": "b"}),
        ({"output_format": "svg"}, {"svg.model": None}),
        ({"output_format": "SVG", "svg": {"reasoning": {}}}, {"svg.model": None}),
        ({"output_format": "svg", "svg": {"model": "a"}}, {"svg.model": "a"}),
        ({"prompt": {"id": "pmpt_1"}}, {"prompt": None}),
        ({"prompt": "a model", "input": "models", "messages": [{"role": "user", "content": "fallback"}]}, {}),
        ([{"model": "a"}], {"[0].model": "a"}),
        ({"agent": {"model": 5}}, {"agent.model": None}),
        ("model", {}),
    ],
)  # fmt: skip
def test_finds_every_model_in_a_document(document: object, found: dict[str, str | None]) -> None:
    assert {model.path: model.name for model in selected(document)} == found


async def test_an_operation_names_those_of_body_query_and_path() -> None:
    body = b'{"mod\\u0065l":"a","tools":[{"type":"image_generation","model":"b","quality":"high"}]}'
    for request in (ask(body, "/v1/responses?model=a"), ask(Pieces(body), "/v1/responses?model=a")):
        found = (await operation(request)).models
        assert [(model.path, model.name, model.quality) for model in found] == [
            ("?model", "a", None),
            ("model", "a", None),
            ("tools[0].model", "b", "high"),
        ]
    found = (await operation(ask(b'{"model":"a"}', "/openai/deployments/d%2D1/images/generations"))).models
    assert [(model.path, model.name, model.place) for model in found] == [
        ("deployment", "d-1", "path"),
        ("model", "a", "body"),
    ]


async def test_a_document_with_long_pictures_names_its_models_all_the_same() -> None:
    body = orjson.dumps({"images": [{"image_url": LONG}], "svg": {"model": "b"}, "model": "a", "output_format": "svg"})
    found = (await operation(ask(body, EDITS))).models
    assert {model.path: model.name for model in found} == {"model": "a", "svg.model": "b"}


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([field("model", "a"), field("quality", "high")], [("model", "a", "high")]),
        ([field("svg[model]", "b"), field("output_format", "svg")], [("svg[model]", "b", None)]),
        ([field("output_format", "svg")], [("svg[model]", None, None)]),
        ([field("models[]", "b"), field("models[]", "c")], [("models[]", "b", None), ("models[]", "c", None)]),
        ([field("models", '["b"]')], [("models", None, None)]),
        ([field("svg", ' {"mod\\u0065l":"b"}')], [("svg", None, None)]),
        ([field("extra_body", '{"Model":"b"}')], [("extra_body", None, None)]),
        ([field("extra_body", '{"n":1}')], []),
        ([field("prompt", '{"model":"b"}')], []),
        ([field("svg[model]", "b", '; filename="x"')], [("svg[model]", None, None)]),
        ([field("fallback", "b")], [("fallback", "b", None)]),
    ],
)
async def test_a_form_names_its_models(parts: list[str], found: list[tuple[str, str | None, str | None]]) -> None:
    asked = await operation(ask(form(*parts), EDITS, FORM))
    assert [(model.path, model.name, model.quality) for model in asked.models] == found


def test_a_message_names_its_models_or_is_refused() -> None:
    _, found = spoken(b'{"type":"session.update","session":{"model":"a"}}')
    assert [(model.path, model.name) for model in found] == [("session.model", "a")]
    for message in (b'{"model":"a","model":"b"}', b"no JSON", b'{"a":NaN}'):
        with pytest.raises(Rejected):
            spoken(message)


# --- Quality


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("gpt-image-2", "2"),
        ("gpt-image-2-2026-04-21", "2"),
        ("azure/gpt-image-2", "2"),
        ("Prod-GPT-Image-2.5-flare", "2.5"),
        ("gpt-image-2.5-sunburst-2026-09-08", "2.5"),
        ("gpt-image-2.6-sunburst", None),
        ("gpt-image-20", None),
        ("gpt-image-1", "1"),
        ("gpt-image-1.5", "1"),
        ("gpt-image-1-mini", "1"),
        ("chatgpt-image-latest", "1"),
        ("dall-e-3", "dall-e"),
        ("my-image-deployment", None),
        ("xdall-e-3", None),
    ],
)
def test_a_name_tells_its_family(name: str, known: str | None) -> None:
    assert family(name) == known


def test_every_word_goes_to_the_nearest_in_tokens() -> None:
    names = {known: name for name, known in FAMILIES.items()}
    for old, new in itertools.permutations(TOKENS, 2):
        for word, tokens in TOKENS[old].items():
            became = mapped(word, names[old], names[new]) or word
            ratios = {other: max(tokens / count, count / tokens) for other, count in TOKENS[new].items()}
            assert became == min(ratios, key=lambda other: ratios[other]), (old, new, word)


def test_no_word_leads_where_a_family_does_not_know_it() -> None:
    for (_, new), words in NEAREST.items():
        assert set(words.values()) <= set(TOKENS[new])
    assert mapped("auto", "gpt-image-2", "gpt-image-2.5-flare") is None
    assert mapped("high", "gpt-image-2", "my-image-deployment") is None
    assert mapped("hd", "dall-e-3", "gpt-image-2") == "high"
