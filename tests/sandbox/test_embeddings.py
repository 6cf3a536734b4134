"""The sandbox's vectors."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types import CreateEmbeddingResponse

from .asking import ask, refusals

PATH = "/embeddings"
SMALL = "text-embedding-3-small"


def embedded(wanted: Any, model: str = SMALL, encoding: Any = "float", **more: Any) -> CreateEmbeddingResponse:
    return ask(lambda client: client.embeddings.create(input=wanted, model=model, encoding_format=encoding, **more))


@pytest.mark.parametrize(
    ("model", "length"), [(SMALL, 1536), ("text-embedding-3-large", 3072), ("text-embedding-ada-002", 1536)]
)
def test_a_vector_has_the_length_of_its_model_and_is_one_long(model: str, length: int) -> None:
    answer = embedded("a fox", model)
    (found,) = answer.data
    assert len(found.embedding) == length
    assert math.sqrt(sum(number * number for number in found.embedding)) == pytest.approx(1, abs=1e-5)
    assert answer.model == model


def test_both_encodings_tell_the_same() -> None:
    async def unpacked(strict: AsyncOpenAI) -> CreateEmbeddingResponse:
        # Left alone, the client asks for base64 and unpacks it; the strict one trips over its own request.
        lenient = AsyncOpenAI(base_url=strict.base_url, api_key="sk-test-nothing", max_retries=0)
        async with lenient:
            return await lenient.embeddings.create(input="a fox", model=SMALL)

    packed, plain = ask(unpacked), embedded("a fox")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-7)


def test_a_shorter_vector_is_the_head_of_the_longer() -> None:
    whole = embedded("a fox").data[0].embedding
    short = embedded("a fox", dimensions=256).data[0].embedding
    scale = math.sqrt(sum(number * number for number in whole[:256]))
    assert short == pytest.approx([number / scale for number in whole[:256]], abs=1e-6)


def test_each_input_has_its_own_vector_in_order() -> None:
    answer = embedded(["a fox", "a hat", "a fox"])
    one, two, three = (found.embedding for found in answer.data)
    assert one == three != two
    assert abs(sum(a * b for a, b in zip(one, two, strict=True))) < 0.2
    assert [found.index for found in answer.data] == [0, 1, 2]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 6


def test_tokens_are_one_input_and_lists_of_them_several() -> None:
    assert len(embedded([1, 2, 3]).data) == 1
    answer = embedded([[1, 2, 3], [4]])
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens == 4


REFUSED: list[tuple[Any, int, str | None, str | None]] = [
    ({"model": SMALL}, 400, "input", "missing_required_parameter"),
    ({"input": "a"}, 400, "model", "missing_required_parameter"),
    ({"input": "a", "model": "gpt-5"}, 404, "model", "model_not_found"),
    ({"input": {}, "model": SMALL}, 400, "input", "invalid_type"),
    ({"input": [], "model": SMALL}, 400, None, None),
    ({"input": ["a", 1], "model": SMALL}, 400, None, None),
    ({"input": [["a"]], "model": SMALL}, 400, None, None),
    ({"input": [True], "model": SMALL}, 400, None, None),
    ({"input": "", "model": SMALL}, 400, "input", "invalid_value"),
    ({"input": ["a", ""], "model": SMALL}, 400, "input", "invalid_value"),
    ({"input": ["a"] * 2049, "model": SMALL}, 400, "input", "array_above_max_length"),
    ({"input": "a" * 32_769, "model": SMALL}, 400, "input", "string_above_max_length"),
    ({"input": "a", "model": SMALL, "dimensions": 0}, 400, "dimensions", "integer_below_min_value"),
    ({"input": "a", "model": SMALL, "dimensions": 1537}, 400, "dimensions", "invalid_value"),
    ({"input": "a", "model": "text-embedding-ada-002", "dimensions": 8}, 400, "dimensions", None),
    ({"input": "a", "model": SMALL, "encoding_format": "hex"}, 400, "encoding_format", "invalid_value"),
    ({"input": "a", "model": SMALL, "colour": 1}, 400, "colour", "unknown_parameter"),
]


def test_refuses_what_openai_refuses() -> None:
    assert refusals(PATH, [body for body, *_ in REFUSED]) == [tuple(rest) for _, *rest in REFUSED]


def test_many_inputs_leave_the_loop_free() -> None:
    async def both(client: AsyncOpenAI) -> tuple[int, int]:
        work = client.embeddings.create(input=["a fox"] * 200, model=SMALL, encoding_format="float")
        many = asyncio.create_task(work)
        answered = 0
        while not many.done():
            await client.models.retrieve(SMALL)
            answered += 1
        return answered, len((await many).data)

    answered, count = ask(both)
    assert count == 200
    assert answered > 1
