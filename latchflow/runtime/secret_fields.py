"""Which properties of a config schema are secret, and which hold expressions."""

from collections.abc import Mapping
from typing import Any

from latchflow.masking import strings_in
from latchflow.schema_walk import places


def secret_names(schema: Mapping[str, Any]) -> frozenset[str]:
    """The top-level properties marked ``writeOnly: true``."""
    return _marked(schema, "writeOnly")


def secret_strings(schema: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Every string of a config below a ``writeOnly`` property, at any depth: what must never be shown."""
    return [
        text
        for place in places(schema, config)
        if place.schema.get("writeOnly") is True
        for text in strings_in(place.value)
    ]


def template_names(schema: Mapping[str, Any]) -> frozenset[str]:
    """The top-level properties marked ``x-latchflow-template: true``: their strings are CEL, evaluated by core."""
    return _marked(schema, "x-latchflow-template")


def _marked(schema: Mapping[str, Any], mark: str) -> frozenset[str]:
    # The mark may stand in a branch (of an optional field) or behind a reference.
    return frozenset(
        name
        for name in schema.get("properties", {})
        if any(place.path == (name,) and place.schema.get(mark) is True for place in places(schema, {name: None}))
    )
