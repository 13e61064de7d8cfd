"""Which properties of a config schema are secret, and which hold expressions."""

from collections.abc import Mapping
from typing import Any


def secret_names(schema: Mapping[str, Any]) -> frozenset[str]:
    """The top-level properties marked ``writeOnly: true``."""
    return _marked(schema, "writeOnly")


def template_names(schema: Mapping[str, Any]) -> frozenset[str]:
    """The top-level properties marked ``x-latchflow-template: true``: their strings are CEL, evaluated by core."""
    return _marked(schema, "x-latchflow-template")


def _marked(schema: Mapping[str, Any], mark: str) -> frozenset[str]:
    properties = schema.get("properties", {})
    return frozenset(name for name, rule in properties.items() if isinstance(rule, Mapping) and rule.get(mark) is True)
