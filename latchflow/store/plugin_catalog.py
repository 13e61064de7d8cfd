"""What is known of each plugin: found, checked, enabled; and the capabilities its checked version brings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg.types.json import Jsonb

from latchflow.names import capability_id, plugin_id
from latchflow.store.database import Connection
from latchflow.store.processes import ALIVE_SECONDS

_LOCK_ID = 0x1A7C4F12  # one process registers at a time
Status = Literal["DISCOVERED", "ENABLED", "DISABLED", "FAILED"]


@dataclass(frozen=True, kw_only=True)
class CatalogPlugin:
    """A plugin as it is recorded."""

    name: str
    status: Status
    code_hash: str
    version: str
    granted_scopes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class CatalogCapability:
    """A capability as it is recorded."""

    kind: str
    key: str
    display_name: str
    config_schema: dict[str, Any]
    shape: str
    scopes: Sequence[str]
    is_inline: bool
    stall_timeout_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class CatalogProvider:
    """A provider as it is recorded."""

    kind: str
    id: str
    display_name: str
    config_schema: dict[str, Any]
    defaults: dict[str, str]


async def lock(connection: Connection) -> None:
    """Hold the catalog for the rest of the transaction: processes that start together register one by one."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_ID,))


async def load(connection: Connection) -> dict[str, CatalogPlugin]:
    """Every recorded plugin, by name."""
    rows = await (
        await connection.execute("SELECT name, status, code_hash, version, granted_scopes FROM plugins")
    ).fetchall()
    return {row["name"]: CatalogPlugin(**row) for row in rows}


async def save(
    connection: Connection,
    *,
    name: str,
    display_name: str,
    version: str,
    status: Status,
    error: str | None,
    scopes: Sequence[str],
    granted_scopes: Sequence[str],
    code_hash: str,
) -> None:
    """Record a plugin's verdict."""
    await connection.execute(
        """
        INSERT INTO plugins (id, name, display_name, version, status, error, scopes, granted_scopes, code_hash)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (id) DO UPDATE
        SET display_name = excluded.display_name, version = excluded.version, status = excluded.status,
            error = excluded.error, scopes = excluded.scopes, granted_scopes = excluded.granted_scopes,
            code_hash = excluded.code_hash, updated_at = now()
        """,
        (
            plugin_id(name),
            name,
            display_name,
            version,
            status,
            error,
            list(scopes),
            list(granted_scopes),
            code_hash,
        ),
    )


async def fail_missing(connection: Connection, names: Iterable[str]) -> None:
    """Mark enabled plugins that this process does not find, unless a process that lives has one loaded."""
    await connection.execute(
        """
        UPDATE plugins
        SET status = 'FAILED', updated_at = now(),
            error = 'No process finds it any more. Put its folder back, or name it in PLUGINS_PATH, and restart.'
        WHERE name = ANY(%s) AND status = 'ENABLED' AND NOT EXISTS (
            SELECT FROM plugin_instances i JOIN processes p ON p.id = i.process_id
            WHERE i.plugin_id = plugins.id AND p.seen_at > now() - make_interval(secs => %s))
        """,
        (list(names), ALIVE_SECONDS),
    )


async def save_capabilities(connection: Connection, name: str, capabilities: Sequence[CatalogCapability]) -> None:
    """Record what the checked version brings; what it no longer brings stays, marked as absent."""
    await connection.execute("UPDATE capabilities SET is_present = false WHERE plugin_id = %s", (plugin_id(name),))
    for capability in capabilities:
        await connection.execute(
            """
            INSERT INTO capabilities (id, plugin_id, kind, key, display_name, config_schema, shape, scopes, is_inline,
                                      stall_timeout_seconds)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (id) DO UPDATE
            SET display_name = excluded.display_name, config_schema = excluded.config_schema,
                shape = excluded.shape, scopes = excluded.scopes, is_inline = excluded.is_inline,
                stall_timeout_seconds = excluded.stall_timeout_seconds, is_present = true
            """,
            (
                capability_id(name, capability.kind, capability.key),
                plugin_id(name),
                capability.kind,
                capability.key,
                capability.display_name,
                Jsonb(capability.config_schema),
                capability.shape,
                list(capability.scopes),
                capability.is_inline,
                capability.stall_timeout_seconds,
            ),
        )


async def names_with_providers(connection: Connection) -> set[str]:
    """The plugins whose checked version brings providers."""
    cursor = await connection.execute(
        "SELECT DISTINCT p.name FROM providers v JOIN plugins p ON p.id = v.plugin_id WHERE v.is_present"
    )
    return {row["name"] for row in await cursor.fetchall()}


async def save_providers(connection: Connection, name: str, providers: Sequence[CatalogProvider]) -> None:
    """Record the providers of the checked version; what it no longer brings stays, marked as absent."""
    await connection.execute("UPDATE providers SET is_present = false WHERE plugin_id = %s", (plugin_id(name),))
    for provider in providers:
        await connection.execute(
            """
            INSERT INTO providers (plugin_id, kind, id, display_name, config_schema, defaults)
            VALUES (%s, %s, %s, %s, %s, %s)
            ON CONFLICT (plugin_id, id) DO UPDATE
            SET kind = excluded.kind, display_name = excluded.display_name, config_schema = excluded.config_schema,
                defaults = excluded.defaults, is_present = true
            """,
            (
                plugin_id(name),
                provider.kind,
                provider.id,
                provider.display_name,
                Jsonb(provider.config_schema),
                Jsonb(provider.defaults),
            ),
        )
