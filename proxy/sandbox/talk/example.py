"""Some value that fits a JSON schema: what the sandbox answers where JSON is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..refusal import Refusal

Schema = Mapping[str, Any]

# A schema may hold itself: a tree ends here, by the shortest way it allows.
_DEEPEST = 6
# A few words of schema can ask for billions of values; this many are made.
_LARGEST = 10_000
_KEYWORDS: dict[str, tuple[type, ...]] = {
    "$ref": (str,),
    "enum": (list,),
    "anyOf": (list,),
    "oneOf": (list,),
    "allOf": (list,),
    "type": (str, list),
    "properties": (dict,),
    "required": (list,),
    "minItems": (int,),
    "maxItems": (int,),
    "minLength": (int,),
    "maxLength": (int,),
    "format": (str,),
    "minimum": (int, float),
    "exclusiveMinimum": (int, float),
    "maximum": (int, float),
    "multipleOf": (int, float),
}
_FORMATS = {
    "date": "2026-11-21",
    "time": "12:00:00Z",
    "date-time": "2026-11-21T12:00:00Z",
    "duration": "P1D",
    "email": "fox@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
}


def fitting(schema: object, words: str, param: str, *, code: str = "invalid_json_schema") -> Any:
    """A value for the schema, with the words in its strings; `pattern` is not looked at."""
    return _Maker(schema if isinstance(schema, Mapping) else {}, words, param, code).fit(schema, 0)


class _Maker:
    """One value in the making."""

    def __init__(self, root: Schema, words: str, param: str, code: str) -> None:
        self._root = root
        self._words = words
        self._param = param
        self._code = code
        self._left = _LARGEST

    def fit(self, schema: object, depth: int) -> Any:
        """A value for a part of the schema."""
        self._left -= 1
        if self._left < 0:
            raise self._unusable(f"it asks for more than {_LARGEST} values")
        if not isinstance(schema, Mapping):
            return self._words  # `true` and whatever isn't a schema allow anything
        for keyword, types in _KEYWORDS.items():
            if not isinstance(schema.get(keyword, types[0]()), types):
                raise self._unusable(f"'{keyword}' is not of the type that it must be")
        if schema.get("$ref"):
            return self.fit(self._found(schema["$ref"]), depth + 1) if depth <= 2 * _DEEPEST else None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        for several in ("anyOf", "oneOf"):
            if schema.get(several):
                return self.fit(_shortest(schema[several], depth), depth)
        if schema.get("allOf"):
            return self._all([self.fit(part, depth) for part in schema["allOf"]])
        return self._of_type(schema, depth)

    def _all(self, parts: list[Any]) -> Any:
        merged: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, dict):
                return parts[0]
            merged |= part
        return merged

    def _of_type(self, schema: Schema, depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null" or depth > _DEEPEST), "null")
        if not kind:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        match kind:
            case "object":
                needed = schema.get("required", [])
                fields = schema.get("properties", {}).items()
                return {name: self.fit(one, depth + 1) for name, one in fields if depth <= _DEEPEST or name in needed}
            case "array":
                usual = 0 if depth > _DEEPEST or schema.get("maxItems") == 0 else 1
                count = max(schema.get("minItems", 0), usual)
                return [self.fit(schema.get("items"), depth + 1) for _ in range(count)]
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._text(schema)

    def _text(self, schema: Schema) -> str:
        least = schema.get("minLength", 0)
        if least > _LARGEST:
            raise self._unusable(f"it asks for more than {_LARGEST} characters")
        found = _FORMATS.get(schema.get("format", ""), self._words).ljust(least, ".")
        return found[: max(0, schema.get("maxLength", len(found)))]

    def _found(self, reference: str) -> Any:
        value: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if step:
                value = value.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(value, Mapping) else None
        return value

    def _unusable(self, why: str) -> Refusal:
        return Refusal(f"Invalid schema for '{self._param}': {why}.", param=self._param, code=self._code)


def _number(schema: Schema, *, whole: bool) -> float:
    value = schema.get("minimum", 1)
    if "exclusiveMinimum" in schema:
        value = schema["exclusiveMinimum"] + 1
    if "maximum" in schema:
        value = min(value, schema["maximum"])
    step = schema.get("multipleOf", 0)
    if step > 0:
        value = -(-value // step) * step
    return int(value) if whole else value


def _shortest(choices: list[Any], depth: int) -> Any:
    """The first choice that isn't null, and null once it is deep enough."""
    null = [one for one in choices if isinstance(one, Mapping) and one.get("type") == "null"]
    rest = [one for one in choices if one not in null]
    return null[0] if null and (depth > _DEEPEST or not rest) else rest[0]
