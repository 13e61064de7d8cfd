"""What admins configure at run time, and the providers it may be for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from latchflow.crypto import Keyring
from latchflow.model import AuditKind
from latchflow.names import provider_config_key
from latchflow.store import places
from latchflow.store.audit import AuditEntry, record
from latchflow.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class StoredValue:
    """The value of one key, opened."""

    value: Any
    is_secret: bool
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, kw_only=True)
class SealedValue:
    """The value of one key as it lies there."""

    sealed: bytes
    is_secret: bool
    updated_at: datetime
    updated_by: str

    def opened(self, keyring: Keyring, key: str) -> StoredValue:
        """The value itself.

        Raises:
            SealError: It cannot be opened.
        """
        return StoredValue(
            value=keyring.open_json(self.sealed, places.system_config(key)),
            is_secret=self.is_secret,
            updated_at=self.updated_at,
            updated_by=self.updated_by,
        )


@dataclass(frozen=True, kw_only=True)
class KnownProvider:
    """A provider that a plugin brings or has brought.

    Attributes:
        defaults: For a property of the config, the environment variable that stands in while it is absent.
        is_usable: Its plugin is enabled and still brings it.
    """

    plugin: str
    kind: str
    id: str
    config_schema: dict[str, Any]
    defaults: dict[str, str]
    is_usable: bool

    @property
    def key(self) -> str:
        """Where its config is kept."""
        return provider_config_key(self.plugin, self.id)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A value that was tried out.

    Attributes:
        has_value: Whether a value came with the call; else what is configured was tried.
        to: Where a mail was to go.
        outcome: ``ok``, ``failed``, or ``refused`` before anything was tried.
    """

    key: str
    has_value: bool
    to: str | None
    outcome: str


async def load(connection: Connection, keys: Sequence[str] | None = None) -> dict[str, SealedValue]:
    """What is stored under these keys; without keys, everything."""
    cursor = await connection.execute(
        """
        SELECT key, value_sealed, is_secret, updated_at, updated_by FROM system_config
        WHERE %(keys)s::text[] IS NULL OR key = ANY(%(keys)s) ORDER BY key
        """,
        {"keys": list(keys) if keys is not None else None},
    )
    return {
        row["key"]: SealedValue(
            sealed=bytes(row["value_sealed"]),
            is_secret=row["is_secret"],
            updated_at=row["updated_at"],
            updated_by=row["updated_by"],
        )
        for row in await cursor.fetchall()
    }


async def lock(connection: Connection) -> None:
    """Hold the system config for the rest of the transaction, so that changes follow one another."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_ID,))


async def put(
    connection: Connection,
    keyring: Keyring,
    key: str,
    value: Any,
    *,
    is_secret: bool,
    fields: Sequence[str],
    actor: str,
) -> None:
    """Store a value and audit it by the names of its `fields`; the connection is inside a transaction."""
    cursor = await connection.execute(
        """
        INSERT INTO system_config (key, value_sealed, is_secret, updated_by) VALUES (%s, %s, %s, %s)
        ON CONFLICT (key) DO UPDATE
        SET value_sealed = excluded.value_sealed, is_secret = excluded.is_secret, updated_by = excluded.updated_by,
            updated_at = clock_timestamp()
        RETURNING xmax = 0 AS is_new
        """,
        (key, keyring.seal_json(value, places.system_config(key)), is_secret, actor),
    )
    row = await cursor.fetchone()
    operation = "create" if row and row["is_new"] else "update"
    await _audit(connection, key, operation, fields, actor)


async def remove(connection: Connection, key: str, *, actor: str) -> bool:
    """Remove a value; the connection is inside a transaction. False when there is none."""
    cursor = await connection.execute("DELETE FROM system_config WHERE key = %s", (key,))
    if cursor.rowcount == 0:
        return False
    await _audit(connection, key, "delete", (), actor)
    return True


async def record_trial(connection: Connection, trial: Trial, *, actor: str) -> None:
    """Audit that a value was tried out, without the value."""
    detail = {
        "object": "config",
        "name": trial.key,
        "operation": "test",
        "hasValue": trial.has_value,
        "to": trial.to,
        "outcome": trial.outcome,
    }
    await record(connection, AuditEntry(kind=AuditKind.ADMIN, actor=actor, detail=detail))


async def providers(connection: Connection) -> list[KnownProvider]:
    """Every provider that a checked version of a plugin has brought, by plugin and id."""
    cursor = await connection.execute(
        """
        SELECT p.name AS plugin, v.kind, v.id, v.config_schema, v.defaults,
               v.is_present AND p.status = 'ENABLED' AS is_usable
        FROM providers v JOIN plugins p ON p.id = v.plugin_id ORDER BY p.name, v.id
        """
    )
    return [KnownProvider(**row) for row in await cursor.fetchall()]


async def _audit(connection: Connection, key: str, operation: str, fields: Sequence[str], actor: str) -> None:
    detail = {"object": "config", "name": key, "operation": operation, "fields": list(fields)}
    await record(connection, AuditEntry(kind=AuditKind.ADMIN, actor=actor, detail=detail))


_LOCK_ID = 0x1A7C4F15
