"""Rows of an event's way: opening it, confirming its start, closing it. Decisions stand in `latchflow.plan`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from pydantic import TypeAdapter, ValidationError

from latchflow.model import EventStatus, InvocationStatus, Manifest, Outcome, PlannedRun, RunStatus
from latchflow.store.database import Connection
from latchflow.store.visibility import Limits, visible, visible_to, wholly_visible

log = structlog.get_logger(__name__)

MANIFEST = TypeAdapter(Manifest)
"""Reads and writes the column ``events.manifest``."""


async def confirm_start(connection: Connection, event_id: UUID) -> None:
    """Temporal has the workflow: from now on the closer looks after the event."""
    await connection.execute(
        """
        WITH confirmed AS (
            UPDATE events SET start_confirmed_at = now(), next_check_at = now() + interval '1 minute',
                              status = CASE WHEN status = 'PENDING' THEN 'RUNNING' ELSE status END
            WHERE id = %s AND start_confirmed_at IS NULL
            RETURNING id
        )
        UPDATE runs SET status = 'RUNNING' FROM confirmed
        WHERE runs.event_id = confirmed.id AND runs.status = 'PENDING'
        """,
        (event_id,),
    )


async def unstarted(
    connection: Connection, *, older_than_seconds: float, limit: int, leaving_out: Collection[UUID] = ()
) -> list[Manifest]:
    """Events whose start nobody confirmed, the oldest first; none while everything is paused.

    Those that wait for their turn, or are to be cancelled, are not among them, and not walked over either.
    """
    rows = await (
        await connection.execute(
            """
            SELECT id, manifest FROM events
            WHERE start_confirmed_at IS NULL AND closed_at IS NULL AND NOT is_waiting AND cancel_wanted_at IS NULL
              AND coalesce(released_at, fired_at) < now() - make_interval(secs => %s)
              AND id <> ALL (%s::uuid[]) AND NOT (SELECT is_paused FROM deployment)
            ORDER BY coalesce(released_at, fired_at) LIMIT %s
            """,
            (older_than_seconds, list(leaving_out), limit),
        )
    ).fetchall()
    return [manifest for row in rows if (manifest := readable_manifest(row)) is not None]


def readable_manifest(row: Mapping[str, Any]) -> Manifest | None:
    """The manifest of a row.

    Returns:
        None when it cannot be read: that must not keep the others from starting. Health counts it as unstarted.
    """
    try:
        return MANIFEST.validate_python(row["manifest"])
    except ValidationError:
        log.exception("a manifest cannot be read", event_id=str(row["id"]))
        return None


async def lock_open(connection: Connection, event_id: UUID) -> Manifest | None:
    """The manifest of an event that is still open, its row locked; None when it is closed or unknown."""
    row = await (
        await connection.execute(
            "SELECT manifest FROM events WHERE id = %s AND closed_at IS NULL FOR UPDATE", (event_id,)
        )
    ).fetchone()
    return MANIFEST.validate_python(row["manifest"]) if row else None


async def lock_run(connection: Connection, event_id: UUID, run_id: UUID) -> PlannedRun | None:
    """A run of an event, while both are open, their rows locked; None when either is closed or unknown."""
    manifest = await lock_open(connection, event_id)
    row = await (
        await connection.execute("SELECT FROM runs WHERE id = %s AND closed_at IS NULL FOR UPDATE", (run_id,))
    ).fetchone()
    if manifest is None or row is None:
        return None
    return next((run for run in manifest.runs if run.run_id == run_id), None)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the invocations of some runs have come to.

    Attributes:
        endings: Those of steps that ended.
        open_items: Invocations of items that did not, by run.
    """

    endings: Mapping[UUID, Outcome]
    open_items: Mapping[UUID, Sequence[UUID]]


async def recorded(connection: Connection, run_ids: Sequence[UUID]) -> Recorded:
    """The invocations of runs, all of them locked."""
    rows = await (
        await connection.execute(
            """
            SELECT id, run_id, status, item_index, is_partial, ended_at FROM invocations WHERE run_id = ANY(%s)
            ORDER BY id FOR UPDATE
            """,
            (list(run_ids),),
        )
    ).fetchall()
    endings = {}
    open_items: dict[UUID, list[UUID]] = {}
    for row in rows:
        if row["item_index"] is None and row["ended_at"] is not None:
            status = InvocationStatus(row["status"])
            endings[row["id"]] = Outcome(invocation_id=row["id"], status=status, is_partial=row["is_partial"])
        elif row["item_index"] is not None and row["ended_at"] is None:
            open_items.setdefault(row["run_id"], []).append(row["id"])
    return Recorded(endings=endings, open_items=open_items)


async def close_runs(connection: Connection, runs: Sequence[tuple[UUID, RunStatus]]) -> None:
    """Write the statuses of runs; one that is closed keeps its own."""
    await connection.execute(
        """
        UPDATE runs SET status = new.status, closed_at = now()
        FROM unnest(%s::uuid[], %s::text[]) AS new (id, status) WHERE runs.id = new.id AND runs.closed_at IS NULL
        """,
        ([run_id for run_id, _ in runs], [run_status for _, run_status in runs]),
    )


async def close(
    connection: Connection, event_id: UUID, *, status: EventStatus, closed_by: str, reason: str | None
) -> None:
    """Write the status of an event."""
    await connection.execute(
        """
        UPDATE events SET status = %s, closed_at = now(), closed_by = %s, closed_reason = %s, is_stuck = false,
                          next_check_at = NULL
        WHERE id = %s
        """,
        (status, closed_by, reason, event_id),
    )


async def status_of(
    connection: Connection, event_id: UUID, *, limits: Limits | None = None
) -> tuple[EventStatus, bool] | None:
    """The status of an event, and whether the caller may see all of it.

    Returns:
        None when there is none with this id that the caller may see.
    """
    cursor = await connection.execute(
        f"""
        SELECT status, {wholly_visible("events")} AS is_whole FROM events
        WHERE id = %(id)s AND {visible("events")}
        """,
        {"id": event_id, **visible_to(limits)},
    )
    row = await cursor.fetchone()
    return (EventStatus(row["status"]), row["is_whole"]) if row else None


async def count_unstarted(connection: Connection) -> int:
    """Open events that nobody keeps from starting, and whose start nobody confirmed within five seconds.

    Returns:
        Counted up to ten thousand.
    """
    row = await (
        await connection.execute(
            """
            SELECT count(*) AS number FROM (
                SELECT FROM events
                WHERE start_confirmed_at IS NULL AND closed_at IS NULL AND NOT is_waiting AND cancel_wanted_at IS NULL
                  AND coalesce(released_at, fired_at) < now() - interval '5 seconds' LIMIT 10000) AS late
            """
        )
    ).fetchone()
    return int(row["number"]) if row else 0
