"""Reading trigger and action definitions. Both are an admin's configured, versioned use of a capability."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql

from latchflow.config_schemas import mask_secrets
from latchflow.crypto import Keyring
from latchflow.errors import NotFoundError
from latchflow.store import places
from latchflow.store.database import Connection
from latchflow.store.pages import Page, page_of


@dataclass(frozen=True, kw_only=True)
class DefinitionKind:
    """What tells the two kinds apart.

    Attributes:
        noun: What people call it.
        capability_kind: The kind of capability it uses.
        audit_field: The field of an audit entry that names it.
        options: Its columns beside the common ones.
        part: What it is in a pipeline: its ``triggers`` or its ``steps``.
        link_table: Where pipelines name it, in `link_column`.
        versions_table: Where every version's config is kept; None when it is not.
        place: The place its config is sealed for.
    """

    noun: str
    capability_kind: str
    table: str
    audit_field: str
    options: tuple[str, ...]
    part: str
    link_table: str
    link_column: str
    versions_table: str | None
    place: Callable[[UUID, str], str]


TRIGGERS = DefinitionKind(
    noun="trigger",
    capability_kind="TRIGGER",
    table="trigger_definitions",
    audit_field="trigger_definition_id",
    options=("overlap", "max_running_events"),
    part="triggers",
    link_table="pipeline_triggers",
    link_column="trigger_id",
    versions_table=None,
    place=places.trigger_config,
)
ACTIONS = DefinitionKind(
    noun="action",
    capability_kind="ACTION",
    table="action_definitions",
    audit_field="action_definition_id",
    options=("retry_policy", "timeout_seconds", "on_unknown"),
    part="steps",
    link_table="pipeline_steps",
    link_column="action_id",
    versions_table="action_versions",
    place=places.action_config,
)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A definition as stored, its config opened.

    Attributes:
        plugin_version: The version of the plugin that checked the config last.
        invalid_config: Why the installed version does not take the config; None when it does.
        options: What only its kind has, by column name.
    """

    id: UUID
    name: str
    capability_id: UUID
    plugin: str
    capability_key: str
    config_schema: Mapping[str, Any]
    config: Any
    is_enabled: bool
    plugin_version: str
    invalid_config: str | None
    options: Mapping[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def masked_config(self) -> Any:
        """The config as people may read it."""
        return mask_secrets(self.config_schema, self.config)


async def list_definitions(
    connection: Connection, keyring: Keyring, kind: DefinitionKind, *, limit: int, after: tuple[datetime, UUID] | None
) -> Page[Definition]:
    """Definitions in the order they were created, from behind the key `after`."""
    where = sql.SQL("WHERE %(at)s::timestamptz IS NULL OR (d.created_at, d.id) > (%(at)s, %(id)s)")
    order = sql.SQL("ORDER BY d.created_at, d.id LIMIT %(limit)s")
    at, last_id = after or (None, None)
    cursor = await connection.execute(
        sql.SQL(" ").join([_select(kind), where, order]), {"at": at, "id": last_id, "limit": limit + 1}
    )
    definitions = [_opened(row, keyring, kind) for row in await cursor.fetchall()]
    return page_of(definitions, limit, lambda definition: (definition.created_at, definition.id))


async def get_definition(
    connection: Connection, keyring: Keyring, kind: DefinitionKind, definition_id: UUID, *, lock: bool = False
) -> Definition:
    """One definition.

    Args:
        connection: Inside a transaction when `lock` is set.
        keyring: Opens the config.
        kind: Which kind.
        definition_id: Which one.
        lock: Keep others from changing it until the transaction ends.

    Raises:
        NotFoundError: There is none with this id.
    """
    where = sql.SQL("WHERE d.id = %s FOR UPDATE OF d" if lock else "WHERE d.id = %s")
    cursor = await connection.execute(sql.SQL(" ").join([_select(kind), where]), (definition_id,))
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"There is no {kind.noun} {definition_id}.")
    return _opened(row, keyring, kind)


def _select(kind: DefinitionKind) -> sql.Composed:
    statement = """
        SELECT d.*, p.name AS plugin, c.key AS capability_key, c.config_schema
        FROM {} d JOIN capabilities c ON c.id = d.capability_id JOIN plugins p ON p.id = c.plugin_id
        """
    return sql.SQL(statement).format(sql.Identifier(kind.table))


def _opened(row: dict[str, Any], keyring: Keyring, kind: DefinitionKind) -> Definition:
    sealed = row.pop("config_sealed")
    del row["checked_hash"]
    options = {name: row.pop(name) for name in kind.options}
    config = keyring.open_json(sealed, kind.place(row["id"], row["plugin"]))
    return Definition(**row, config=config, options=options)
