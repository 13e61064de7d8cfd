"""After a newer version came into force: definitions whose config it does not take are migrated, or marked."""

from contextlib import ExitStack
from typing import Any

import structlog

from latchflow.crypto import Keyring
from latchflow.errors import SealError, UnavailableError
from latchflow.runtime.invoking.configs import ConfigError
from latchflow.runtime.lifecycle.live import LiveRegistry
from latchflow.runtime.lifecycle.migrating import InterruptedMigrationError, fitting_config
from latchflow.runtime.lifecycle.registry import Loaded, Registry
from latchflow.store.config_checks import UncheckedDefinition, note_checked, unchecked
from latchflow.store.database import Database
from latchflow.store.definition_changes import migrate_definition
from latchflow.store.definitions import ACTIONS, TRIGGERS, DefinitionKind

_BATCH = 50
_BATCHES = 20

log = structlog.get_logger(__name__)


async def sweep(database: Database, keyring: Keyring, live: LiveRegistry) -> None:
    """Check the configs that the code in force has not checked, at most a thousand at a time.

    Safe in several processes at once: what is found is written only while the definition has the version it was
    found for. No transaction is open while plugin code runs.

    Raises:
        UnavailableError: The database is away.
    """
    for kind in (TRIGGERS, ACTIONS):
        for _ in range(_BATCHES):
            if not await _check_batch(database, keyring, live.snapshot, kind):
                break


async def _check_batch(database: Database, keyring: Keyring, snapshot: Registry, kind: DefinitionKind) -> bool:
    """Whether there may be more."""
    loaded = {name: plugin.code_hash for name, plugin in snapshot.plugins.items()}
    with ExitStack() as uses:
        for plugin in snapshot.plugins.values():  # none is put away meanwhile
            uses.enter_context(plugin.uses)
        async with database.connection() as connection:
            batch = await unchecked(connection, kind, loaded, limit=_BATCH)
        for definition in batch:
            try:
                await _check(database, keyring, snapshot, kind, definition)
            except InterruptedMigrationError as error:
                log.warning("a config stays unchecked for now", definition=str(definition.id), reason=str(error))
                return False
    return len(batch) == _BATCH


async def _check(
    database: Database, keyring: Keyring, snapshot: Registry, kind: DefinitionKind, definition: UncheckedDefinition
) -> None:
    plugin = snapshot.plugins[definition.plugin]
    loaded = find_capability(snapshot, kind, definition.plugin, definition.capability_key)
    fault: str | None = None
    try:
        config = keyring.open_json(definition.config_sealed, kind.place(definition.id, definition.plugin))
        if loaded is None:
            raise ConfigError(f"{plugin.name} {plugin.version} no longer brings {definition.capability_key!r}.")
        migrated = await fitting_config(loaded, config, from_version=definition.plugin_version)
        if migrated != config:
            async with database.transaction() as connection:
                await migrate_definition(connection, keyring, kind, definition, migrated, plugin_version=plugin.version)
            return
    except (InterruptedMigrationError, UnavailableError):
        raise
    except (ConfigError, SealError) as error:
        fault = str(error)
    except Exception as error:  # one definition holds up no other
        log.exception("a config could not be checked", definition=str(definition.id), plugin=plugin.name)
        fault = f"{plugin.name} {plugin.version} could not check this config: {type(error).__name__}."
    if fault is not None:
        log.warning("a config does not fit the plugin", definition=str(definition.id), plugin=plugin.name, reason=fault)
    async with database.connection() as connection:
        await note_checked(connection, kind, definition, fault=fault)


def find_capability(snapshot: Registry, kind: DefinitionKind, plugin: str, key: str) -> Loaded[Any] | None:
    """The loaded capability that a definition uses."""
    if kind is ACTIONS:
        return snapshot.actions.get((plugin, key))
    for triggers in (snapshot.inbound_triggers, snapshot.scheduled_triggers, snapshot.resident_triggers):
        if (plugin, key) in triggers:
            return triggers[plugin, key]
    return None
