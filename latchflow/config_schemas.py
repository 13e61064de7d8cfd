"""A config against the JSON Schema of its capability: is it valid, which parts are secret, which hold expressions."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from latchflow.errors import FieldError, InvalidInputError
from latchflow.masking import strings_in
from latchflow.schema_walk import Schema, marked_properties, pointer_of

WRITE_ONLY = "writeOnly"
TEMPLATE = "x-latchflow-template"

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


def secret_names(schema: Schema) -> frozenset[str]:
    """The properties marked ``writeOnly: true``."""
    return marked_properties(schema, WRITE_ONLY)


def template_names(schema: Schema) -> frozenset[str]:
    """The properties marked ``x-latchflow-template: true``: their strings are CEL, evaluated by core."""
    return marked_properties(schema, TEMPLATE)


def secret_strings(schema: Schema, config: Any) -> list[str]:
    """Every string in the secret properties of a config, at any depth: what must never be shown."""
    return strings_in([config[name] for name in _present(secret_names(schema), config)])


def mask_secrets(schema: Schema, config: Any) -> Any:
    """The config as people may read it: each secret replaced by `MASK`."""
    secret = dict.fromkeys(_present(secret_names(schema), config), MASK)
    return {**config, **secret} if secret else config


def keep_secrets(schema: Schema, config: Any, stored: Any) -> Any:
    """The config with each masked secret replaced by the stored one.

    Args:
        schema: The schema of the capability.
        config: What the caller sent.
        stored: What was stored before; None on create.

    Raises:
        InvalidInputError: A mask stands where nothing is stored.
    """
    masked = [name for name in _present(secret_names(schema), config) if config[name] == MASK]
    kept = {name: stored[name] for name in _present(masked, stored)}
    message = "There is no stored value to keep here. Send the secret itself."
    faults = [
        FieldError(pointer=f"/config{pointer_of((name,))}", message=message) for name in masked if name not in kept
    ]
    if faults:
        raise InvalidInputError("A masked secret stands for nothing.", faults)
    return {**config, **kept} if kept else config


def templates(schema: Schema, config: Any) -> Iterator[tuple[str, Any]]:
    """The parts whose strings are expressions, each with its pointer."""
    for name in _present(template_names(schema), config):
        yield f"/config{pointer_of((name,))}", config[name]


def _present(names: Collection[str], config: Any) -> list[str]:
    return [name for name in config if name in names] if isinstance(config, Mapping) else []


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
