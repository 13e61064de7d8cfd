"""The processes of the deployment and what each has loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from latchflow.masking import readable_json
from latchflow.names import plugin_id
from latchflow.store.database import Connection

ALIVE_SECONDS = 15
"""A process that was not seen for this long is not counted as alive; each says so every five."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process as it reported itself."""

    id: UUID
    role: str
    identity: str
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime
    stats: Mapping[str, Any]


async def report(
    connection: Connection,
    *,
    process_id: UUID,
    role: str,
    host: str,
    pid: int,
    version: str,
    stats: Mapping[str, Any] | None = None,
) -> bool:
    """Say that this process lives, and how.

    Returns:
        Whether it was not listed yet, or not any more: then nothing of what it runs is listed either.
    """
    cursor = await connection.execute(
        """
        INSERT INTO processes (id, role, identity, host, pid, version, stats) VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (id) DO UPDATE SET seen_at = now(), stats = excluded.stats
        RETURNING xmax = 0 AS is_new
        """,
        (process_id, role, f"{pid}@{host}", host, pid, version, Jsonb(dict(stats or {}))),
    )
    row = await cursor.fetchone()
    return row is not None and bool(row["is_new"])


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What a process says of one plugin.

    Attributes:
        state: ``loaded``, or ``failed``: it should run this version and cannot.
        stats: Numbers per capability.
    """

    name: str
    version: str
    code_hash: str
    state: str = "loaded"
    error: str | None = None
    stats: Mapping[str, Any] = field(default_factory=dict)


async def report_plugins(connection: Connection, *, process_id: UUID, instances: Iterable[Instance]) -> None:
    """Say which plugins this process runs, and which it cannot, in one statement."""
    rows = [
        {
            "plugin_id": str(plugin_id(instance.name)),
            "version": instance.version,
            "code_hash": instance.code_hash,
            "state": instance.state,
            "error": instance.error,
            "stats": instance.stats,
        }
        for instance in instances
    ]
    await connection.execute(
        """
        WITH reported AS (
            SELECT r.* FROM jsonb_to_recordset(%(rows)s) AS r(
                plugin_id uuid, version text, code_hash text, state text, error text, stats jsonb)
            JOIN plugins ON plugins.id = r.plugin_id
        ), gone AS (
            DELETE FROM plugin_instances
            WHERE process_id = %(process)s AND plugin_id NOT IN (SELECT plugin_id FROM reported)
        )
        INSERT INTO plugin_instances AS known (process_id, plugin_id, version, code_hash, state, error, stats)
        SELECT %(process)s, plugin_id, version, code_hash, state, error, stats FROM reported
        ON CONFLICT (process_id, plugin_id) DO UPDATE
        SET version = excluded.version, code_hash = excluded.code_hash, state = excluded.state, error = excluded.error,
            stats = excluded.stats,
            since = CASE WHEN (known.code_hash, known.state) = (excluded.code_hash, excluded.state)
                         THEN known.since ELSE now() END
        """,
        {"rows": Jsonb(readable_json(rows)), "process": process_id},
    )


async def forget(connection: Connection, process_id: UUID) -> None:
    """The process stops cleanly."""
    await connection.execute("DELETE FROM processes WHERE id = %s", (process_id,))


async def alive(connection: Connection, *, within: timedelta = timedelta(seconds=ALIVE_SECONDS)) -> list[Process]:
    """The processes that reported lately."""
    rows = await (
        await connection.execute(
            """
            SELECT id, role, identity, host, pid, version, started_at, seen_at, stats FROM processes
            WHERE seen_at > now() - %s ORDER BY role, started_at LIMIT 1000
            """,
            (within,),
        )
    ).fetchall()
    return [Process(**row) for row in rows]
