"""Whether a value is one that a definition in a schema allows: the few words of JSON Schema that settings.schema.json uses."""

import math
from collections.abc import Callable, Mapping
from typing import Any

_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
}
_LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    "enum": lambda value, choices: value in choices,
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
    "multipleOf": lambda value, factor: value % factor == 0,
    "anyOf": lambda value, definitions: any(allows(definition, value) for definition in definitions),
}


def types_of(definition: Mapping[str, Any]) -> list[str]:
    """The types that a definition names; all of them if it names none."""
    named = definition.get("type", [*_TYPES])
    return [named] if isinstance(named, str) else list(named)


def allows(definition: Mapping[str, Any], value: Any) -> bool:
    """Whether the value is of one of the definition's types, and within its limits. JSON has no infinity and no NaN: they never are."""
    if not any(_TYPES[name](value) for name in types_of(definition)):
        return False
    return value is None or all(holds(value, definition[word]) for word, holds in _LIMITS.items() if word in definition)
