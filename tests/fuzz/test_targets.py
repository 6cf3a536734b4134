"""The targets of `make fuzz` hold for what fuzzing begins with, cut and changed a little; no fuzzer is needed."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from ..openai.answers import mutated
from .corpus import seeds
from .targets import TARGETS, close


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close()


@pytest.mark.parametrize("target", TARGETS)
def test_what_fuzzing_begins_with_holds(target: str) -> None:
    tried = 0
    for number, seed in enumerate(seeds(target)):
        for data in (seed, seed[:2] + mutated(Random(number), seed[2:])):
            try:
                TARGETS[target](data)
            except BaseException as error:
                error.add_note(repr(data))
                raise
        tried += 1
    assert tried >= 10
