"""What is known of each plugin: found, checked, enabled; and what its checked version brings.

The rows are the desired state: every process makes what it runs follow them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from latchflow.masking import readable
from latchflow.names import capability_id, plugin_id
from latchflow.store.database import Connection
from latchflow.store.processes import ALIVE_SECONDS

_LOCK_ID = 0x1A7C4F12  # one process registers at a time
_CHANNEL = "latchflow_plugins"
Status = Literal["DISCOVERED", "ENABLED", "DISABLED", "FAILED"]


@dataclass(frozen=True, kw_only=True)
class CatalogPlugin:
    """A plugin as it is recorded.

    Attributes:
        error: Why it is FAILED; of an enabled one, why the folder's newer code does not run instead.
        is_wanted: An admin enabled it, or it is trusted for where it comes from.
        code_hash: Of the code that shall run.
    """

    name: str
    display_name: str
    version: str
    status: Status
    error: str | None
    scopes: Sequence[str]
    granted_scopes: Sequence[str]
    code_hash: str
    is_wanted: bool


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
    """Hold the catalog for the rest of the transaction: processes change it one by one."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_ID,))


_SELECT = """
    SELECT name, display_name, version, status, error, scopes, granted_scopes, code_hash, is_wanted FROM plugins
"""


async def load(connection: Connection) -> dict[str, CatalogPlugin]:
    """Every recorded plugin, by name."""
    rows = await (await connection.execute(f"{_SELECT} ORDER BY name")).fetchall()
    return {row["name"]: CatalogPlugin(**row) for row in rows}


async def get(connection: Connection, name: str) -> CatalogPlugin | None:
    """One recorded plugin."""
    row = await (await connection.execute(f"{_SELECT} WHERE name = %s", (name,))).fetchone()
    return CatalogPlugin(**row) if row else None


async def save(connection: Connection, plugin: CatalogPlugin) -> None:
    """Record a plugin; the connection is inside a transaction. Processes hear of it when that is committed."""
    saved = await connection.execute(
        """
        INSERT INTO plugins AS known (id, name, display_name, version, status, error, scopes, granted_scopes, code_hash,
                                      is_wanted)
        VALUES (%(id)s, %(name)s, %(display_name)s, %(version)s, %(status)s, %(error)s, %(scopes)s, %(granted)s,
                %(hash)s, %(wanted)s)
        ON CONFLICT (id) DO UPDATE
        SET display_name = excluded.display_name, version = excluded.version, status = excluded.status,
            error = excluded.error, scopes = excluded.scopes, granted_scopes = excluded.granted_scopes,
            code_hash = excluded.code_hash, is_wanted = excluded.is_wanted, updated_at = now()
        WHERE (known.display_name, known.version, known.status, known.error, known.scopes, known.granted_scopes,
               known.code_hash, known.is_wanted)
            IS DISTINCT FROM (excluded.display_name, excluded.version, excluded.status, excluded.error, excluded.scopes,
                              excluded.granted_scopes, excluded.code_hash, excluded.is_wanted)
        """,
        {
            "id": plugin_id(plugin.name),
            "name": plugin.name,
            "display_name": plugin.display_name,
            "version": plugin.version,
            "status": plugin.status,
            "error": readable(plugin.error) if plugin.error is not None else None,
            "scopes": list(plugin.scopes),
            "granted": list(plugin.granted_scopes),
            "hash": plugin.code_hash,
            "wanted": plugin.is_wanted,
        },
    )
    if saved.rowcount:
        await _tell(connection)


async def fail_missing(connection: Connection, names: Iterable[str], *, even_if_running: bool = False) -> None:
    """Mark enabled plugins that this process does not find, unless a process that lives has one loaded.

    Args:
        connection: Inside a transaction.
        names: Those it does not find.
        even_if_running: On one machine there is no other folder that it could still be running from.
    """
    failed = await connection.execute(
        """
        UPDATE plugins
        SET status = 'FAILED', updated_at = now(), code_hash = '',
            error = 'No process finds it any more. Put its folder back, or name it in PLUGINS_PATH, and restart.'
        WHERE name = ANY(%s) AND status = 'ENABLED' AND (%s OR NOT EXISTS (
            SELECT FROM plugin_instances i JOIN processes p ON p.id = i.process_id
            WHERE i.plugin_id = plugins.id AND i.state = 'loaded'
              AND p.seen_at > now() - make_interval(secs => %s)))
        """,
        (list(names), even_if_running, ALIVE_SECONDS),
    )
    if failed.rowcount:
        await _tell(connection)


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


async def brought(connection: Connection, name: str, code_hash: str) -> set[str] | None:
    """The capabilities of the checked version, as ``KIND/key``; None when another version is recorded by now."""
    cursor = await connection.execute(
        """
        SELECT c.kind, c.key FROM plugins p LEFT JOIN capabilities c ON c.plugin_id = p.id AND c.is_present
        WHERE p.name = %s AND p.code_hash = %s
        """,
        (name, code_hash),
    )
    rows = await cursor.fetchall()
    return {f"{row['kind']}/{row['key']}" for row in rows if row["key"] is not None} if rows else None


async def names_with_providers(connection: Connection) -> set[str]:
    """The plugins whose checked version brings providers."""
    cursor = await connection.execute(
        "SELECT DISTINCT p.name FROM providers v JOIN plugins p ON p.id = v.plugin_id WHERE v.is_present"
    )
    return {row["name"] for row in await cursor.fetchall()}


async def variable_of_another(connection: Connection, name: str, variables: Iterable[str]) -> tuple[str, str] | None:
    """One of these variables that a provider of another plugin reads, and that plugin; None when there is none.

    One that an admin disabled reads nothing, and may never come back: when it is enabled, it is told that it is late.
    """
    cursor = await connection.execute(
        """
        SELECT variable, p.name FROM providers v JOIN plugins p ON p.id = v.plugin_id,
            jsonb_each_text(v.defaults) AS d (property, variable)
        WHERE v.is_present AND p.status = 'ENABLED' AND p.name <> %s AND variable = ANY(%s)
        ORDER BY variable, p.name LIMIT 1
        """,
        (name, list(variables)),
    )
    row = await cursor.fetchone()
    return (row["variable"], row["name"]) if row else None


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


async def changes(url: str, *, every_seconds: float) -> AsyncIterator[None]:
    """A tick at once, whenever somebody says that the catalog changed, and every so many seconds.

    What is said is a hint only: a connection that breaks, or a pooler that drops notifications, loses nothing but time.
    """
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5) as connection:
                await connection.execute(f"LISTEN {_CHANNEL}")
                while True:
                    yield
                    async for _ in connection.notifies(timeout=every_seconds, stop_after=1):
                        pass
        except psycopg.OperationalError:
            yield
            await asyncio.sleep(every_seconds)


async def _tell(connection: Connection) -> None:
    await connection.execute("SELECT pg_notify(%s, '')", (_CHANNEL,))
