"""Creating, changing and deleting trigger and action definitions, each with its audit entry in the same transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from psycopg import errors, sql
from psycopg.types.json import Jsonb

from latchflow.config_schemas import check_config, keep_secrets, templates
from latchflow.crypto import Keyring
from latchflow.errors import ConflictError, FieldError, InvalidInputError
from latchflow.expression_checks import check_expressions
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.config_checks import UncheckedDefinition
from latchflow.store.database import Connection
from latchflow.store.definitions import Definition, DefinitionKind, get_definition
from latchflow.store.plugins import Capability, find_capability
from latchflow.store.versions import Expected, check_version


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A definition to create. Its capability is named by id, or by plugin and key."""

    name: str
    config: Any
    is_enabled: bool
    options: Mapping[str, Any]
    capability_id: UUID | None = None
    plugin: str = ""
    capability_key: str = ""


async def create_definition(
    connection: Connection, keyring: Keyring, kind: DefinitionKind, draft: Draft, *, actor: str
) -> Definition:
    """Store a new definition; the connection is inside a transaction.

    Raises:
        InvalidInputError: No such capability, or its plugin is not enabled, or the config breaks its schema.
        ConflictError: The name is taken.
    """
    capability = await find_capability(
        connection,
        kind.capability_kind,
        capability_id=draft.capability_id,
        plugin=draft.plugin,
        key=draft.capability_key,
    )
    usable = _usable(capability, "/capabilityId" if draft.capability_id else "/capability")
    config = keep_secrets(usable.config_schema, draft.config, None)
    _check(usable.config_schema, config)
    definition_id = uuid4()
    values = {
        "id": definition_id,
        "name": draft.name,
        "capability_id": usable.id,
        "config_sealed": keyring.seal_json(config, kind.place(definition_id, usable.plugin)),
        "is_enabled": draft.is_enabled,
        "plugin_version": usable.plugin_version,
        "version": 1,
        **_columns(draft.options),
    }
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(kind.table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(map(sql.Placeholder, values)),
    )
    try:
        await connection.execute(statement, values)
    except errors.UniqueViolation:
        raise _name_taken(kind, draft.name) from None
    await _keep_version(connection, kind, definition_id)
    definition = await get_definition(connection, keyring, kind, definition_id)
    fields = ["name", "capabilityId", "config", "isEnabled", *draft.options]
    await _record(connection, kind, definition, "create", fields=fields, actor=actor)
    return definition


async def change_definition(
    connection: Connection,
    keyring: Keyring,
    kind: DefinitionKind,
    definition_id: UUID,
    changes: Mapping[str, Any],
    *,
    expected: Expected,
    actor: str,
) -> Definition:
    """Change some fields; the connection is inside a transaction. Without changes nothing happens.

    Args:
        connection: Inside a transaction.
        keyring: Opens and seals the config.
        kind: Which kind.
        definition_id: Which one.
        changes: New values of ``name``, ``config``, ``is_enabled`` and the kind's options. A config replaces the
            whole stored one, except for masked secrets.
        expected: The versions the caller may have read.
        actor: Who changes it.

    Raises:
        NotFoundError: There is none with this id.
        VersionConflictError: It has another version by now.
        InvalidInputError: The config breaks the schema, or its plugin is not enabled.
        ConflictError: The name is taken.
    """
    current = await get_definition(connection, keyring, kind, definition_id, lock=True)
    check_version(kind.noun, current.version, expected)
    if not changes:
        return current
    values = _columns({name: value for name, value in changes.items() if name != "config"})
    if "config" in changes:
        capability = await find_capability(connection, kind.capability_kind, capability_id=current.capability_id)
        usable = _usable(capability, "/config")
        config = keep_secrets(usable.config_schema, changes["config"], current.config)
        _check(usable.config_schema, config)
        values["config_sealed"] = keyring.seal_json(config, kind.place(definition_id, usable.plugin))
        values |= {"plugin_version": usable.plugin_version, "invalid_config": None}
    assignments = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values]
    statement = sql.SQL("UPDATE {} SET {}, version = version + 1, updated_at = now() WHERE id = %(id)s").format(
        sql.Identifier(kind.table), sql.SQL(", ").join(assignments)
    )
    try:
        await connection.execute(statement, {**values, "id": definition_id})
    except errors.UniqueViolation:
        raise _name_taken(kind, changes["name"]) from None
    await _keep_version(connection, kind, definition_id)
    definition = await get_definition(connection, keyring, kind, definition_id)
    await _record(connection, kind, definition, "update", fields=list(changes), actor=actor)
    return definition


