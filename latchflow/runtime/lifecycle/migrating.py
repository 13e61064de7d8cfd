"""Bringing a config that an earlier version of a plugin saved to what the loaded version takes."""

import asyncio
import copy
import json
from collections.abc import Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from latchflow.config_schemas import check_config, secret_strings, templates
from latchflow.errors import InvalidInputError
from latchflow.expression_checks import check_expressions
from latchflow.masking import mask, readable, readable_json
from latchflow.runtime.invoking.configs import ConfigError, config_of
from latchflow.runtime.isolation.loops import PluginBlockedError, PluginClosedError, is_being_cancelled
from latchflow.runtime.lifecycle.registry import Loaded

_MIGRATE_SECONDS = 5.0
_MAX_MESSAGE = 500


class InterruptedMigrationError(ConfigError):
    """The plugin was put away, or its loop replaced, while it migrated: this says nothing of the config."""


async def fitting_config(loaded: Loaded[Any], config: Any, *, from_version: str) -> Any:
    """The config as it is, when the loaded version takes it; else what `migrate_config` makes of it.

    Args:
        loaded: The capability.
        config: As it was saved, secrets included.
        from_version: The version of the plugin that saved it.

    Raises:
        InterruptedMigrationError: Whether it can be migrated is still open.
        ConfigError: It does not fit and cannot be migrated. The message names the place and quotes no value.
    """
    fault = fault_of(loaded, config)
    if fault is None:
        return config
    plugin = loaded.plugin
    if loaded.capability.migrate_config is None:
        raise ConfigError(f"{plugin.name} {plugin.version} does not take this config: {fault} Correct the definition.")
    migrated = await _migrated(loaded, config, from_version)
    fault = fault_of(loaded, migrated)
    if fault is not None:
        raise ConfigError(f"migrate_config of {plugin.name} {plugin.version} made a config that does not fit: {fault}")
    return migrated


def is_saved_by_newer(config_version: str, loaded_version: str) -> bool:
    """Whether a config was saved by a version of the plugin that is newer than the loaded one."""
    try:
        return Version(config_version) > Version(loaded_version)
    except InvalidVersion:
        return False  # saved before versions were noted


def fault_of(loaded: Loaded[Any], config: Any) -> str | None:
    """Why the loaded version does not take a config: the first place and the rule; None when it does."""
    try:
        check_config(loaded.schema, config)
        for pointer, value in templates(loaded.schema, config):
            for fault in check_expressions(value, pointer, where="config", is_template=True):
                return f"{fault.pointer}: {fault.message}"
        if not loaded.template_names:  # its model sees templates evaluated only
            config_of(loaded, config)
    except InvalidInputError as error:
        first = error.errors[0]
        return f"{first.pointer}: {first.message}"[:_MAX_MESSAGE]
    except ConfigError as error:
        return readable(mask(str(error), secret_strings(loaded.schema, config)))[:_MAX_MESSAGE]
    except Exception as error:  # a model asks the plugin's own code
        return f"checking it raised {type(error).__name__}."
    return None


async def _migrated(loaded: Loaded[Any], config: Any, from_version: str) -> Any:
    where = f"migrate_config of {loaded.plugin.name} {loaded.plugin.version}"
    limit = asyncio.timeout(_MIGRATE_SECONDS)
    try:
        async with limit:
            answer = await loaded.plugin.loop.call(
                loaded.capability.migrate_config, from_version, copy.deepcopy(config)
            )
        if not isinstance(answer, Mapping):
            raise ConfigError(f"{where} answered {type(answer).__name__}, not a mapping.")
        migrated = json.loads(json.dumps(dict(answer), allow_nan=False))
        if readable_json(migrated) != migrated:
            raise ConfigError(f"{where} answered text that cannot be stored (NUL or a lone surrogate).")
        return migrated
    except ConfigError:
        raise
    except (PluginBlockedError, PluginClosedError) as error:
        raise InterruptedMigrationError(f"{where} was interrupted: {type(error).__name__}. Try again.") from None
    except BaseException as error:  # a plugin may raise anything; its message may quote the config
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        reason = f"took over {_MIGRATE_SECONDS:g} s" if limit.expired() else f"raised {type(error).__name__}"
        raise ConfigError(f"{where} {reason}. Correct the definition, or the plugin.") from None
