"""What a plugin contributes, as plain data: checked when it is enabled, stored, and all that the API validates by."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import BaseModel, ConfigDict

from latchflow.config_schemas import TEMPLATE, WRITE_ONLY
from latchflow.schema_walk import misplaced, unresolved
from latchflow.sdk import ActionCapability, InboundCapability, Plugin
from latchflow.sdk.plugin import ConfigSchema

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ContractError(Exception):
    """A plugin breaks the contract; the message names the capability, the field and the way to mend it."""


class CapabilityContract(BaseModel):
    """One capability as data."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["TRIGGER", "ACTION"]
    key: str
    display_name: str
    config_schema: dict[str, Any]
    scopes: tuple[str, ...] = ()
    is_inline: bool = False


class Contract(BaseModel):
    """Everything one version of a plugin contributes."""

    model_config = ConfigDict(frozen=True)

    capabilities: tuple[CapabilityContract, ...]


def contract_of(plugin: object, *, scopes: Sequence[str]) -> Contract:
    """Check what a plugin's package bound as ``plugin``.

    Args:
        plugin: The object found there.
        scopes: What its ``plugin.toml`` declares.

    Raises:
        ContractError: The first fault.
    """
    if not isinstance(plugin, Plugin):
        raise ContractError("__init__.py must bind `plugin` to a latchflow.sdk.Plugin")
    found = [_action(capability, scopes) for capability in plugin.actions]
    found += [_inbound(capability) for capability in plugin.inbound_triggers]
    if not found:
        raise ContractError("it contributes nothing; register an action or a trigger on `plugin`")
    seen: set[tuple[str, str]] = set()
    for capability in found:
        if (capability.kind, capability.key) in seen:
            raise ContractError(f"{capability.kind} {capability.key!r} is registered twice; give each its own key")
        seen.add((capability.kind, capability.key))
    return Contract(capabilities=tuple(found))


def schema_of(config_schema: ConfigSchema) -> dict[str, Any]:
    """The JSON Schema of a config; of a Pydantic model, by alias, with its definitions inside."""
    if isinstance(config_schema, Mapping):
        return dict(config_schema)
    return config_schema.model_json_schema(by_alias=True)


def _action(capability: ActionCapability, scopes: Sequence[str]) -> CapabilityContract:
    where = f"action {capability.key!r}"
    _check_common(where, capability.key, capability.display_name)
    _check_arity(where, capability.function, 1, "(call)")
    undeclared = [scope for scope in capability.scopes if scope not in scopes]
    if undeclared:
        raise ContractError(f"{where}: the scope {undeclared[0]!r} is missing in plugin.toml; add it to `scopes` there")
    return CapabilityContract(
        kind="ACTION",
        key=capability.key,
        display_name=capability.display_name,
        config_schema=_checked_schema(where, capability.config_schema),
        scopes=tuple(capability.scopes),
        is_inline=capability.is_inline,
    )


def _inbound(capability: InboundCapability) -> CapabilityContract:
    where = f"trigger {capability.key!r}"
    _check_common(where, capability.key, capability.display_name)
    _check_arity(where, capability.function, 2, "(request, config)")
    return CapabilityContract(
        kind="TRIGGER",
        key=capability.key,
        display_name=capability.display_name,
        config_schema=_checked_schema(where, capability.config_schema),
    )


def _check_common(where: str, key: object, display_name: object) -> None:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ContractError(f"{where}: a key has letters, digits, '.', '_' and '-', at most 64 of them")
    if not isinstance(display_name, str) or not display_name.strip():
        raise ContractError(f"{where}: display_name is empty; name it for the admin")


def _check_arity(where: str, function: object, count: int, shape: str) -> None:
    if not callable(function):
        raise ContractError(f"{where}: {function!r} cannot be called")
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):  # the latter of a built-in function that shows no signature
        code = getattr(function, "__code__", None)
        place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
        raise ContractError(f"{where}: the function must take {shape}{place}") from None


def _checked_schema(where: str, config_schema: object) -> dict[str, Any]:
    is_model = isinstance(config_schema, type) and issubclass(config_schema, BaseModel)
    if not (is_model or isinstance(config_schema, Mapping)):
        raise ContractError(f"{where}: config_schema is neither a JSON Schema (dict) nor a Pydantic model")
    try:
        schema = schema_of(cast("ConfigSchema", config_schema))
        schema = json.loads(json.dumps(schema, allow_nan=False))  # it is stored and sent; what cannot be is found here
        Draft202012Validator.check_schema(schema)
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
