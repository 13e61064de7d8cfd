"""The processes of the deployment and what each has loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

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


async def report_plugins(connection: Connection, *, process_id: UUID, plugins: Iterable[tuple[str, str, str]]) -> None:
    """Say which plugins this process runs: name, version, code hash."""
    await connection.execute("DELETE FROM plugin_instances WHERE process_id = %s", (process_id,))
    for name, version, code_hash in plugins:
        await connection.execute(
            "INSERT INTO plugin_instances (process_id, plugin_id, version, code_hash) VALUES (%s, %s, %s, %s)",
            (process_id, plugin_id(name), version, code_hash),
        )


async def forget(connection: Connection, process_id: UUID) -> None:
    """The process stops cleanly."""
    await connection.execute("DELETE FROM processes WHERE id = %s", (process_id,))


async def alive(connection: Connection) -> list[Process]:
    """The processes that reported lately."""
    rows = await (
        await connection.execute(
            """
            SELECT id, role, identity, host, pid, version, started_at, seen_at, stats FROM processes
            WHERE seen_at > now() - make_interval(secs => %s) ORDER BY role, started_at LIMIT 1000
            """,
            (ALIVE_SECONDS,),
        )
    ).fetchall()
    return [Process(**row) for row in rows]
