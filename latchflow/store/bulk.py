"""Bulk operations: one row each, with a cursor over the events that it takes one after the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from latchflow.store.database import Connection
from latchflow.store.visibility import Limits, visible, visible_to, wholly_visible

Operation = Literal["cancel", "rerun"]

_FIELDS = """
    id, operation, filter, options, limits, status, rate_per_second, total, done, failed, last_error, started_by,
    caller, created_at, finished_at
"""

# An operation is about the events there were when it was asked for: its own new ones are none of them. Which events
# were closed then never changes; of those that were open, some may end before their turn, and are left out.
_MATCHES = f"""
    e.fired_at <= %(at)s
    AND CASE WHEN %(operation)s = 'cancel' THEN e.closed_at IS NULL ELSE e.closed_at <= %(at)s END
    AND (%(triggerId)s::uuid IS NULL OR e.trigger_id = %(triggerId)s::uuid)
    AND (%(status)s::text IS NULL OR e.status = %(status)s)
    AND (%(firedAfter)s::timestamptz IS NULL OR e.fired_at >= %(firedAfter)s::timestamptz)
    AND (%(firedBefore)s::timestamptz IS NULL OR e.fired_at < %(firedBefore)s::timestamptz)
    AND (%(pipelineId)s::uuid IS NULL
         OR EXISTS (SELECT FROM runs r WHERE r.event_id = e.id AND r.pipeline_id = %(pipelineId)s::uuid))
    AND {visible("e")} AND {wholly_visible("e")}
"""
_NOTHING = {"triggerId": None, "pipelineId": None, "status": None, "firedAfter": None, "firedBefore": None}


@dataclass(frozen=True, kw_only=True)
class Bulk:
    """An operation on many events.

    Attributes:
        filter: As the API takes it.
        options: Of a re-run, as the API takes them.
        status: ``PENDING`` until Temporal has its workflow, ``RUNNING``, then ``SUCCEEDED``, ``PARTIAL_FAILURE`` or
            ``FAILED``.
        done: Events that were cancelled or re-run.
        failed: Those that could not be.
        caller: The ids of who started it, for the audit.
    """

    id: UUID
    operation: Operation
    filter: Mapping[str, Any]
    options: Mapping[str, Any]
    limits: Mapping[str, Any] | None
    status: str
    rate_per_second: float
    total: int
    done: int
    failed: int
    last_error: str | None
    started_by: str
    caller: Mapping[str, str]
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What there is to do for an operation now.

    Attributes:
        event_id: The event that is taken, under the operation's lock.
        wait: How long to wait before the next, as the rate says.
    """

    bulk: Bulk
    event_id: UUID | None = None
    wait: timedelta = timedelta(0)


