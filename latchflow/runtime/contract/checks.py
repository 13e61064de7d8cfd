"""What is checked of every capability and provider."""

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import BaseModel

from latchflow.config_schemas import TEMPLATE, WRITE_ONLY
from latchflow.runtime.contract.model import ContractError
from latchflow.schema_walk import misplaced, unresolved
from latchflow.sdk.capabilities import Capability, ConfigSchema

_LARGEST_SCHEMA = 256 * 1024
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def schema_of(config_schema: ConfigSchema) -> dict[str, Any]:
    """The JSON Schema of a config; of a Pydantic model, by alias, with its definitions inside."""
    if isinstance(config_schema, Mapping):
        return dict(config_schema)
    return config_schema.model_json_schema(by_alias=True)


def check_common(where: str, key: object, display_name: object) -> None:
    """Check what names a capability or provider. Raises ContractError."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ContractError(f"{where}: a key has letters, digits, '.', '_' and '-', at most 64 of them")
    if not isinstance(display_name, str) or not display_name.strip() or not display_name.isprintable():
        raise ContractError(f"{where}: display_name is no line of text; name it for the admin")


def check_arity(where: str, function: object, count: int, shape: str) -> None:
    """Check that a function can be called with so many arguments. Raises ContractError."""
    if not callable(function):
        raise ContractError(f"{where}: {function!r} cannot be called")
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):  # the latter of a built-in function that shows no signature
        code = getattr(function, "__code__", None)
        place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
        raise ContractError(f"{where}: the function must take {shape}{place}") from None


def check_method(where: str, owner: object, name: str, count: int, shape: str) -> None:
    """Check that a method takes so many arguments beside ``self``; none of this name is no fault.

    Raises:
        ContractError: It takes others, or is a generator.
    """
    function = getattr(owner, name, None)
    if function is None:
        return
    is_bound = isinstance(inspect.getattr_static(owner, name), staticmethod | classmethod)
    check_arity(f"{where}: {name}", function, count if is_bound or not isinstance(owner, type) else count + 1, shape)


def check_answers(where: str, function: object) -> None:
    """Check that what is called answers once. Raises ContractError."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ContractError(f"{where}: it is a generator; return one answer instead of yielding several")


def checked_schema(where: str, config_schema: object) -> dict[str, Any]:
    """The JSON Schema, as it is stored. Raises ContractError."""
    is_model = isinstance(config_schema, type) and issubclass(config_schema, BaseModel)
    if not (is_model or isinstance(config_schema, Mapping)):
        raise ContractError(f"{where}: config_schema is neither a JSON Schema (dict) nor a Pydantic model")
    try:
        schema = schema_of(cast("ConfigSchema", config_schema))
        text = json.dumps(schema, allow_nan=False, ensure_ascii=False)  # it is stored and sent: what cannot be
        text.encode()  # (half of a surrogate pair, too) is found here
        if "\\u0000" in text:
            raise ContractError(f"{where}: config_schema holds a NUL character; remove it")
        if len(text) > _LARGEST_SCHEMA:
            raise ContractError(f"{where}: config_schema has {len(text)} bytes; at most {_LARGEST_SCHEMA} are stored")
        schema = json.loads(text)
        Draft202012Validator.check_schema(schema)
        if schema.get("type", "object") != "object":
            raise ContractError(f"{where}: config_schema/type is {schema['type']!r}; a config is an object")
    except ContractError:
        raise
    except SchemaError as error:
        place = "/".join(str(part) for part in error.absolute_path)
        raise ContractError(f"{where}: config_schema/{place}: {error.message}") from None
    except Exception as error:  # Pydantic asks the model's own code
        raise ContractError(f"{where}: config_schema gives no JSON Schema: {error}") from None
    _check_marks(where, schema)
    return cast("dict[str, Any]", schema)


def _check_marks(where: str, schema: Mapping[str, Any]) -> None:
    """A secret or a template that only one side saw would be masked here and handed out there."""
    for pointer in unresolved(schema):
        fix = "refer to a place inside the schema by its pointer, for example '#/$defs/Account'"
        raise ContractError(f"{where}: config_schema{pointer}: this reference is not followed; {fix}")
    for mark in (WRITE_ONLY, TEMPLATE):
        for pointer in misplaced(schema, mark):
            fix = "move the mark to the property of the top level, or the marked part to a property of its own there"
            raise ContractError(
                f"{where}: config_schema{pointer}: only a direct property of the config may be marked; {fix}"
            )


def check_migration(where: str, capability: Capability) -> None:
    """Check `migrate_config`. Raises ContractError."""
    if capability.migrate_config is not None:
        check_arity(f"{where}: migrate_config", capability.migrate_config, 2, "(from_version, config)")
