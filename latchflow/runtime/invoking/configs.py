"""Handing a definition's config to plugin code: typed, and without its secrets, which travel apart."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from latchflow.runtime.lifecycle.registry import Configured


class ConfigError(Exception):
    """A stored config no longer fits its schema; the message names the place."""


def secrets_of(loaded: Configured, config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the ``writeOnly`` properties that are set."""
    return {name: config[name] for name in loaded.secret_names if name in config}


def config_of(loaded: Configured, config: Mapping[str, Any]) -> Any:
    """The config as the function expects it: its Pydantic model, or a read-only mapping.

    In a model the secret fields read as None.

    Raises:
        ConfigError: It does not fit the model.
    """
    if loaded.model is None:
        return MappingProxyType({name: value for name, value in config.items() if name not in loaded.secret_names})
    try:
        model = loaded.model.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = "/".join(str(part) for part in first["loc"])
        raise ConfigError(f"The config no longer fits: {place}: {first['msg']}. Correct the definition.") from None
    return _without_secrets(model, loaded.secret_names)


def _without_secrets(model: BaseModel, secret_names: frozenset[str]) -> BaseModel:
    fields = [
        name
        for name, field in type(model).model_fields.items()
        if secret_names.intersection(
            known for known in (name, field.alias, field.validation_alias) if isinstance(known, str)
        )
    ]
    return model.model_copy(update=dict.fromkeys(fields))