async def create(
    connection: Connection,
    *,
    operation: Operation,
    wanted: Mapping[str, Any],
    options: Mapping[str, Any],
    limits: Limits | None,
    rate_per_second: float,
    actor: str,
    caller: Mapping[str, str],
) -> Bulk:
    """Keep an operation with the number of events that match now; one that matches none is finished."""
    kept_limits = None
    if limits is not None:
        kept_limits = {
            "triggerIds": [str(one) for one in limits.trigger_ids],
            "pipelineIds": [str(one) for one in limits.pipeline_ids],
        }
    cursor = await connection.execute(
        f"""
        WITH matching AS (SELECT count(*) AS total FROM events e
                          WHERE {_MATCHES.replace("%(at)s", "now()")})
        INSERT INTO bulk_operations (id, operation, filter, options, limits, status, rate_per_second, total, started_by,
                                     caller, finished_at)
        SELECT uuidv7(), %(operation)s, %(filter)s, %(options)s, %(limits)s,
               CASE WHEN total = 0 THEN 'SUCCEEDED' ELSE 'PENDING' END, %(rate)s, total, %(actor)s, %(caller)s,
               CASE WHEN total = 0 THEN now() END
        FROM matching RETURNING {_FIELDS}
        """,
        {
            **_NOTHING,
            **wanted,
            **visible_to(limits),
            "operation": operation,
            "filter": Jsonb(dict(wanted)),
            "options": Jsonb(dict(options)),
            "limits": Jsonb(kept_limits) if kept_limits is not None else None,
            "rate": rate_per_second,
            "actor": actor,
            "caller": Jsonb(dict(caller)),
        },
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate always answers
    return Bulk(**row)


async def get(connection: Connection, bulk_id: UUID) -> Bulk | None:
    """One operation."""
    cursor = await connection.execute(f"SELECT {_FIELDS} FROM bulk_operations WHERE id = %s", (bulk_id,))
    row = await cursor.fetchone()
    return Bulk(**row) if row else None


async def take_turn(connection: Connection, bulk_id: UUID) -> Turn | None:
    """Take the next event of an operation, inside the transaction that handles it: never twice, whoever else tries.

    Returns:
        None when the operation is over, or nothing is left of it.
    """
    row = await (
        await connection.execute(
            f"""
            SELECT {_FIELDS}, cursor_fired_at, cursor_id, next_at - clock_timestamp() AS wait FROM bulk_operations
            WHERE id = %s AND finished_at IS NULL FOR UPDATE
            """,
            (bulk_id,),
        )
    ).fetchone()
    if row is None:
        return None
    at, last_id, wait = row.pop("cursor_fired_at"), row.pop("cursor_id"), row.pop("wait")
    bulk = Bulk(**row)
    if wait > timedelta(0):
        return Turn(bulk=bulk, wait=wait)
    found = await (
        await connection.execute(
            f"""
            WITH next AS (
                SELECT e.id, e.fired_at FROM events e
                WHERE {_MATCHES}
                  AND (%(cursor_at)s::timestamptz IS NULL OR (e.fired_at, e.id) > (%(cursor_at)s, %(cursor_id)s))
                ORDER BY e.fired_at, e.id LIMIT 1
            )
            UPDATE bulk_operations
            SET cursor_fired_at = next.fired_at, cursor_id = next.id,
                next_at = clock_timestamp() + make_interval(secs => 1 / rate_per_second)
            FROM next WHERE bulk_operations.id = %(id)s
            RETURNING next.id
            """,
            {
                **_NOTHING,
                **bulk.filter,
                **visible_to(limits_of(bulk)),
                "at": bulk.created_at,
                "operation": bulk.operation,
                "cursor_at": at,
                "cursor_id": last_id,
                "id": bulk_id,
            },
        )
    ).fetchone()
    return Turn(bulk=bulk, event_id=found["id"]) if found else None


async def count(connection: Connection, bulk_id: UUID, *, error: str | None) -> None:
    """Count the event that was taken, in the same transaction."""
    await connection.execute(
        """
        UPDATE bulk_operations
        SET done = done + %(done)s, failed = failed + %(failed)s, last_error = coalesce(%(error)s, last_error)
        WHERE id = %(id)s
        """,
        {"id": bulk_id, "done": int(error is None), "failed": int(error is not None), "error": error},
    )


async def finish(connection: Connection, bulk_id: UUID, *, fault: str | None = None) -> Bulk | None:
    """End an operation: nothing is left of it, or a fault has ended it.

    Returns:
        None when it was over already.
    """
    cursor = await connection.execute(
        f"""
        UPDATE bulk_operations
        SET status = CASE WHEN %(fault)s::text IS NOT NULL OR (failed > 0 AND done = 0) THEN 'FAILED'
                          WHEN failed > 0 THEN 'PARTIAL_FAILURE' ELSE 'SUCCEEDED' END,
            total = CASE WHEN %(fault)s::text IS NULL THEN done + failed ELSE total END,
            last_error = coalesce(%(fault)s, last_error), finished_at = now()
        WHERE id = %(id)s AND finished_at IS NULL RETURNING {_FIELDS}
        """,
        {"id": bulk_id, "fault": fault},
    )
    row = await cursor.fetchone()
    return Bulk(**row) if row else None


async def confirm_start(connection: Connection, bulk_id: UUID) -> None:
    """Temporal has its workflow."""
    await connection.execute(
        """
        UPDATE bulk_operations SET start_confirmed_at = now(), status = CASE WHEN status = 'PENDING' THEN 'RUNNING'
                                                                             ELSE status END
        WHERE id = %s AND start_confirmed_at IS NULL
        """,
        (bulk_id,),
    )


async def unfinished(connection: Connection, *, is_started: bool, limit: int = 100) -> list[UUID]:
    """Operations that are not over: those that Temporal has a workflow of, or those that it was not told of yet."""
    cursor = await connection.execute(
        """
        SELECT id FROM bulk_operations
        WHERE finished_at IS NULL AND (start_confirmed_at IS NOT NULL) = %s ORDER BY created_at LIMIT %s
        """,
        (is_started, limit),
    )
    return [row["id"] for row in await cursor.fetchall()]


def limits_of(bulk: Bulk) -> Limits | None:
    """The limits of who began an operation, as they were then."""
    if bulk.limits is None:
        return None
    return Limits(
        trigger_ids=[UUID(one) for one in bulk.limits["triggerIds"]],
        pipeline_ids=[UUID(one) for one in bulk.limits["pipelineIds"]],
    )
