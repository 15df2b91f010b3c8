"""A small checker for the part of JSON Schema that the schema of recipes uses."""

from __future__ import annotations

import re
from typing import Any

_TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict, "null": type(None)}
_ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "examples"}
_NUMBERS = {
    "minimum": lambda v, b: v >= b,
    "maximum": lambda v, b: v <= b,
    "exclusiveMinimum": lambda v, b: v > b,
    "exclusiveMaximum": lambda v, b: v < b,
}
_KNOWN = {
    "$ref",
    "type",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "if",
    "then",
    "else",
    "properties",
    "additionalProperties",
    "required",
} | {
    *("items", "prefixItems", "minItems", "maxItems", "pattern"),
    *_NUMBERS,
}


class Checker:
    """Checks values against one schema; a keyword that it does not know is an error, so that nothing is passed over."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root

    def fits(self, value: Any, schema: Any = None) -> bool:
        schema = self.root if schema is None else schema
        if isinstance(schema, bool):
            return schema
        unknown = set(schema) - _KNOWN - _ANNOTATIONS
        assert not unknown, unknown
        return all((self.scalar(value, schema), self.composed(value, schema), self.members(value, schema)))

    def scalar(self, value: Any, schema: dict[str, Any]) -> bool:
        if "type" in schema:
            wrong_bool = isinstance(value, bool) and schema["type"] != "boolean"
            if wrong_bool or not isinstance(value, _TYPES[schema["type"]]):
                return False
        if "enum" in schema and value not in schema["enum"]:
            return False
        if "const" in schema and value != schema["const"]:
            return False
        if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
            return False
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return not number or all(holds(value, schema[key]) for key, holds in _NUMBERS.items() if key in schema)

    def composed(self, value: Any, schema: dict[str, Any]) -> bool:
        if "$ref" in schema and not self.fits(value, self.root["$defs"][schema["$ref"].removeprefix("#/$defs/")]):
            return False
        if "anyOf" in schema and not any(self.fits(value, one) for one in schema["anyOf"]):
            return False
        if "oneOf" in schema and sum(self.fits(value, one) for one in schema["oneOf"]) != 1:
            return False
        if not all(self.fits(value, one) for one in schema.get("allOf", [])):
            return False
        if "if" in schema:
            return self.fits(value, schema.get("then" if self.fits(value, schema["if"]) else "else", True))
        return True

    def members(self, value: Any, schema: dict[str, Any]) -> bool:
        if isinstance(value, dict):
            known = schema.get("properties", {})
            rest = schema.get("additionalProperties", True)
            return all(key in value for key in schema.get("required", [])) and all(
                self.fits(v, known.get(k, rest)) for k, v in value.items()
            )
        if isinstance(value, list):
            return all(self.fits(item, schema.get("items", True)) for item in value)
        return True