async def migrate_definition(
    connection: Connection,
    keyring: Keyring,
    kind: DefinitionKind,
    checked: UncheckedDefinition,
    config: Any,
    *,
    plugin_version: str,
) -> None:
    """Store the config that a newer version of the plugin made of the old one, as a new version of the definition.

    Nothing happens when the definition has changed since. The connection is inside a transaction.
    """
    statement = sql.SQL(
        """
        UPDATE {} SET config_sealed = %(config)s, plugin_version = %(plugin_version)s, checked_hash = %(hash)s,
                      invalid_config = NULL, version = version + 1, updated_at = now()
        WHERE id = %(id)s AND version = %(version)s
        """
    ).format(sql.Identifier(kind.table))
    values = {
        "config": keyring.seal_json(config, kind.place(checked.id, checked.plugin)),
        "plugin_version": plugin_version,
        "hash": checked.code_hash,
        "id": checked.id,
        "version": checked.version,
    }
    updated = await connection.execute(statement, values)
    if updated.rowcount == 0:
        return
    await _keep_version(connection, kind, checked.id)
    definition = await get_definition(connection, keyring, kind, checked.id)
    actor = f"{checked.plugin} {plugin_version}"
    await _record(connection, kind, definition, "update", fields=["config"], actor=actor)


async def delete_definition(
    connection: Connection,
    keyring: Keyring,
    kind: DefinitionKind,
    definition_id: UUID,
    *,
    expected: Expected,
    cascade: bool,
    actor: str,
) -> None:
    """Delete a definition; the connection is inside a transaction.

    Args:
        connection: Inside a transaction.
        keyring: As for reading.
        kind: Which kind.
        definition_id: Which one.
        expected: The versions the caller may have read.
        cascade: Take it out of the pipelines that use it first; each of them gets a new version.
        actor: Who deletes it.

    Raises:
        NotFoundError: There is none with this id.
        VersionConflictError: It has another version by now.
        ConflictError: Pipelines use it; the message names them.
    """
    definition = await get_definition(connection, keyring, kind, definition_id, lock=True)
    check_version(kind.noun, definition.version, expected)
    users = sql.SQL(
        "SELECT id, name FROM pipelines WHERE id IN (SELECT pipeline_id FROM {} WHERE {} = %s) ORDER BY id FOR UPDATE"
    )
    link = (sql.Identifier(kind.link_table), sql.Identifier(kind.link_column))
    pipelines = await (await connection.execute(users.format(*link), (definition_id,))).fetchall()
    if pipelines and not cascade:
        names = ", ".join(repr(pipeline["name"]) for pipeline in pipelines)
        raise ConflictError(
            f"The {kind.noun} {definition.name!r} is used by these pipelines: {names}. Take it out of them first, or "
            "delete it with ?cascade=true."
        )
    await connection.execute(sql.SQL("DELETE FROM {} WHERE {} = %s").format(*link), (definition_id,))
    for pipeline in pipelines:
        bump = "UPDATE pipelines SET version = version + 1, updated_at = now() WHERE id = %s RETURNING version"
        row = await (await connection.execute(bump, (pipeline["id"],))).fetchone()
        change = Change(
            object="pipeline",
            id=pipeline["id"],
            name=pipeline["name"],
            operation="update",
            fields=[kind.part],
            version=row["version"] if row else None,
        )
        await record_change(connection, change, actor=actor)
    await connection.execute(
        sql.SQL("DELETE FROM {} WHERE id = %s").format(sql.Identifier(kind.table)), (definition_id,)
    )
    await _record(connection, kind, definition, "delete", fields=[], actor=actor)


def _usable(capability: Capability | None, pointer: str) -> Capability:
    if capability is None:
        message = "There is no such capability of this kind. GET /admin/plugins lists them."
    elif capability.plugin_status != "ENABLED":
        message = f"The plugin {capability.plugin!r} is {capability.plugin_status}. Enable it first."
    elif not capability.is_present:
        message = f"The installed version of {capability.plugin!r} no longer brings {capability.key!r}."
    else:
        return capability
    raise InvalidInputError(message, [FieldError(pointer=pointer, message=message)])


def _check(schema: Mapping[str, Any], config: Any) -> None:
    check_config(schema, config)
    faults = [
        fault
        for pointer, value in templates(schema, config)
        for fault in check_expressions(value, pointer, where="config", is_template=True)
    ]
    if faults:
        raise InvalidInputError("The config holds expressions that do not compile.", faults)


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Jsonb(value) if isinstance(value, dict) else value for name, value in values.items()}


def _name_taken(kind: DefinitionKind, name: str) -> ConflictError:
    return ConflictError(f"There is already {'an' if kind.noun[0] in 'aeiou' else 'a'} {kind.noun} named {name!r}.")


async def _keep_version(connection: Connection, kind: DefinitionKind, definition_id: UUID) -> None:
    if kind.versions_table is None:
        return
    statement = sql.SQL(
        """
        INSERT INTO {} ({}, version, config_sealed, plugin_version, on_unknown)
        SELECT id, version, config_sealed, plugin_version, on_unknown FROM {} WHERE id = %s
        """
    ).format(sql.Identifier(kind.versions_table), sql.Identifier(kind.link_column), sql.Identifier(kind.table))
    await connection.execute(statement, (definition_id,))


async def _record(
    connection: Connection,
    kind: DefinitionKind,
    definition: Definition,
    operation: str,
    *,
    fields: list[str],
    actor: str,
) -> None:
    change = Change(
        object=kind.noun,
        id=definition.id,
        name=definition.name,
        operation=operation,
        fields=fields,
        version=definition.version,
    )
    about = {kind.audit_field: definition.id}
    await record_change(
        connection,
        change,
        actor=actor,
        plugin_name=definition.plugin,
        capability_key=definition.capability_key,
        **about,
    )
