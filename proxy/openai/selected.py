"""Every model that a request names, wherever it does: what selects one decides who answers and what is spent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from .fields import Step
from .operation_texts import SCHEMAS
from .strict import read

ENDS = ("model", "models")  # of names: svg.model, transcription.model, fallback_models, speech_model
ELSE = "fallback"  # and in the middle of them: whom a router asks when the first can't answer
# Echoed to the caller, or naming a tool that stands elsewhere in full.
PASSED = frozenset(("metadata", "tool_choice"))
DRAWS = "image_generation"
ANSWERED = ("_call", "_output")  # what a tool has made, handed back: it draws nothing
_STEPS = re.compile(r"[\[\].]+")


class Model(NamedTuple):
    """A model that a request names, and where. None: one is chosen there that can't be seen in the request."""

    steps: tuple[Step, ...]
    name: str | None
    quality: str | None = None  # what stands beside it
    place: Literal["body", "query", "path"] = "body"

    @property
    def path(self) -> str:
        """Where it stands, for people: `tools[0].model`, `?model`."""
        if self.place == "query":
            return f"?{self.steps[0]}"
        said = "".join([f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps])
        return said.removeprefix(".")


def selected(document: Any) -> list[Model]:
    """Those that a JSON document names."""
    found: list[Model] = []
    _look(document, (), found)
    return found


def spoken(message: bytes) -> tuple[Any, list[Model]]:
    """The value of a message on a socket, and the models that it names. Raises Rejected for what is not strict JSON."""
    value = read(message)
    return value, selected(value)


def in_form(name: str, value: str | None) -> Model | None:
    """What a form field names; `value` is None for an upload, whose bytes nobody reads here."""
    if any(_selects(step) for step in _STEPS.split(name)):
        return Model((name,), None if value is None or value.lstrip()[:1] in ("{", "[") else value)
    # JSON in a field is read as such by some upstreams; a prompt never is.
    if value is not None and name != "prompt" and value.lstrip()[:1] in ("{", "["):
        text = value.lower()
        if "\\u" in text or "model" in text or ELSE in text or DRAWS in text:
            return Model((name,), None)
    return None


def of_form(named: Sequence[Model], *, quality: str | None, output_format: str | None) -> list[Model]:
    """What the fields of a form name together."""
    found = [model._replace(quality=quality) if model.steps == ("model",) else model for model in named]
    if _vector(output_format) and not any(model.steps == ("svg[model]",) for model in found):
        found.append(Model(("svg[model]",), None))
    return found


def _selects(key: str) -> bool:
    key = key.lower()
    return key.endswith(ENDS) or ELSE in key


def _vector(output_format: Any) -> bool:
    """Whether a second model is to write the picture down as SVG."""
    return type(output_format) is str and output_format.lower() == "svg"


def _look(value: Any, at: tuple[Step, ...], found: list[Model]) -> None:
    if type(value) is list:
        for index, one in enumerate(value):
            if type(one) is dict or type(one) is list:
                _look(one, (*at, index), found)
        return
    if type(value) is not dict:
        return
    for key, one in value.items():
        kind = type(one)
        if one is None or key in PASSED or (at and kind is dict and key in SCHEMAS):
            continue
        if _selects(key):
            quality = value.get("quality") if key == "model" else None
            _named(one, (*at, key), quality if type(quality) is str else None, found)
        elif kind is dict or kind is list:
            _look(one, (*at, key), found)
    sort = value.get("type")
    draws = type(sort) is str and sort.startswith(DRAWS) and not sort.endswith(ANSWERED)
    if draws and value.get("model") is None:
        found.append(Model((*at, "model"), None))
    if (draws or not at) and _vector(value.get("output_format")):
        svg = value.get("svg")
        if type(svg) is not dict or svg.get("model") is None:
            found.append(Model((*at, "svg", "model"), None))
    if not at and type(value.get("prompt")) is dict:  # one that is kept upstream, with a model and tools of its own
        found.append(Model(("prompt",), None))


def _named(value: Any, at: tuple[Step, ...], quality: str | None, found: list[Model]) -> None:
    if type(value) is str:
        found.append(Model(at, value, quality))
    elif type(value) is list:
        for index, one in enumerate(value):
            _named(one, (*at, index), quality, found)
    elif value is not None and type(value) is not bool:  # `allow_fallbacks: true` names nobody
        found.append(Model(at, None))
