"""Whether what is made from a schema fits it."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.sandbox.refusal import Refusal
from proxy.sandbox.talk import example

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "parent": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["name", "children"],
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, "fox"),
        (True, "fox"),
        ({"type": "string"}, "fox"),
        ({"type": "string", "maxLength": 2}, "fo"),
        ({"type": "string", "minLength": 5}, "fox.."),
        ({"type": "string", "format": "date"}, "2026-11-21"),
        ({"type": ["null", "string"]}, "fox"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 7}, 7),
        ({"type": "integer", "exclusiveMinimum": 7}, 8),
        ({"type": "number", "maximum": 0.5}, 0.5),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": 3}, 3),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [1, 1, 1]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, []),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}, {"a": 1, "b": 2}),
        ({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "integer"}}}, {"a": 1}),
        ({"$ref": "#"}, None),
    ],
)
def test_fits(schema: Any, value: Any) -> None:
    assert example.fitting(schema, "fox", "schema") == value


def test_a_schema_that_holds_itself_comes_to_an_end() -> None:
    node, depth = example.fitting(TREE, "fox", "schema"), 0
    while node is not None and node["children"]:
        assert node["name"] == "fox"
        node, depth = node["children"][0], depth + 1
    assert 1 <= depth < 10


BOMB = {"type": "array", "minItems": 100, "items": {"type": "array", "minItems": 100, "items": {"minItems": 100}}}
MANY = {"type": "object", "properties": {name: {"$ref": "#"} for name in "abcdef"}, "required": list("abcdef")}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "object", "properties": []}, "'properties' is not of the type"),
        ({"type": "integer", "minimum": "3"}, "'minimum' is not of the type"),
        ({"type": "string", "minLength": 10**9}, "more than 10000 characters"),
        (BOMB, "more than 10000 values"),
        (MANY, "more than 10000 values"),
    ],
)
def test_refuses_a_schema_that_is_none_or_asks_too_much(schema: Any, why: str) -> None:
    with pytest.raises(Refusal, match=why):
        example.fitting(schema, "fox", "schema")
