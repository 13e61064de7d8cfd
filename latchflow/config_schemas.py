"""A config against the JSON Schema of its capability: is it valid, which parts are secret, which hold expressions."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from latchflow.errors import FieldError, InvalidInputError
from latchflow.schema_walk import Place, Schema, places, pointer_of

MASK = "********"
"""Stands for a secret in what the API answers; sent back, it means "keep what is stored"."""

_SHOWN = 200


def check_config(schema: Schema, config: Any) -> None:
    """Check a config (Draft 2020-12 with formats).

    Raises:
        InvalidInputError: With one pointer below ``/config`` per fault. Messages quote the schema, never the config:
            it may hold secrets.
    """
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER, registry=Registry())
    try:
        faults = [fault for error in validator.iter_errors(config) for fault in _describe(error)]
    except (SchemaError, Unresolvable) as error:
        message = "The config schema of this capability is broken. Tell the author of the plugin."
        raise InvalidInputError(message, [FieldError(pointer="/capabilityId", message=message)]) from error
    if faults:
        unique = tuple(dict.fromkeys(sorted(faults, key=lambda fault: fault.pointer)))
        raise InvalidInputError("The config does not satisfy the schema of its capability.", unique)


def mask_secrets(schema: Schema, config: Any) -> Any:
    """The config as people may read it: each secret replaced by `MASK`."""
    masked = json.loads(json.dumps(config))
    for place in _outermost(place for place in places(schema, masked) if place.schema.get("writeOnly") is True):
        masked = _replaced(masked, place.path, MASK)
    return masked


def keep_secrets(schema: Schema, config: Any, stored: Any) -> Any:
    """The config with each masked secret replaced by the stored one.

    Args:
        schema: The schema of the capability.
        config: What the caller sent.
        stored: What was stored before; None on create.

    Raises:
        InvalidInputError: A mask stands where nothing is stored, or inside a list, where positions say nothing.
    """
    faults = []
    for place in list(places(schema, config)):
        if place.schema.get("writeOnly") is not True or place.value != MASK:
            continue
        kept = _MISSING if any(isinstance(part, int) for part in place.path) else _at(stored, place.path)
        if kept is _MISSING:
            message = "There is no stored value to keep here. Send the secret itself."
            faults.append(FieldError(pointer=f"/config{pointer_of(place.path)}", message=message))
        else:
            config = _replaced(config, place.path, kept)
    if faults:
        raise InvalidInputError("A masked secret stands for nothing.", faults)
    return config


def templates(schema: Schema, config: Any) -> Iterator[tuple[str, Any]]:
    """The parts whose strings are expressions (``x-latchflow-template: true``), each with its pointer."""
    for place in _outermost(place for place in places(schema, config) if place.schema.get("x-latchflow-template")):
        yield f"/config{pointer_of(place.path)}", place.value


_MISSING = object()


def _outermost(found: Iterator[Place]) -> list[Place]:
    """Without repetitions and without places inside another one."""
    by_path = {place.path: place for place in found}
    return [
        place for path, place in by_path.items() if not any(path[:length] in by_path for length in range(len(path)))
    ]


def _describe(error: ValidationError) -> Iterator[FieldError]:
    if error.validator in {"anyOf", "oneOf"} and error.context:
        error = best_match([error]) or error
    pointer = "/config" + pointer_of(tuple(error.absolute_path))
    if error.validator == "required":
        for name in cast("list[str]", error.validator_value):
            if name not in cast("dict[str, Any]", error.instance):
                yield FieldError(pointer=pointer + pointer_of((name,)), message="This property is required.")
    elif error.validator in {"additionalProperties", "unevaluatedProperties"} and isinstance(error.instance, dict):
        known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
        for name in error.instance:
            if name not in known:
                message = "The schema knows no such property. Remove it."
                yield FieldError(pointer=pointer + pointer_of((name,)), message=message)
    else:
        rule = json.dumps(error.validator_value, ensure_ascii=False)
        rule = rule if len(rule) <= _SHOWN else rule[:_SHOWN] + "…"
        yield FieldError(pointer=pointer, message=f"This breaks the schema's rule {error.validator}: {rule}.")


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    copy: Any = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy
