"""What a provider is configured with: what the system config has, and from the environment what that lacks."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from latchflow.config_schemas import check_config
from latchflow.errors import FieldError, InvalidInputError
from latchflow.settings import provider_variables

Source = Literal["env", "database"]


@dataclass(frozen=True, kw_only=True)
class ProviderConfig:
    """A provider's config as it holds now.

    Attributes:
        values: The whole, secrets too.
        sources: Where each property comes from.
        is_stored: Whether the system config has one, empty or not.
        problem: Why it cannot be used, without its values; None when it can.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, Source]
    is_stored: bool
    problem: str | None

    @property
    def is_configured(self) -> bool:
        """Whether somebody configured it, and it can be used."""
        return self.problem is None and (self.is_stored or bool(self.sources))


def effective(schema: Mapping[str, Any], defaults: Mapping[str, str], stored: Any) -> ProviderConfig:
    """The config that holds now; the environment is read here.

    Args:
        schema: Of the config.
        defaults: For a property, the variable that stands in while `stored` lacks it.
        stored: What the system config has; None when it has nothing.
    """
    own = stored if isinstance(stored, Mapping) else {}
    variables = provider_variables(variable for name, variable in defaults.items() if name not in own)
    read = {
        name: _value_of(schema, name, variables[variable])
        for name, variable in defaults.items()
        if variable in variables and name not in own
    }
    values = {**read, **own}
    sources: dict[str, Source] = {**dict.fromkeys(read, "env"), **dict.fromkeys(own, "database")}
    is_stored = stored is not None
    problem = _problem(schema, values) if is_stored or read else None
    return ProviderConfig(values=values, sources=sources, is_stored=is_stored, problem=problem)


def check_stored(schema: Mapping[str, Any], defaults: Mapping[str, str], value: Any) -> None:
    """Refuse what cannot become a config; what it lacks may be in the environment of the worker.

    Raises:
        InvalidInputError: With pointers below ``/value``.
    """
    required = [name for name in schema.get("required", ()) if name not in defaults]
    try:
        check_config({**schema, "required": required}, value)
    except InvalidInputError as error:
        faults = [
            FieldError(pointer="/value" + fault.pointer.removeprefix("/config"), message=fault.message)
            for fault in error.errors
        ]
        raise InvalidInputError("The value does not satisfy the schema of the provider.", faults) from None


class Ranked(Protocol):
    """What competes for being the active provider."""

    @property
    def config(self) -> ProviderConfig:
        """Its config."""
        ...

    @property
    def plugin_name(self) -> str:
        """The plugin that brings it."""
        ...

    @property
    def id(self) -> str:
        """Its id in the plugin."""
        ...


RankedT = TypeVar("RankedT", bound=Ranked)


def ranked(candidates: Iterable[RankedT]) -> list[RankedT]:
    """Those of one kind that are configured; the first is the active one.

    Whoever was configured in the system config comes before what the environment alone configures.
    """
    configured = [candidate for candidate in candidates if candidate.config.is_configured]
    return sorted(configured, key=lambda one: (not one.config.is_stored, one.plugin_name, one.id))


def _value_of(schema: Mapping[str, Any], name: str, text: str) -> Any:
    """A variable holds text; where the schema takes none, it is read as JSON."""
    properties = schema.get("properties", {})
    part = properties.get(name, {}) if isinstance(properties, Mapping) else {}
    types = part.get("type", "string") if isinstance(part, Mapping) else "string"
    if "string" in types:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text  # the schema will say what is wrong with it


def _problem(schema: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    try:
        check_config(schema, values)
    except InvalidInputError as error:
        if not error.errors:
            return error.message
        fault = error.errors[0]
        return f"{fault.pointer.removeprefix('/config') or '/'}: {fault.message}"
    return None
