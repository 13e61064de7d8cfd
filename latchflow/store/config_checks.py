"""Definitions whose config the plugin's code in force has not checked yet. Several processes may go through them."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from psycopg import sql

from latchflow.store.database import Connection
from latchflow.store.definitions import DefinitionKind


@dataclass(frozen=True, kw_only=True)
class UncheckedDefinition:
    """A definition to check.

    Attributes:
        version: Of the definition; what is found about it holds for this one only.
        plugin_version: The version of the plugin that saved the config.
        code_hash: The code that shall check it.
    """

    id: UUID
    version: int
    config_sealed: bytes
    plugin_version: str
    plugin: str
    capability_key: str
    code_hash: str


async def unchecked(
    connection: Connection, kind: DefinitionKind, loaded: Mapping[str, str], *, limit: int
) -> list[UncheckedDefinition]:
    """Definitions to check, of plugins whose code in force this process has loaded.

    Args:
        connection: Where.
        kind: Triggers or actions.
        loaded: The hash of the code that this process runs, by plugin.
        limit: How many at most.
    """
    statement = sql.SQL(
        """
        SELECT d.id, d.version, d.config_sealed, d.plugin_version, p.name AS plugin, c.key AS capability_key,
               p.code_hash
        FROM {} d JOIN capabilities c ON c.id = d.capability_id JOIN plugins p ON p.id = c.plugin_id
        JOIN unnest(%(names)s::text[], %(hashes)s::text[]) AS l(name, code_hash)
            ON l.name = p.name AND l.code_hash = p.code_hash
        WHERE p.status = 'ENABLED' AND d.checked_hash <> p.code_hash ORDER BY d.id LIMIT %(limit)s
        """
    ).format(sql.Identifier(kind.table))
    values = {"names": list(loaded), "hashes": list(loaded.values()), "limit": limit}
    rows = await (await connection.execute(statement, values)).fetchall()
    return [UncheckedDefinition(**row) for row in rows]


async def note_checked(
    connection: Connection, kind: DefinitionKind, definition: UncheckedDefinition, *, fault: str | None
) -> None:
    """Note what a check found, unless the definition has changed since; its config stays.

    Args:
        connection: Where.
        kind: Triggers or actions.
        definition: What was checked.
        fault: Why the config does not fit; None when it does.
    """
    statement = sql.SQL(
        "UPDATE {} SET checked_hash = %(hash)s, invalid_config = %(fault)s WHERE id = %(id)s AND version = %(version)s"
    ).format(sql.Identifier(kind.table))
    values = {"hash": definition.code_hash, "fault": fault, "id": definition.id, "version": definition.version}
    await connection.execute(statement, values)
